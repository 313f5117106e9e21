"""Verbs on a ledger that need no model: log, show, revert, verify."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.defaults import with_defaults
from seqedit.cli.history.telling import AVERAGES, change_row, print_log
from seqedit.cli.options import (
    AuthorOption,
    DryRunOption,
    JsonOption,
    LedgerOption,
    OwnMessageOption,
    ReasonOption,
    RevisionArgument,
)
from seqedit.cli.output import number, open_ledger, table_lines
from seqedit.cli.planned import fact_lines, tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.cli.trust import AtLeastOption, SignersOption, trusted_signers
from seqedit.support.printable import plain
from seqedit.text.framing import framing_line, told_framing


@app.command()
def log(
    rev: RevisionArgument = "HEAD",
    ledger: LedgerOption = None,
    limit: Annotated[int | None, typer.Option("-n", "--limit", help="Only the newest entries.")] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Draw what follows what, merged branches too.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="All that branches and tags lead to.")] = False,
    patch: Annotated[bool, typer.Option("-p", "--patch", help="The facts that every entry changed.")] = False,
    json_: JsonOption = False,
) -> None:
    """List the entries of a history, newest first, with branches, tags, facts and methods.

    Example: seqedit log --graph --all -n 20
    """
    with open_ledger(ledger) as opened:
        # Scores are most of what there is to read, so only those that are shown are.
        wanted = {"kinds": ("counterfact", "tasks")} if json_ else {"kinds": ("counterfact",), "keys": AVERAGES}
        rows = opened.log_told(rev, everything=all_, merged=graph, limit=limit, **wanted)
        changes = opened.patches([row["id"] for row in rows]) if patch else {}
    for row in rows:
        row["scores"] = _compact(row["scores"])
        if patch:
            row["changes"] = [change_row(change) for change in changes[row["id"]]]
    if json_:
        print_json(rows)
        return
    print_log(rows, graph=graph)


def _compact(scores: dict[str, Any]) -> dict[str, Any]:
    """The averages and tasks of an entry's scores, without per-prompt and per-document values."""
    return {**scores.get("counterfact", {}), **({"tasks": scores["tasks"]} if scores.get("tasks") else {})}


@app.command()
def show(
    rev: RevisionArgument = "HEAD",
    ledger: LedgerOption = None,
    json_: JsonOption = False,
) -> None:
    """Show one entry: its facts, settings, adapter and scores.

    Example: seqedit show HEAD~1 --json
    """
    with open_ledger(ledger) as opened:
        entry = opened.entry(rev)
        active = set(opened.active_ids(rev))
        live = opened.live_requests(rev).get(entry.id, ())
        scores = opened.scores(entry.id)
        data = {
            "id": entry.id,
            "parents": list(entry.parents),
            "operation": entry.operation,
            "adapter": entry.adapter,
            "targets": list(entry.targets),
            "base_model": {"name": entry.base_model.name, "fingerprint": entry.base_model.fingerprint},
            "method": dict(entry.method),
            "requests": [
                {**request.to_dict(), "live": position in live} for position, request in enumerate(entry.requests)
            ],
            "active": entry.id in active,
            "author": entry.author,
            "message": entry.message,
            "reason": entry.reason,
            "origin": entry.origin,
            "rewrite": dict(entry.rewrite),
            "time": entry.time,
            "scores": scores,
            **told_framing(entry.requests),
        }
    if json_:
        print_json(data)
        return
    for line in _shown(data):
        say(line)


def _ended(rewrite: Mapping[str, Any]) -> str | None:
    if not rewrite:
        return None
    dropped = f"{len(rewrite['dropped'])} entries dropped"
    return f"a {rewrite['operation']} of {rewrite['head'][:12]}, {dropped}: {rewrite['reason'] or rewrite['message']}"


def _shown(data: Mapping[str, Any]) -> list[str]:
    """An entry as tables: what it is, its settings, its facts, its scores."""
    about = [
        ("entry", data["id"]), ("operation", data["operation"]), ("time", data["time"]),
        ("message", data["message"]), ("author", data["author"]), ("reason", data["reason"]),
        ("origin", data["origin"]), ("ends", _ended(data["rewrite"])), ("adapter", data["adapter"]),
        ("active", plain(data["active"]) if data["adapter"] else None), ("method", data["method"].get("name")),
        *(("target", target) for target in data["targets"]),
    ]  # fmt: skip
    about.append(("facts", framing_line(data)))
    lines = table_lines(("", ""), [(name, value) for name, value in about if value])
    settings = [(name, plain(value)) for name, value in sorted(data["method"].items()) if name != "name"]
    if settings:
        lines += ["", *table_lines(("setting", "value"), settings)]
    if data["requests"]:
        facts = [
            (fact["prompt"].replace("{}", fact["subject"]), fact["target_new"],
             "yes" if fact["live"] else "superseded" if data["active"] else "no")
            for fact in data["requests"]
        ]  # fmt: skip
        lines += ["", *table_lines(("fact", "new answer", "in force"), facts)]
    if data["scores"].get("learnt"):
        from seqedit.scoring.learnt import learnt_line

        lines += ["", learnt_line(data["scores"]["learnt"])]
    new = data["scores"].get("counterfact", {})
    earlier = new.get("earlier") or {}
    rows = [
        (name, number(value, 2, 8), number(earlier.get(name), 2, 8))
        for name, value in new.items()
        if isinstance(value, int | float)
    ]
    if rows:
        lines += ["", *table_lines(("score", " its own", " earlier"), rows)]
    tasks = [
        (task, name, number(value, 4, 9))
        for task, values in data["scores"].get("tasks", {}).items()
        for name, value in values.items()
        if isinstance(value, int | float)
    ]
    if tasks:
        lines += ["", *table_lines(("task", "metric", "    value"), tasks)]
    return lines


@app.command(cls=with_defaults("author"))
def revert(
    entry: Annotated[str, typer.Argument(help="The entry to take out of force.")],
    ledger: LedgerOption = None,
    message: OwnMessageOption = None,
    reason: ReasonOption = "",
    author: AuthorOption = "",
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Take an entry out of force: the state is as if it had never been applied.

    Example: seqedit revert HEAD --reason "its source was wrong"
    """
    with open_ledger(ledger) as opened:
        target = opened.entry(entry)
        if dry_run:
            opened.check_revert(entry)
            plan = {
                "operation": "revert", "branch": opened.branch(), "reverts": target.id,
                "facts": [request.to_dict() for request in target.requests],
            }  # fmt: skip
            said = f"would revert {target.id[:12]}: {len(target.requests)} facts"
            tell_planned(plan, [said, *fact_lines(target.requests)], json_)
            return
        made = opened.revert(entry, message=message, author=author, reason=reason)
    if json_:
        print_json({"id": made.id, "reverts": target.id})
    else:
        say(f"{made.id[:12]} {made.message}")


@app.command()
def verify(
    ledger: LedgerOption = None,
    shallow: Annotated[bool, typer.Option("--shallow", help="Presence and sizes only, without reading data.")] = False,
    signers: SignersOption = None,
    at_least: AtLeastOption = None,
    json_: JsonOption = False,
) -> None:
    """Check every entry and every byte of every object; exit code 1 if something is damaged.

    Example: seqedit verify --ledger out/demo/ledger
    """
    trusted = trusted_signers(signers)
    with open_ledger(ledger) as opened:
        problems = opened.verify(deep=not shallow, signers=trusted, at_least=at_least)
        entries, objects = len(opened.log()), len(list(opened.store.objects()))
    damage = [problem for problem in problems if problem.damage]
    if json_:
        print_json(
            {
                "ok": not damage,
                "problems": [
                    {"code": str(p.code), "path": p.path, "detail": p.detail, "damage": p.damage} for p in problems
                ],
            }
        )
    else:
        for problem in problems:
            say(f"{'damage' if problem.damage else 'notice'}: {problem.code}: {problem.path}: {problem.detail}")
        say(f"{entries} entries, {objects} objects, {len(damage)} damaged", err=bool(damage))
    if damage:
        raise typer.Exit(1)
