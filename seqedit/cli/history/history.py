"""Verbs on a ledger that need no model: log, show, revert, verify."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.options import AuthorOption, DryRunOption, JsonOption, LedgerOption, OwnMessageOption, RevisionArgument
from seqedit.cli.output import number, open_ledger
from seqedit.cli.terminal import print_json, say
from seqedit.cli.trust import AtLeastOption, SignersOption, trusted_signers


@app.command()
def log(
    rev: RevisionArgument = "HEAD",
    ledger: LedgerOption = None,
    limit: Annotated[int | None, typer.Option("-n", "--limit", help="Only the newest entries.")] = None,
    json_: JsonOption = False,
) -> None:
    """List the entries of a history, newest first.

    Example: seqedit log --ledger out/demo/ledger -n 5
    """
    with open_ledger(ledger) as opened:
        # Scores are most of what there is to read, so only those that are shown are.
        wanted = {"kinds": ("counterfact", "tasks")} if json_ else {"kinds": ("counterfact",), "keys": _AVERAGES}
        rows = opened.log_rows(rev, limit=limit, **wanted)
    for row in rows:
        row["scores"] = _compact(row["scores"])
    if json_:
        print_json(rows)
        return
    for row in rows:
        scores = row["scores"]
        shown = " ".join(f"{name} {scores[name]:.1f}" for name in _AVERAGES if scores.get(name) is not None)
        state = "active" if row["active"] else "      "
        say(f"{row['id'][:12]} {row['time']} {row['operation']:<6} {state}  {row['message']}  {shown}".rstrip())


_AVERAGES = ("ES", "PS", "NS")


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
            "time": entry.time,
            "scores": scores,
        }
    if json_:
        print_json(data)
        return
    for name in ("id", "operation", "time", "message"):
        say(f"{'entry' if name == 'id' else name} {data[name]}")
    if entry.adapter:
        say(f"adapter {entry.adapter}")
        say(f"active {'yes' if data['active'] else 'no'}")
    for target in entry.targets:
        say(f"target {target}")
    if entry.method:
        say("method " + ", ".join(f"{k}={v}" for k, v in sorted(entry.method.items())))
    for position, request in enumerate(entry.requests):
        note = "" if position in live or not data["active"] else "  (superseded)"
        say(f"  {request.text} -> {request.target_new}{note}")
    for name, value in scores.get("counterfact", {}).items():
        if isinstance(value, int | float):
            say(f"{name:>4} {number(value, 2, 8)}")
    for name, task in scores.get("tasks", {}).items():
        say(f"{name} " + ", ".join(f"{k} {v:.4f}" for k, v in task.items() if isinstance(v, int | float)))


@app.command()
def revert(
    entry: Annotated[str, typer.Argument(help="The entry to take out of force.")],
    ledger: LedgerOption = None,
    message: OwnMessageOption = None,
    author: AuthorOption = "",
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Take an entry out of force: the state is as if it had never been applied.

    Example: seqedit revert HEAD
    """
    with open_ledger(ledger) as opened:
        target = opened.entry(entry)
        if dry_run:
            opened.check_revert(entry)
            say(f"would revert {target.id[:12]}: {len(target.requests)} facts", err=True)
            for request in target.requests:
                say(f"  {request.text} -> {request.target_new}")
            return
        made = opened.revert(entry, message=message, author=author)
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
