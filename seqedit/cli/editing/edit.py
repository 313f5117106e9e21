"""``seqedit edit``: one batch of requests, as an adapter directory or as a ledger's next entry."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.defaults import EDITING, chosen_method, taken_by, with_defaults
from seqedit.cli.editing.foresight import foreseen
from seqedit.cli.interrupts import interrupts_told
from seqedit.cli.options import (
    AuthorOption,
    ChatTemplateOption,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    FactRecordsOption,
    FewshotOption,
    GateOption,
    HparamsOption,
    JoinOption,
    JsonOption,
    LayersOption,
    LedgerOption,
    MessageOption,
    MethodOption,
    NumFewshotOption,
    PresetOption,
    SecondMomentsOption,
    SetOption,
    SkipUnusableOption,
    TaskDocumentsOption,
    TaskOption,
    TemplateSeedOption,
    ZsreOption,
)
from seqedit.cli.output import (
    StepTable,
    default_place,
    facts_told,
    files_of_tasks,
    open_ledger,
    skipped_json,
    tokenizer_of,
)
from seqedit.cli.parallel import ranks_of
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import CheckFailed, InputError, Interrupted
from seqedit.scoring.learnt import learnt_line, learnt_of
from seqedit.text.plain_text import DEFAULT

if TYPE_CHECKING:
    from seqedit.adapters.adapter import Adapter
    from seqedit.editing.editor import Editor
    from seqedit.editing.loading import Loading
    from seqedit.editing.rule import Settled
    from seqedit.editing.settings import Given
    from seqedit.facts.reading.unusable import Skipped
    from seqedit.facts.requests import Record, Request
    from seqedit.planning.plan import Plan
    from seqedit.runs.checked_edit import CheckedEdit, Checks


@app.command(
    cls=with_defaults(
        *EDITING, "author", "records", "num_fewshot", "fewshot", "task_documents", "drift_text", "on_gate",
        task="tasks", gate="gates",
    ),
)  # fmt: skip
def edit(
    context: typer.Context,
    facts: Annotated[
        str | None,
        typer.Argument(help="CounterFact, EasyEdit, zsRE or JSONL file, or a Hub dataset.", metavar="[REQUESTS]"),
    ] = None,
    requests: Annotated[str | None, typer.Option("--requests", help="The same, as an option.")] = None,
    method: MethodOption = None,
    model: Annotated[
        str | None, typer.Option(help="Hub id, local directory, or demo-gpt2 / demo-llama. [default: the ledger's]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Adapter directory to write; must not exist or be empty.")] = None,
    ledger: LedgerOption = None,
    preset: PresetOption = None,
    hparams: HparamsOption = None,
    set_: SetOption = None,
    layers: LayersOption = None,
    spread: Annotated[str | None, typer.Option(help="single, even, sqrt, boundary or replay.")] = None,
    second_moments: SecondMomentsOption = None,
    text: Annotated[str | None, typer.Option(help=f"Text to measure second moments on. [default: {DEFAULT}]")] = None,
    context_templates: Annotated[Path | None, typer.Option(help="JSON, a list of lists of strings.")] = None,
    zsre: ZsreOption = "mend",
    skip_unusable: SkipUnusableOption = False,
    join: JoinOption = None,
    chat_template: ChatTemplateOption = False,
    limit: Annotated[int | None, typer.Option(help="Take only the first requests.")] = None,
    message: MessageOption = "",
    author: AuthorOption = "",
    gate: GateOption = None,
    on_gate: Annotated[
        str, typer.Option(help="What a broken gate does: revert takes the entry out of force, stop leaves it.")
    ] = "revert",
    records: FactRecordsOption = None,
    task: TaskOption = None,
    num_fewshot: NumFewshotOption = None,
    fewshot: FewshotOption = None,
    task_documents: TaskDocumentsOption = None,
    drift_text: Annotated[
        str | None, typer.Option(help="Plain text whose perplexity, and KL to the unedited model, is measured.")
    ] = None,
    seed: TemplateSeedOption = 0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing, and exit with 1, where the edit cannot have taken.")
    ] = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Compute one batch of edits: an adapter that stock PEFT loads (--out), or else the next entry of a ledger.

    Says which facts were learnt. With --gate, --records, --task or --drift-text the new state is scored as a run scores
    its steps; exit code 1 if it breaks a gate, and the entry is then reverted (--on-gate). With --dry-run and --model
    the batch's plan is told too: near keys, endangered facts, the share to be written.

    Examples: seqedit edit 2032-04.jsonl -m April
              seqedit edit --model gpt2-xl --requests facts.json --method emmet --preset gpt2-xl --out my-edit
    """
    from ledger.database.places import has_ledger
    from seqedit.editing.loading import Loading
    from seqedit.editing.settings import MethodChoice
    from seqedit.facts.files import FactFile, shown_name
    from seqedit.facts.requests import check_batch, requests_of
    from seqedit.support.files import check_new
    from seqedit.text.framing import Framing

    if (facts is None) == (requests is None):
        raise InputError("give the facts once: `seqedit edit FILE`, or --requests FILE")
    method = chosen_method(method)
    # Everything that can be wrong in the input is found before the model is loaded, and before anything is written.
    choice = MethodChoice(method, preset, hparams, assignments=tuple(set_ or ()), layers=layers, spread=spread)
    config = choice.partial(method)
    # Which click typer brings, and so the source's type, differs between its versions.
    given = getattr(context.get_parameter_source("ledger"), "name", "") == "COMMANDLINE"
    place = default_place(ledger)
    if (out is not None and given) or (out is None and ledger is None and not has_ledger(place)):
        raise InputError(
            "give either --out DIR for an adapter alone, or --ledger PLACE (or SEQEDIT_LEDGER) for the next entry of a "
            "ledger, which `seqedit init --model MODEL --ledger PLACE` makes"
        )
    if out is not None and model is None:
        raise InputError("--out needs --model")
    if out is not None:
        check_new(out)
    if out is not None and (gate or records or task or drift_text or num_fewshot is not None or fewshot):
        raise InputError(
            "--gate, --records, --task and --drift-text score a ledger's state; --out writes an adapter alone"
        )
    framing = Framing(join, chat_template)
    source = str(facts or requests)
    read = facts_told(source, limit=limit, zsre=zsre, skip_unusable=skip_unusable)
    loaded = read.records
    try:
        check_batch(requests_of(loaded), read.numbers)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    if out is None:
        from evals.tasks.names import check_rows

        tasks = files_of_tasks(task, num_fewshot, fewshot)
        check_rows(tasks)
        open_ledger(place).close()  # that it is there
        from seqedit.library.inputs import checks_of
        from seqedit.scoring.settings import EvalSettings

        checks = checks_of(
            gate, records, tasks, drift_text,
            settings=EvalSettings(generation=False, task_documents=task_documents), on_gate=on_gate, zsre=zsre,  # type: ignore[arg-type]
            skip_unusable=skip_unusable,
        )  # fmt: skip
    templates = read_templates(context_templates) if context_templates else None
    loaded = framing.of(loaded, tokenizer_of(model, place))

    file = FactFile(source, shown_name(source)).record()
    order = _Order(
        loaded, method, config, message or f"{len(loaded)} facts by {method}", author, strict, dry_run, json_,
        taken_by(context), file, read.skipped,
    )  # fmt: skip
    loading = Loading(model, second_moments, text, templates, seed, dtype, device, ranks_of(context))
    if out is None:
        _edit_ledger(place, order, loading, checks)
    else:
        with interrupts_told(lambda: f"{out} was not written" if not out.exists() else f"{out} was begun; remove it"):
            _edit_alone(out, order, loading)


@dataclass(frozen=True)
class _Order:
    """What is to be edited, and how it is recorded and told."""

    records: list[Record]
    method: str
    config: Given
    message: str
    author: str
    strict: bool
    dry_run: bool
    json: bool
    defaults: dict[str, Any]
    file: Mapping[str, str]
    skipped: Skipped | None

    @property
    def batch(self) -> list[Request]:
        """What is asked for of each fact."""
        return [record.request for record in self.records]

    @property
    def framing(self) -> dict[str, Any]:
        """How the facts are put to the model, where there is something to tell of it."""
        from seqedit.text.framing import told_framing

        return told_framing(self.batch)

    def tell_framing(self) -> None:
        """The same as a line."""
        from seqedit.text.framing import framing_line

        if line := framing_line(self.framing):
            say(line, err=True)

    def to_dict(self, settled: Settled) -> dict[str, Any]:
        """Where settings that were not given came from, as JSON types."""
        taken = {"defaults": self.defaults} if self.defaults else {}
        return {**self.noted(settled), "warnings": list(settled.warnings), **self.framing, **taken}

    def noted(self, settled: Settled) -> dict[str, Any]:
        """What the adapter records of that, and of what of its facts' file was left out."""
        return {**settled.provenance(), **skipped_json(self.skipped)}


def _edit_alone(out: Path, order: _Order, loading: Loading) -> None:
    order.tell_framing()
    if order.dry_run:
        found = foreseen(order.batch, order.config, loading, None)
        _tell({"operation": "edit", "out": str(out)}, order, loading, str(loading.model), [], found)
        return
    from seqedit.editing.one_batch import edit_one_batch
    from seqedit.models.loading import loadable_name
    from seqedit.scoring.split import SplitScoring

    settled: list[Settled] = []

    def told(found: Settled) -> None:
        tell_settled(found)
        settled.append(found)

    learnt: dict[str, Any] = {}

    def made(editor: Editor, adapter: Adapter) -> None:
        _check(adapter, order.strict)
        editor.edited.apply([adapter])
        scorer = SplitScoring(loading.ranks).scorer
        learnt.update(learnt_of(editor.edited.model, editor.edited.tokenizer, order.batch, scorer))
        say(learnt_line(learnt), err=True)

    adapter = edit_one_batch(
        loading, order.batch, order.method, order.config, told=told, made=made, noted=skipped_json(order.skipped)
    )
    named = replace(adapter, base_model=replace(adapter.base_model, name=loadable_name(adapter.base_model.name)))
    named.save_pretrained(out)
    rank = max(delta.rank for delta in adapter.deltas.values())
    if order.json:
        print_json({"out": str(out), "digest": adapter.digest, "requests": len(order.batch), "rank": rank,
                    "learnt": learnt, "diagnosis": adapter.provenance["diagnosis"],
                    **order.to_dict(settled[0])})  # fmt: skip
        return
    say(
        f"{out}: {len(order.batch)} requests by {order.method}, {len(adapter.deltas)} layers, rank {rank}, "
        f"digest {adapter.digest[:12]}",
        err=True,
    )


def _edit_ledger(place: str, order: _Order, loading: Loading, checks: Checks) -> None:
    with open_ledger(place) as opened:
        checks.check(order.records, order.method, opened, "HEAD")
        overlaps = [str(overlap) for overlap in opened.overlaps(order.batch)]
        if order.dry_run:
            plan = {"operation": "edit", "branch": opened.branch()}
            measured = {"gates": [gate.name for gate in checks.gates], "tasks": checks.task_names}
            plan |= {name: value for name, value in measured.items() if value}
            found = foreseen(order.batch, order.config, loading, opened)
            _tell(plan, order, loading, loading.model or opened.base_model.name, overlaps, found)
            return
        for line in overlaps:  # before minutes are spent
            say(line, err=True)
        order.tell_framing()
        from seqedit.editing.rule import settle
        from seqedit.runs.checked_edit import Recorded, edit_checked
        from seqedit.scoring.kinds import KIND_DIAGNOSIS
        from seqedit.session.opening import open_session

        branch, before = opened.position()

        def kept() -> str:
            now = str(opened.branches().get(branch))
            if now != before:
                raise Interrupted(f"interrupted; the batch is recorded: branch '{branch}' is at {now[:12]}", None)
            return f"nothing was recorded, branch '{branch}' is at {before[:12]} as before"

        with interrupts_told(kept):
            session = open_session(opened, loading)
            session.check_unmoved()  # before minutes are spent
            settled = settle(order.config, session.editor)
            tell_settled(settled)
            recorded = Recorded(
                order.message, order.author, None, lambda adapter: _check(adapter, order.strict), order.noted(settled),
                order.file,
            )  # fmt: skip
            made = edit_checked(session, order.records, order.method, settled.config, checks, recorded)
        diagnosis = opened.scores(made.entry.id, KIND_DIAGNOSIS)[KIND_DIAGNOSIS]
    if order.json:
        print_json({"id": made.entry.id, "adapter": made.entry.adapter, "requests": len(order.batch),
                    "overlaps": overlaps, "learnt": made.learnt, "diagnosis": diagnosis, **_scored(made),
                    **order.to_dict(settled)})  # fmt: skip
    else:
        say(learnt_line(made.learnt), err=True)
        _tell_scores(made)
        say(f"{made.entry.id[:12]} {made.entry.message}")
    if made.failure is not None:
        say(made.failure, err=True)
        raise typer.Exit(1)


def _scored(made: CheckedEdit) -> dict[str, Any]:
    """What was measured beyond what was learnt, as JSON types."""
    if made.step is None:
        return {}
    return {
        "scores": {name: value for name, value in made.step.items() if name not in ("facts", "learnt", "diagnosis")},
        "baseline": made.baseline,
        "gates": [result.to_dict() for result in made.gates],
        "reverted": None if made.reverted is None else made.reverted.id,
    }


def _tell_scores(made: CheckedEdit) -> None:
    """Scores as a run's table has them, and the gates."""
    if made.step is None:
        return
    table = StepTable(sys.stderr)
    table.baseline(made.baseline or {}, made.step)
    table.step({**made.step, "learnt": None, "diagnosis": None})
    for result in made.gates:
        say(str(result), err=True)


def tell_settled(settled: Settled) -> None:
    """Say where settings that were not given came from, and what speaks against them."""
    for line in (*settled.notes, *(f"warning: {text}" for text in settled.warnings)):
        say(line, err=True)


def _check(adapter: Adapter, strict: bool) -> None:
    """Say how the edit went, before it is written; with ``strict``, refuse one that cannot have taken."""
    from seqedit.editing.diagnosis import line_of

    found = adapter.provenance["diagnosis"]
    say(line_of(found), err=True)
    faults = [fault["text"] for fault in found["faults"]]
    for text in faults:
        say(f"warning: {text}", err=True)
    if strict and faults:
        raise CheckFailed(f"nothing was written: {'; '.join(faults)}")


def _tell(
    plan: dict[str, Any], order: _Order, loading: Loading, model: str, overlaps: list[str],
    ahead: tuple[Plan | None, list[str]],
) -> None:  # fmt: skip
    from seqedit.editing.preset_model import preset_warning
    from seqedit.editing.rule import planned
    from seqedit.editing.settings import BY_RULE
    from seqedit.models.unloaded import empty_anatomy
    from seqedit.planning.essentials import essential_lines, essentials
    from seqedit.runs.plans import bytes_on, plan_lines

    parts = empty_anatomy(model)
    ahead_of = planned(order.config, parts)
    chosen, ruled = ahead_of.config, ahead_of.waiting
    loading.check(model, layers=chosen.layers)
    warning = preset_warning(None if order.config.preset == BY_RULE else order.config.preset, parts, model)
    plan |= {
        "method": order.method, "settings": ahead_of.settings(),
        "layers": list(chosen.layers), "overlaps": overlaps, "facts": [request.to_dict() for request in order.batch],
        "adapter_bytes": bytes_on(model, chosen, len(order.batch)), "by_rule": list(ruled),
        "notes": list(ahead_of.notes), "warnings": [] if warning is None else [warning],
        **({"defaults": order.defaults} if order.defaults else {}), **skipped_json(order.skipped),
    }  # fmt: skip
    if warning is not None:
        say(f"warning: {warning}", err=True)
    found, notes = ahead
    for line in notes:
        if line not in ahead_of.notes:  # which are among the plan's own lines
            say(line, err=True)
    lines = [*plan_lines(plan), *([] if found is None else essential_lines(found))]
    tell_planned(plan if found is None else {**plan, "plan": essentials(found)}, lines, order.json)


def read_templates(path: Path) -> list[list[str]]:
    """Groups of context templates from a JSON file.

    Raises:
        InputError: names the file and what does not fit.
    """
    from seqedit.support.reading import read_json
    from seqedit.text.lookup import check_context_templates

    data: Any = read_json(path)
    try:
        return [list(group) for group in check_context_templates(data)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
