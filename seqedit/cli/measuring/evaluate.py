"""``seqedit eval``: the scores of a state, and whether it keeps its gates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import (
    DeviceOption,
    DtypeOption,
    FewshotOption,
    JsonOption,
    LedgerOption,
    MovedModelOption,
    NumFewshotOption,
    RevisionArgument,
    ZsreOption,
)
from seqedit.cli.output import files_of_tasks, number, open_ledger, shown_metric
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say


@app.command("eval")
def evaluate(
    context: typer.Context,
    rev: RevisionArgument = "HEAD",
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="lm-eval task, NAME=FILE.jsonl, or GROUP=FOLDER of such files; repeatable."),
    ] = None,
    num_fewshot: NumFewshotOption = None,
    fewshot: FewshotOption = None,
    records: Annotated[str | None, typer.Option(help="Records with paraphrases and neighbours of the facts.")] = None,
    zsre: ZsreOption = "mend",
    text: Annotated[
        Path | None, typer.Option(help="Plain text whose perplexity, and KL to the unedited model, is measured.")
    ] = None,
    gate: Annotated[
        list[str] | None, typer.Option("--gate", help="A limit, e.g. 'cola.mcc: max_drop 0.05 at 95 %'; repeatable.")
    ] = None,
    task_documents: Annotated[int | None, typer.Option(help="Take only the first documents of each task.")] = None,
    model: MovedModelOption = None,
    ledger: LedgerOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    json_: JsonOption = False,
) -> None:
    """Score a state of a ledger; exit code 1 if it does not keep a gate.

    Example: seqedit eval --task cola --gate "cola.mcc: max_drop 0.05 at 95 %" --gate "earlier.ES: min 90"
    """
    from evals.gates import parse_gates
    from seqedit.scoring.gate_check import check_measured

    gates = parse_gates(gate or [])  # before anything is loaded
    check_measured(gates, counterfact=True, generation=False, drift=False, text=text is not None)

    from seqedit.editing.loading import Loading
    from seqedit.library.inputs import facts_of, tasks_of, texts_of
    from seqedit.scoring.evaluator import Evaluator
    from seqedit.scoring.settings import EvalSettings
    from seqedit.scoring.split import SplitScoring
    from seqedit.session.evaluate import evaluate_state
    from seqedit.session.opening import open_session

    facts = facts_of(records, zsre=zsre) if records else []
    texts = texts_of(text)
    tasks = tasks_of(files_of_tasks(task, num_fewshot, fewshot), limit=task_documents)
    with open_ledger(ledger) as opened:
        opened.resolve(rev)
        session = open_session(opened, Loading(model, dtype=dtype, device=device, ranks=ranks_of(context)))
        split = SplitScoring(session.ranks)
        evaluator = Evaluator(
            session.edited.tokenizer, EvalSettings(generation=False), tasks=tasks, texts=texts,
            scorer=split.scorer, generator=split.generator,
        )  # fmt: skip
        found = evaluate_state(session, evaluator, rev, records=facts, gates=gates)
    if json_:
        print_json({
            "entry": found.entry, "scores": found.step, "baseline": found.baseline,
            "gates": [result.to_dict() for result in found.gates],
            **({} if found.failure is None else {"failure": found.failure}),
        })  # fmt: skip
    elif found.failure is not None:
        say(f"the state of {found.entry[:12]} cannot be scored: {found.failure}", err=True)
        for result in found.gates:
            say(str(result))
    else:
        for name in ("ES", "PS", "NS", "S"):
            earlier = (found.step["earlier"] or {}).get(name)
            say(f"{name:>12} {number(found.step.get(name), 2, 8)}  earlier {number(earlier, 2, 8)}")
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
