"""``seqedit eval``: the scores of a state, and whether it keeps its gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_revisions
from seqedit.cli.defaults import taken_by, with_defaults
from seqedit.cli.options import (
    ChatTemplateOption,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    FactRecordsOption,
    FewshotOption,
    GateOption,
    JoinOption,
    JsonOption,
    LedgerOption,
    MovedModelOption,
    NumFewshotOption,
    RevisionArgument,
    SkipUnusableOption,
    TaskDocumentsOption,
    TaskOption,
    ZsreOption,
)
from seqedit.cli.output import facts_told, files_of_tasks, number, open_ledger, shown_metric, skipped_json
from seqedit.cli.parallel import ranks_of
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError

if TYPE_CHECKING:
    from evals.gates import Gate

if TYPE_CHECKING:
    from evals.gates import Gate
    from seqedit.facts.requests import Record


@app.command(
    "eval",
    cls=with_defaults(
        "model", "dtype", "device", "records", "zsre", "num_fewshot", "fewshot", "task_documents",
        task="tasks", gate="gates", text="drift-text",
    ),
)  # fmt: skip
def evaluate(
    context: typer.Context,
    rev: RevisionArgument = "HEAD",
    task: TaskOption = None,
    num_fewshot: NumFewshotOption = None,
    fewshot: FewshotOption = None,
    records: FactRecordsOption = None,
    zsre: ZsreOption = "mend",
    skip_unusable: SkipUnusableOption = False,
    join: JoinOption = None,
    chat_template: ChatTemplateOption = False,
    text: Annotated[
        Path | None, typer.Option(help="Plain text whose perplexity, and KL to the unedited model, is measured.")
    ] = None,
    gate: GateOption = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the scores beside the branch's newest entry, as a run's step has them.")
    ] = False,
    task_documents: TaskDocumentsOption = None,
    model: MovedModelOption = None,
    ledger: LedgerOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Score a state of a ledger; exit code 1 if it does not keep a gate.

    Example: seqedit eval --task cola --gate "cola.mcc: max_drop 0.05 at 95 %" --gate "earlier.ES: min 90"
    """
    from evals.gates import parse_gates
    from evals.tasks.names import check_rows
    from seqedit.scoring.gate_check import check_measured

    gates = parse_gates(gate or [])  # before anything is loaded

    def check(limits: Sequence[Gate]) -> None:
        check_measured(limits, counterfact=True, generation=False, drift=False, text=text is not None)

    if "gates" in taken_by(context):  # which are also those of edits, where more is measured
        gates = tuple(one for one in gates if _told(one, check))
    check(gates)

    from seqedit.editing.loading import Loading
    from seqedit.library.inputs import tasks_of, texts_of
    from seqedit.text.framing import Framing, framing_line, told_framing

    loading = Loading(model, dtype=dtype, device=device, ranks=ranks_of(context))
    framing = Framing(join, chat_template)
    if framing.given and keep:
        raise InputError("--keep writes the scores of facts as they were edited; leave --join and --chat-template out")
    rows = files_of_tasks(task, num_fewshot, fewshot)
    check_rows(rows)
    with open_ledger(ledger) as opened:
        check_revisions(opened, [rev])
    read = facts_told(records, zsre=zsre, skip_unusable=skip_unusable) if records else None
    facts = [] if read is None else read.records
    skipped = skipped_json(None if read is None else read.skipped)
    texts = texts_of(text)
    tasks = tasks_of(rows, limit=task_documents)

    from evals.scores.probes import is_column
    from seqedit.scoring.evaluator import Evaluator
    from seqedit.scoring.settings import EvalSettings
    from seqedit.scoring.split import SplitScoring
    from seqedit.session.evaluate import evaluate_state, framed_facts, scored_facts
    from seqedit.session.opening import open_session

    with open_ledger(ledger) as opened:
        names = [] if tasks is None else list(tasks.tasks)
        entry, scored = scored_facts(opened, rev, records=facts, tasks=names, gates=gates)
        if keep and entry != opened.head():
            raise InputError(
                f"--keep writes scores beside the newest entry of branch '{opened.branch()}' ({opened.head()[:12]}), "
                f"not beside {entry[:12]}"
            )
        if dry_run:
            loading.check(opened.base_model.name)
            _tell_plan(entry, scored, names, len(texts), gates, skipped, json_)
            return
        session = open_session(opened, loading)
        split = SplitScoring(session.ranks)
        scored = framed_facts(scored, framing, session.edited.tokenizer)
        told = told_framing(record.request for batch in scored.values() for record in batch)
        if line := framing_line(told):
            say(line, err=True)
        evaluator = Evaluator(
            session.edited.tokenizer, EvalSettings(generation=False, drift=False), tasks=tasks, texts=texts,
            scorer=split.scorer, generator=split.generator,
        )  # fmt: skip
        found = evaluate_state(session, evaluator, rev, records=facts, gates=gates, keep=keep, framing=framing)
    if json_:
        print_json({
            "entry": found.entry, "scores": found.step, "baseline": found.baseline,
            "gates": [result.to_dict() for result in found.gates], **told,
            **({"defaults": taken_by(context)} if taken_by(context) else {}),
            **({} if found.failure is None else {"failure": found.failure}), **skipped,
        })  # fmt: skip
    elif found.failure is not None:
        say(f"the state of {found.entry[:12]} cannot be scored: {found.failure}", err=True)
        for result in found.gates:
            say(str(result))
    else:
        probed = [n for n in (*found.step, *(found.step["earlier"] or {})) if is_column(n)]
        for name in ("ES", "EM", "PS", "NS", "S", *dict.fromkeys(probed)):
            own, earlier = found.step.get(name), (found.step["earlier"] or {}).get(name)
            if own is not None or earlier is not None:  # what no fact tells is no row
                say(f"{name:>12} {number(own, 2, 8)}  earlier {number(earlier, 2, 8)}")
        for name, row in found.step["tasks"].items():
            metric = shown_metric(row) or str(row.get("metric"))
            if row.get("change") is None:
                say(f"{name + '.' + metric:>12} {row[metric]:8.4f}  no paired change: {row.get('unpaired')}")
                continue
            say(
                f"{name + '.' + metric:>12} {row[metric]:8.4f}  change {row['change']:+.4f} "
                f"[{row['ci_low']:+.4f}, {row['ci_high']:+.4f}]"
            )
        if found.step["drift"]:
            say(f"{'perplexity':>12} {found.step['drift']['perplexity']:8.3f}")
            say(f"{'KL':>12} {found.step['drift']['kl']:8.5f} nats per token to the unedited model")
        for result in found.gates:
            say(str(result))
    if found.tripped:
        raise typer.Exit(1)


def _told(gate: Gate, check: Callable[[Sequence[Gate]], None]) -> bool:
    """Whether a gate can be told here; one that cannot is left out, and that is said."""
    try:
        check([gate])
    except InputError as error:
        say(f"left out: {error}", err=True)
        return False
    return True


def _tell_plan(
    entry: str, scored: Mapping[str, Sequence[Record]], tasks: Sequence[str], lines: int, gates: Sequence[Gate],
    skipped: Mapping[str, Any], json_: bool,
) -> None:  # fmt: skip
    facts = sum(len(batch) for batch in scored.values())
    plan = {
        "operation": "eval", "entry": entry, "batches": len(scored), "facts": facts, "tasks": list(tasks),
        "text_lines": lines, "gates": [gate.name for gate in gates], **skipped,
    }  # fmt: skip
    what = [f"{facts} facts of {len(scored)} batches", *(f"task {task}" for task in tasks)]
    if lines:
        what.append(f"perplexity and KL on {lines} lines")
    said = [f"would score the state of {entry[:12]}: {', '.join(what)}", *(f"gate {gate.name}" for gate in gates)]
    tell_planned(plan, said, json_)
