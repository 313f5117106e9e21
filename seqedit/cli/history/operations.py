"""Verbs that compute on a ledger: swap, merge, rebase, reorder. Each with --dry-run, which needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_choice, check_revisions
from seqedit.cli.defaults import COMPUTING, with_defaults
from seqedit.cli.interrupts import interrupts_told
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
    ReasonOption,
    SecondMomentsOption,
    SetOption,
)
from seqedit.cli.output import open_ledger
from seqedit.cli.parallel import ranks_of
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say

if TYPE_CHECKING:
    from ledger import Entry, Ledger
    from seqedit.editing.loading import Loading
    from seqedit.editing.rule import Settled
    from seqedit.editing.settings import Given
    from seqedit.methods.config import EditConfig
    from seqedit.session.rebase import RebasePlan, Step
    from seqedit.session.session import Session

Text = Annotated[str | None, typer.Option(help="Text to measure second moments on.")]


@app.command(cls=with_defaults(*COMPUTING))
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
    reason: ReasonOption = "",
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
    from seqedit.session.entries import active_entry, before, chosen_for
    from seqedit.session.swap import swap as swap_entry

    choice = MethodChoice(method, preset, hparams, assignments=tuple(set_ or ()), layers=layers)
    loading = Loading(model, second_moments, text, dtype=dtype, device=device, ranks=ranks_of(context))
    with open_ledger(ledger) as opened:
        old = active_entry(opened, entry, "swap")
        name, chosen = chosen_for(old, choice)
        follow = len(opened.active()) - 1 - len(before(opened, old))
        if dry_run:
            loading.check(opened.base_model.name, layers=_ahead(chosen, loading, opened).layers)
            plan = {
                **_planned(opened, "swap", old.requests, name, chosen),
                "entry": old.id, "by": old.method.get("name"), "follow": follow,
            }  # fmt: skip
            _tell_plan(plan, json_)
            return
        from seqedit.session.opening import open_session

        session = open_session(opened, loading)
        settled = _settle(preset, chosen, session)
        made = swap_entry(
            session, old.id, name, settled.config, message=message, author=author, reason=reason,
            noted=settled.provenance(),
        )  # fmt: skip
        _tell_entry(made, json_, opened)
    if follow and not json_:
        say(f"{follow} later entries were computed on the old one; `seqedit rebase` computes them again", err=True)


@app.command(cls=with_defaults(*COMPUTING))
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
    reason: ReasonOption = "",
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
    from seqedit.session.merge import check_solvable, parts_of, solved_by
    from seqedit.session.merge import merge as merge_entries
    from seqedit.session.merging import check_density, check_how, check_parts

    check_how(how)
    choice = MethodChoice(method, preset, hparams, assignments=tuple(set_ or ()), layers=layers)
    loading = Loading(model, second_moments, text, dtype=dtype, device=device, ranks=ranks_of(context))
    with open_ledger(ledger) as opened:
        check_revisions(opened, entries)
        check_choice(choice, opened, entries)
        found = parts_of(opened, entries)
        requests = check_parts([part for _, part in found])
        chosen, config = solved_by(found, how, choice)
        ahead = None if config is None or how != "solve" else _ahead(config, loading, opened)
        if how == "solve":
            check_solvable(found, chosen, ahead)  # before a model is loaded
        if dry_run:
            if how == "solve":
                chosen, config = check_solvable(found, chosen, ahead)
                loading.check(opened.base_model.name, layers=config.layers)
            elif how != "sum":
                check_density(density)
            active = {e.id for e in opened.active()}
            plan = {
                **_planned(opened, "merge", requests, f"merge by {how}", config),
                "entries": [e.id for e, _ in found],
                "replaced": [e.id for e, _ in found if e.id in active],
                "left_out": sum(len(e.requests) - len(part.live) for e, part in found),
            }
            _tell_plan(plan, json_)
            return
        session = settled = None
        if how == "solve":
            from seqedit.session.opening import open_session

            session = open_session(opened, loading)
            settled = None if config is None else _settle(preset, config, session)
        made = merge_entries(
            session, opened, [e.id for e, _ in found], how,  # type: ignore[arg-type]
            method=chosen, config=None if settled is None else settled.config, density=density, seed=seed,
            message=message, author=author, reason=reason, noted=None if settled is None else settled.provenance(),
        )  # fmt: skip
        _tell_entry(made, json_, opened)


@app.command(cls=with_defaults(*COMPUTING))
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
    message: OwnMessageOption = None,
    reason: ReasonOption = "",
    author: AuthorOption = "",
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
            there = abort_rebase(opened, dry_run=dry_run)
            done = f"the interrupted rebase {'would be' if dry_run else 'is'} dropped"
            say(done if there else "no rebase was interrupted", err=True)
            if json_:
                print_json({"branch": opened.branch(), "aborted": there, "dry_run": dry_run})
            return
        plan = plan_rebase(opened, onto=onto)
        label = "rebase" if onto is None else f"rebase: onto {onto}"
        said = Told("rebase", label if message is None else message, author, reason)
        _replay(opened, plan, said, loading, resume=resume, dry_run=dry_run, json_=json_)


@app.command(cls=with_defaults(*COMPUTING))
def reorder(
    context: typer.Context,
    entries: Annotated[list[str], typer.Argument(help="Active entries in the wanted order; others stay in place.")],
    model: MovedModelOption = None,
    second_moments: SecondMomentsOption = None,
    text: Text = None,
    ledger: LedgerOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted reorder.")] = False,
    message: OwnMessageOption = None,
    reason: ReasonOption = "",
    author: AuthorOption = "",
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
        said = Told("reorder", "reorder" if message is None else message, author, reason)
        _replay(opened, plan, said, loading, resume=resume, dry_run=dry_run, json_=json_)


@dataclass(frozen=True)
class Told:
    """What is said of a replay, and kept: which verb it was, its message, its author and why it was done."""

    operation: str
    message: str
    author: str
    reason: str


def _replay(
    opened: Ledger, plan: RebasePlan, said: Told, loading: Loading, *, resume: bool, dry_run: bool, json_: bool
) -> None:
    from seqedit.session.rebase import check_begun

    rows = [{"entry": s.entry.id, "action": s.action, "message": s.entry.message} for s in plan.steps]
    if dry_run or not plan.changes:
        done = 0
        if plan.changes:
            layers = {
                layer for s in plan.steps if s.action == "recompute" for layer in s.entry.method.get("layers", [])
            }
            loading.check(opened.base_model.name, layers=sorted(layers))
            done = check_begun(opened, plan, resume=resume)
        if json_:
            print_json({
                "branch": plan.branch, "start": plan.start, "changes": plan.changes, "steps": rows, "resumed": done,
                "dry_run": dry_run,
            })  # fmt: skip
            return
        for row in rows:
            say(f"{row['action']:<9} {row['entry'][:12]}  {row['message']}")
        if done:
            say(f"{done} of these steps are done already and would be kept", err=True)
        if not plan.changes:
            say("nothing to do: every entry is already computed on what precedes it", err=True)
        return
    from seqedit.session.opening import open_session
    from seqedit.session.rebase import rebase as run_rebase

    made: list[str] = []

    def told(step: Step, new: Entry) -> None:
        made.append(new.id)
        say(f"{step.action:<9} {step.entry.id[:12]} -> {new.id[:12]}  {new.message}", err=json_)
        if step.action == "recompute":
            _tell_diagnosis(new, opened)

    session = open_session(opened, loading)

    def kept() -> str:
        last = f", the last of them {made[-1][:12]}" if made else ""
        return (
            f"branch '{plan.branch}' is as it was; {len(made)} entries were made anew{last}, and are kept (or --abort)"
        )

    with interrupts_told(kept, ("--resume",)):
        tip = run_rebase(session, plan, resume=resume, on_step=told, **asdict(said))
    if json_:
        print_json({"branch": plan.branch, "old": plan.head, "new": tip, "steps": rows})
    else:
        say(f"{plan.branch}: {plan.head[:12]} -> {tip[:12]} (`seqedit undo` brings the old history back)")


def _settle(preset: str | None, chosen: EditConfig | Given, session: Session) -> Settled:
    """Settings for the session's model, after what is to be told of them was told."""
    from seqedit.cli.editing.edit import tell_settled
    from seqedit.editing.preset_model import preset_warning
    from seqedit.editing.rule import settle
    from seqedit.editing.settings import BY_RULE

    found = None if preset == BY_RULE else preset_warning(
        preset, session.edited.parts, session.edited.base_model.name
    )  # fmt: skip
    if found is not None:
        say(f"warning: {found}", err=True)
    settled = settle(chosen, session.editor)
    tell_settled(settled)
    return settled


def _ahead(chosen: EditConfig | Given, loading: Loading, opened: Ledger) -> EditConfig:
    """The settings as far as they are known without the model's weights."""
    from seqedit.editing.rule import planned

    return planned(chosen, loading.check(opened.base_model.name)).config


def _planned(
    opened: Ledger, operation: str, requests: Sequence[Any], method: str, chosen: EditConfig | Given | None
) -> dict[str, Any]:
    from seqedit.editing.rule import planned
    from seqedit.runs.plans import adapter_bytes

    ahead = None if chosen is None else planned(chosen, None)
    return {
        "operation": operation,
        "branch": opened.branch(),
        "method": method,
        "settings": None if ahead is None else ahead.settings(),
        "layers": None if ahead is None else list(ahead.config.layers),
        "facts": [r.to_dict() for r in requests],
        "adapter_bytes": adapter_bytes(opened, None if ahead is None else ahead.config, len(requests)),
        "by_rule": [] if ahead is None else list(ahead.waiting),
        "notes": [] if ahead is None else list(ahead.notes),
    }


def _tell_plan(plan: dict[str, Any], json_: bool) -> None:
    from seqedit.runs.plans import plan_lines

    tell_planned(plan, plan_lines(plan), json_)


def _tell_diagnosis(made: Entry, ledger: Ledger) -> None:
    from seqedit.editing.diagnosis import line_of
    from seqedit.scoring.kinds import KIND_DIAGNOSIS, KIND_LEARNT
    from seqedit.scoring.learnt import learnt_line

    scores = ledger.scores(made.id)
    found, learnt = scores.get(KIND_DIAGNOSIS), scores.get(KIND_LEARNT)
    for line in [] if found is None else [line_of(found), *(f"warning: {f['text']}" for f in found["faults"])]:
        say(line, err=True)
    if learnt is not None:
        say(learnt_line(learnt), err=True)


def _tell_entry(made: Entry, json_: bool, ledger: Ledger) -> None:
    from seqedit.scoring.kinds import KIND_LEARNT

    _tell_diagnosis(made, ledger)
    if json_:
        learnt = ledger.scores(made.id, KIND_LEARNT).get(KIND_LEARNT)
        print_json({
            "id": made.id, "operation": made.operation, "targets": list(made.targets), "adapter": made.adapter,
            **({} if learnt is None else {"learnt": learnt}),
        })  # fmt: skip
    else:
        say(f"{made.id[:12]} {made.message}")
