"""``seqedit score``: CounterFact and zsRE scores of a model, with adapters or without."""

from __future__ import annotations

from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_adapters, check_model_options
from seqedit.cli.defaults import taken_by, with_defaults
from seqedit.cli.options import (
    AdapterOption,
    ChatTemplateOption,
    DeviceOption,
    DtypeOption,
    JoinOption,
    JsonOption,
    LedgerOption,
    SkipUnusableOption,
    ZsreOption,
)
from seqedit.cli.output import facts_told, number, open_ledger, skipped_json, tokenizer_of
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError


@app.command(cls=with_defaults("model", "records", "zsre", "dtype", "device"))
def score(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option(help="Hub id, local directory, or demo-gpt2 / demo-llama. [default: the ledger's configuration]"),
    ] = None,
    records: Annotated[
        str | None,
        typer.Option(
            help="CounterFact, EasyEdit, zsRE or JSONL file, or a dataset. [default: the ledger's configuration]"
        ),
    ] = None,
    adapter: AdapterOption = None,
    split: Annotated[str, typer.Option(help="Split of a dataset that has splits.")] = "train",
    zsre: ZsreOption = "mend",
    skip_unusable: SkipUnusableOption = False,
    join: JoinOption = None,
    chat_template: ChatTemplateOption = False,
    limit: Annotated[int | None, typer.Option(help="Take only the first records.")] = None,
    ledger: LedgerOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    json_: JsonOption = False,
) -> None:
    """Score records on a model, in percent: ES, PS, NS and S by likelihood, accuracies per token (ET, PT, NT)
    and of whole answers (EM, PM, NM), as zsRE is scored by. A ledger gives what is set in it (`seqedit config`).

    Example: seqedit score --model demo-gpt2 --adapter my-edit --records facts.json --json
    """
    from seqedit.text.framing import Framing, as_edited, framing_line, told_framing

    if getattr(context.get_parameter_source("ledger"), "name", "") == "COMMANDLINE":
        open_ledger(ledger).close()  # one that is not there is said, though nothing but what is set in it is read
    if model is None or records is None:
        missing = "model" if model is None else "records"
        raise InputError(f"give --{missing}, or set it once for a ledger with `seqedit config {missing} ...`")
    check_model_options(model, dtype, device)
    check_adapters(adapter or [])
    framing = Framing(join, chat_template)
    read = facts_told(records, split=split, limit=limit, zsre=zsre, skip_unusable=skip_unusable)
    facts = read.records

    from evals.scores.counterfact import score_records
    from evals.scores.intervals import score_intervals
    from evals.scores.scores import METRICS
    from seqedit.adapters.adapter import Adapter
    from seqedit.models.edited import EditedModel
    from seqedit.parallel.ranks import Ranks
    from seqedit.scoring.split import SplitScoring

    adapters = [Adapter.from_pretrained(path) for path in adapter or []]
    facts = as_edited(facts, [request for made in adapters for request in made.requests])
    facts = framing.of(facts, tokenizer_of(model))
    told = told_framing(record.request for record in facts)
    if line := framing_line(told):
        say(line, err=True)
    ranks = ranks_of(context) or Ranks()
    loaded, tokenizer = ranks.load_model(model, dtype=dtype, device=device)
    asked = [record for record in facts if record.probes]
    unedited = None
    if adapters:
        if any(probe.kind == "locality" for record in asked for probe in record.probes):
            unedited = score_records(loaded, tokenizer, facts, scorer=SplitScoring(ranks).scorer)
        edited = EditedModel(loaded, tokenizer, name=model)
        edited.check(adapters)
        edited.apply(adapters)
    result = score_records(loaded, tokenizer, facts, scorer=SplitScoring(ranks).scorer)
    result = result if unedited is None else result.against(unedited)
    ends = score_intervals(result)
    if json_:
        intervals = {name: ends[name] for name in result.columns if ends[name] is not None}
        taken = {"defaults": taken_by(context)} if taken_by(context) else {}
        print_json({
            **result.probed_or_why, **result.to_dict(), "intervals": intervals, **told, **taken,
            **skipped_json(read.skipped),
        })  # fmt: skip
        return
    say(f"{len(facts)} records")
    for name in METRICS:
        say(f"{name:>3} {number(result[name], 2, 8)}")
    for name in result.columns:
        low, high = ends[name] or (None, None)
        say(f"{name:>3} {number(result[name], 2, 8)}" + ("" if low is None else f"  [{low:.2f}, {high:.2f}]"))
    if result.columns:
        for name, reason in result.missing.items():
            say(f"{name}: null: {reason}")
