"""Verbs that compute on a ledger: swap, merge, rebase, reorder. Each with --dry-run, which needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.options import (
    AuthorOption,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    HparamsOption,
    JsonOption,
    LayersOption,
    LedgerOption,
    MovedModelOption,
    OwnMessageOption,
    PresetOption,
    SecondMomentsOption,
    SetOption,
)
from seqedit.cli.output import open_ledger
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say

if TYPE_CHECKING:
    from ledger import Entry, Ledger
    from seqedit.editing.loading import Loading
    from seqedit.methods.config import EditConfig
    from seqedit.session.rebase import RebasePlan, Step
    from seqedit.session.session import Session

Text = Annotated[str | None, typer.Option(help="Text to measure second moments on.")]


@app.command()
def swap(
    context: typer.Context,
    entry: Annotated[str, typer.Argument(help="The entry whose requests are edited anew.")],
    method: Annotated[str | None, typer.Option(help="Editing method. [default: the entry's]")] = None,
    preset: PresetOption = None,
    hparams: HparamsOption = None,
    set_: SetOption = None,
    layers: LayersOption = None,
    model: MovedModelOption = None,
    second_moments: SecondMomentsOption = None,
    text: Text = None,
    ledger: LedgerOption = None,
    message: OwnMessageOption = None,
    author: AuthorOption = "",
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Edit an entry's requests by another method or setting, in its place; what follows stays as it is.

    Example: seqedit swap HEAD~2 --method memit --preset gpt2-xl
    """
    from seqedit.editing.loading import Loading
    from seqedit.editing.settings import MethodChoice
    from seqedit.session.entries import active_entry, before, settings_for
    from seqedit.session.swap import swap as swap_entry

    choice = MethodChoice(method, preset, hparams, assignments=tuple(set_ or ()), layers=layers)
    loading = Loading(model, second_moments, text, dtype=dtype, device=device, ranks=ranks_of(context))
    with open_ledger(ledger) as opened:
        old = active_entry(opened, entry, "swap")
        name, config = settings_for(old, choice)
        follow = len(opened.active()) - 1 - len(before(opened, old))
        if dry_run:
            plan = {
                **_planned(opened, "swap", old.requests, name, config),
                "entry": old.id, "by": old.method.get("name"), "follow": follow,
            }  # fmt: skip
            _tell_plan(plan, json_)
            return
        from seqedit.session.opening import open_session

        session = open_session(opened, loading)
        _warn_of(preset, session)
        made = swap_entry(session, old.id, name, config, message=message, author=author)
        _tell_entry(made, json_, opened)
    if follow and not json_:
        say(f"{follow} later entries were computed on the old one; `seqedit rebase` computes them again", err=True)


@app.command()
def merge(
    context: typer.Context,
    entries: Annotated[list[str], typer.Argument(help="At least two entries, of this branch or others.")],
    how: Annotated[str, typer.Option(help="sum, solve, ties or dare.")] = "sum",
    density: Annotated[float, typer.Option(help="Share that ties and dare keep of each delta.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of dare.")] = 0,
    method: Annotated[str | None, typer.Option(help="Closed form of solve. [default: the entries']")] = None,
    preset: PresetOption = None,
    hparams: HparamsOption = None,
    set_: SetOption = None,
    layers: LayersOption = None,
    model: MovedModelOption = None,
    second_moments: SecondMomentsOption = None,
    text: Text = None,
    ledger: LedgerOption = None,
    message: OwnMessageOption = None,
    author: AuthorOption = "",
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Merge entries into one: their sum (exact), the joint solution of all their facts, or PEFT's ties or dare.

    Example: seqedit merge HEAD~2 HEAD~1 HEAD --how solve
    """
    from seqedit.editing.loading import Loading
    from seqedit.editing.settings import MethodChoice
    from seqedit.session.merge import merge as merge_entries
    from seqedit.session.merge import parts_of, solved_by
    from seqedit.session.merging import check_parts

    choice = MethodChoice(method, preset, hparams, assignments=tuple(set_ or ()), layers=layers)
    loading = Loading(model, second_moments, text, dtype=dtype, device=device, ranks=ranks_of(context))
    with open_ledger(ledger) as opened:
        found = parts_of(opened, entries)
        requests = check_parts([part for _, part in found])
        chosen, config = solved_by(found, how, choice)
        if dry_run:
            active = {e.id for e in opened.active()}
            plan = {
                **_planned(opened, "merge", requests, f"merge by {how}", config),
                "entries": [e.id for e, _ in found],
                "replaced": [e.id for e, _ in found if e.id in active],
                "left_out": sum(len(e.requests) - len(part.live) for e, part in found),
            }
            _tell_plan(plan, json_)
            return
        session = None
        if how == "solve":
            from seqedit.session.opening import open_session

            session = open_session(opened, loading)
            _warn_of(preset, session)
        made = merge_entries(
            session, opened, [e.id for e, _ in found], how, method=chosen, config=config, density=density, seed=seed,  # type: ignore[arg-type]
            message=message, author=author,
        )  # fmt: skip
        _tell_entry(made, json_, opened)


@app.command()
def rebase(
    context: typer.Context,
    onto: Annotated[
        str | None, typer.Argument(help="Replay on this revision. [default: this branch's own start]")
    ] = None,
    model: MovedModelOption = None,
    second_moments: SecondMomentsOption = None,
    text: Text = None,
    ledger: LedgerOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted rebase.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Drop an interrupted rebase.")] = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Recompute what follows a change (a revert, a swap), or replay this branch's entries on another revision.

    Example: seqedit revert HEAD~3 && seqedit rebase
    """
    from seqedit.editing.loading import Loading
    from seqedit.session.rebase import abort as abort_rebase
    from seqedit.session.rebase import plan_rebase

    loading = Loading(model, second_moments, text, dtype=dtype, device=device, ranks=ranks_of(context))
    with open_ledger(ledger) as opened:
        if abort:
            there = abort_rebase(opened)
            say("the interrupted rebase is dropped" if there else "no rebase was interrupted", err=True)
            return
        plan = plan_rebase(opened, onto=onto)
        label = "rebase" if onto is None else f"rebase: onto {onto}"
        _replay(opened, plan, label, loading, resume=resume, dry_run=dry_run, json_=json_)


@app.command()
def reorder(
    context: typer.Context,
    entries: Annotated[list[str], typer.Argument(help="Active entries in the wanted order; others stay in place.")],
    model: MovedModelOption = None,
    second_moments: SecondMomentsOption = None,
    text: Text = None,
    ledger: LedgerOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted reorder.")] = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Put entries into another order and recompute what that changes.

    Example: seqedit reorder HEAD HEAD~1
    """
    from seqedit.editing.loading import Loading
    from seqedit.session.rebase import plan_rebase

    loading = Loading(model, second_moments, text, dtype=dtype, device=device, ranks=ranks_of(context))
    with open_ledger(ledger) as opened:
        plan = plan_rebase(opened, order=entries)
        _replay(opened, plan, "reorder", loading, resume=resume, dry_run=dry_run, json_=json_)


def _replay(
    opened: Ledger, plan: RebasePlan, label: str, loading: Loading, *, resume: bool, dry_run: bool, json_: bool
) -> None:
    rows = [{"entry": s.entry.id, "action": s.action, "message": s.entry.message} for s in plan.steps]
    if dry_run or not plan.changes:
        if json_:
            print_json({"branch": plan.branch, "start": plan.start, "changes": plan.changes, "steps": rows})
            return
        for row in rows:
            say(f"{row['action']:<9} {row['entry'][:12]}  {row['message']}")
        if not plan.changes:
            say("nothing to do: every entry is already computed on what precedes it", err=True)
        return
    from seqedit.session.opening import open_session
    from seqedit.session.rebase import rebase as run_rebase

    def told(step: Step, new: Entry) -> None:
        say(f"{step.action:<9} {step.entry.id[:12]} -> {new.id[:12]}  {new.message}", err=json_)
        if step.action == "recompute":
            _tell_diagnosis(new, opened)

    session = open_session(opened, loading)
    tip = run_rebase(session, plan, resume=resume, message=label, on_step=told)
    if json_:
        print_json({"branch": plan.branch, "old": plan.head, "new": tip, "steps": rows})
    else:
        say(f"{plan.branch}: {plan.head[:12]} -> {tip[:12]} (`seqedit undo` brings the old history back)")


def _warn_of(preset: str | None, session: Session) -> None:
    from seqedit.editing.preset_model import preset_warning

    found = preset_warning(preset, session.edited.parts, session.edited.base_model.name)
    if found is not None:
        say(f"warning: {found}", err=True)


def _planned(
    opened: Ledger, operation: str, requests: Sequence[Any], method: str, config: EditConfig | None
) -> dict[str, Any]:
    from seqedit.runs.plans import adapter_bytes

    return {
        "operation": operation,
        "branch": opened.branch(),
        "method": method,
        "settings": None if config is None else config.to_dict(),
        "layers": None if config is None else list(config.layers),
        "facts": [r.to_dict() for r in requests],
        "adapter_bytes": adapter_bytes(opened, config, len(requests)),
    }


def _tell_plan(plan: dict[str, Any], json_: bool) -> None:
    from seqedit.runs.plans import plan_lines

    if json_:
        print_json(plan)
        return
    for line in plan_lines(plan):
        say(line)


def _tell_diagnosis(made: Entry, ledger: Ledger) -> None:
    from seqedit.editing.diagnosis import line_of
    from seqedit.scoring.kinds import KIND_DIAGNOSIS

    found = ledger.scores(made.id, KIND_DIAGNOSIS).get(KIND_DIAGNOSIS)
    for line in [] if found is None else [line_of(found), *(f"warning: {f['text']}" for f in found["faults"])]:
        say(line, err=True)


def _tell_entry(made: Entry, json_: bool, ledger: Ledger) -> None:
    _tell_diagnosis(made, ledger)
    if json_:
        print_json({"id": made.id, "operation": made.operation, "targets": list(made.targets), "adapter": made.adapter})
    else:
        say(f"{made.id[:12]} {made.message}")
