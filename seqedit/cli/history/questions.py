"""Verbs that ask about facts: diff of two states, blame of a subject, bisection of a metric."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_revisions
from seqedit.cli.defaults import with_defaults
from seqedit.cli.history.telling import answer_row, print_answer
from seqedit.cli.options import (
    DeviceOption,
    DryRunOption,
    DtypeOption,
    FewshotOption,
    JsonOption,
    LedgerOption,
    MovedModelOption,
    NumFewshotOption,
    SkipUnusableOption,
)
from seqedit.cli.output import files_of_tasks, open_ledger
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError

if TYPE_CHECKING:
    from ledger.history.diff import FactChange, StateDiff
    from seqedit.session.bisect import Planned


@app.command(cls=with_defaults("model", "dtype", "device"))
def diff(
    old: Annotated[str, typer.Argument(help="Entry id, unique prefix, branch or HEAD~2.")],
    new: Annotated[str, typer.Argument(help="The other state.")] = "HEAD",
    answers: Annotated[bool, typer.Option("--answers", help="Load the model: what it says in both states.")] = False,
    probe: Annotated[list[str] | None, typer.Option("--probe", help="Also answer this prompt; repeatable.")] = None,
    probes: Annotated[Path | None, typer.Option(help="File with one prompt a line, to be answered too.")] = None,
    tokens: Annotated[int, typer.Option(help="New tokens of an answer.")] = 8,
    model: MovedModelOption = None,
    ledger: LedgerOption = None,
    json_: JsonOption = False,
) -> None:
    """Show what tells two states apart: facts added, superseded and dropped, norms by layer, and answers.

    Example: seqedit diff HEAD~3 HEAD --answers --probe "The capital of France is"
    """
    from seqedit.editing.loading import Loading
    from seqedit.session.diff import answers_of, delta_norms, read_probes

    prompts = [*(probe or []), *(read_probes(probes) if probes else [])]
    with open_ledger(ledger) as opened:
        found = opened.diff(old, new)
        norms = delta_norms(opened, found)
        said: dict[str, tuple[str, str]] = {}
        if answers or prompts:
            said = answers_of(opened, found, prompts, loading=Loading(model), tokens=tokens)
    if json_:
        print_json({
            "old": found.old, "new": found.new,
            "facts": [_change(c, said) for c in found.facts],
            "entries_added": [e.id for e in found.adapters_added],
            "entries_removed": [e.id for e in found.adapters_removed],
            "delta_norms": norms,
            "probes": [{"prompt": p, "old": said[p][0], "new": said[p][1]} for p in prompts],
        })  # fmt: skip
        return
    _print_diff(found, norms, said, prompts)


def _change(change: FactChange, said: dict[str, tuple[str, str]]) -> dict[str, Any]:
    request = change.new or change.old
    assert request is not None
    out: dict[str, Any] = {
        "kind": change.kind, "subject": change.subject, "relation": change.relation, "prompt": request.text,
        "old": None if change.old is None else change.old.target_new,
        "new": None if change.new is None else change.new.target_new,
        "old_entry": change.old_entry, "new_entry": change.new_entry,
    }  # fmt: skip
    if request.text in said:
        out["answer_old"], out["answer_new"] = said[request.text]
    return out


_SIGNS = {"added": "+", "dropped": "-", "superseded": "~", "moved": "="}


def _print_diff(
    found: StateDiff, norms: dict[str, float], said: dict[str, tuple[str, str]], prompts: list[str]
) -> None:
    counts = ", ".join(f"{found.count(kind)} {kind}" for kind in _SIGNS if found.count(kind))
    say(f"{found.old[:12]} .. {found.new[:12]}: {counts or 'no fact differs'}")
    for change in found.facts:
        row = _change(change, said)
        target = row["new"] if row["old"] is None or change.kind == "moved" else row["old"]
        arrow = f"{row['old']} => {row['new']}" if change.kind == "superseded" else target
        entry = (change.new_entry or change.old_entry or "")[:12]
        say(f"{_SIGNS[change.kind]} {row['prompt']} -> {arrow}  [{entry}]")
        if "answer_old" in row:
            say(f"      before: {row['answer_old']}")
            say(f"      after:  {row['answer_new']}")
    for name, norm in norms.items():
        say(f"|delta| {norm:10.4f}  {name}")
    for prompt in prompts:
        say(f"? {prompt}")
        say(f"      before: {said[prompt][0]}")
        say(f"      after:  {said[prompt][1]}")


@app.command()
def blame(
    subject: Annotated[str, typer.Argument(help="Whose facts, exactly as they were taught.")],
    relation: Annotated[str | None, typer.Option(help="Only this relation, e.g. P103 (or the prompt).")] = None,
    rev: Annotated[str, typer.Option(help="The state that is asked about.")] = "HEAD",
    all_: Annotated[bool, typer.Option("--all", help="Also entries that are not in its history.")] = False,
    ledger: LedgerOption = None,
    json_: JsonOption = False,
) -> None:
    """Show who set a fact and when, what superseded it or took it out of force and why, and where it still is.

    Example: seqedit blame "Danielle Darrieux"
    """
    with open_ledger(ledger) as opened:
        answers = opened.blame(subject, relation, rev=rev, everywhere=all_)
        if not answers and not all_ and (others := opened.blame(subject, relation, rev=rev, everywhere=True)):
            raise InputError(
                f"nothing in the history of {rev} teaches anything about '{subject}', but {len(others)} "
                f"request{'' if len(others) == 1 else 's'} elsewhere: see them with --all"
            )
        if not answers:
            close = opened.similar_subjects(subject)
            hint = f"; did you mean {', '.join(repr(name) for name in close)}?" if close else ""
            where = "" if relation is None else f" by relation '{relation}'"
            raise InputError(f"no entry teaches anything about '{subject}'{where}{hint}")
    if json_:
        print_json([answer_row(answer) for answer in answers])
        return
    for answer in answers:
        print_answer(answer)


@app.command(cls=with_defaults("model", "dtype", "device"))
def bisect(
    metric: Annotated[str, typer.Argument(help="TASK.METRIC (cola.mcc), ES, PS, NS, S, EM, ..., ppl or kl.")],
    good: Annotated[str, typer.Argument(help="A state where the metric is good. [default: the unedited model]")] = "",
    bad: Annotated[str, typer.Argument(help="A state where it is bad.")] = "HEAD",
    below: Annotated[
        float | None, typer.Option(help="Values below are bad (ppl, kl: above). [default: half way between the ends]")
    ] = None,
    drop: Annotated[float | None, typer.Option(help="A change by more than this from the good state is bad.")] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="NAME=FILE.jsonl, NAME or GROUP=FOLDER, to measure what is missing."),
    ] = None,
    num_fewshot: NumFewshotOption = None,
    fewshot: FewshotOption = None,
    records: Annotated[str | None, typer.Option(help="Records that ES, PS, ... are measured on.")] = None,
    skip_unusable: SkipUnusableOption = False,
    text: Annotated[Path | None, typer.Option(help="Text file that ppl and kl are measured on.")] = None,
    model: MovedModelOption = None,
    ledger: LedgerOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Find the entry after which a metric fell, measuring only the states that the ledger has no value of.

    Example: seqedit bisect cola.mcc --task cola=demo:tasks/cola.jsonl --drop 0.1
    """
    from evals.tasks.names import check_rows
    from seqedit.editing.loading import Loading
    from seqedit.library.inputs import metric_of
    from seqedit.session.bisect import bisect_ledger, plan_bisect

    if below is not None and drop is not None:
        raise InputError("give --below or --drop, not both")
    rows = files_of_tasks(task, num_fewshot, fewshot)
    check_rows(rows)
    loading = Loading(model, dtype=dtype, device=device)
    with open_ledger(ledger) as opened:
        check_revisions(opened, [*([good] if good else []), bad])
    measure = metric_of(metric, tasks=rows, records=records, text=text, skip_unusable=skip_unusable)

    def told(entry: str, value: float, measured: bool) -> None:
        say(f"{entry[:12]}  {metric} {value:.4f}{'' if measured else '  (from the ledger)'}", err=True)

    with open_ledger(ledger) as opened:
        if dry_run:
            planned = plan_bisect(opened, measure, good or opened.root(), bad, threshold=below, drop=drop)
            if planned.most:
                loading.check(opened.base_model.name)
            _tell_bisection(metric, planned, json_)
            return
        found = bisect_ledger(
            opened, measure, good or opened.root(), bad, threshold=below, drop=drop, loading=loading, on_value=told
        )  # fmt: skip
        entry = opened.entry(found.first_bad)
    if json_:
        print_json({
            "metric": metric, "first_bad": found.first_bad, "last_good": found.last_good,
            "threshold": found.threshold, "values": found.values,
        })  # fmt: skip
    else:
        say(f"first bad: {entry.id[:12]} {entry.operation}  {entry.message}")


def _tell_bisection(metric: str, planned: Planned, json_: bool) -> None:
    first, last = planned.path[0][:12], planned.path[-1][:12]
    plan = {
        "operation": "bisect", "metric": metric, "states": list(planned.path), "known": planned.known,
        "measured_at_most": planned.most,
    }  # fmt: skip
    said = [
        f"would look for the entry after which {metric} falls among {len(planned.path)} states, {first} to {last}",
        f"the ledger holds {len(planned.known)} of their values; at most {planned.most} would be measured, and kept",
    ]
    tell_planned(plan, said, json_)
