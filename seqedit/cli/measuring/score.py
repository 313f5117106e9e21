"""``seqedit score``: CounterFact and zsRE scores of a model, with adapters or without."""

from __future__ import annotations

from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import AdapterOption, DeviceOption, DtypeOption, JsonOption, ModelOption, ZsreOption
from seqedit.cli.output import number
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say


@app.command()
def score(
    context: typer.Context,
    model: ModelOption,
    records: Annotated[str, typer.Option(help="CounterFact, EasyEdit, zsRE or JSONL file, or a dataset.")],
    adapter: AdapterOption = None,
    split: Annotated[str, typer.Option(help="Split of a dataset that has splits.")] = "train",
    zsre: ZsreOption = "mend",
    limit: Annotated[int | None, typer.Option(help="Take only the first records.")] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    json_: JsonOption = False,
) -> None:
    """Score records on a model, in percent: ES, PS, NS and S by likelihood, accuracies per token (ET, PT, NT)
    and of whole answers (EM, PM, NM), as zsRE is scored by.

    Example: seqedit score --model demo-gpt2 --adapter my-edit --records facts.json --json
    """
    from seqedit.adapters.adapter import Adapter
    from seqedit.facts.loading import load_records

    facts = load_records(records, split=split, limit=limit, zsre=zsre)
    adapters = [Adapter.from_pretrained(path) for path in adapter or []]

    from evals.scores.counterfact import score_records
    from evals.scores.scores import METRICS
    from seqedit.models.edited import EditedModel
    from seqedit.parallel.ranks import Ranks
    from seqedit.scoring.split import SplitScoring

    ranks = ranks_of(context) or Ranks()
    loaded, tokenizer = ranks.load_model(model, dtype=dtype, device=device)
    if adapters:
        edited = EditedModel(loaded, tokenizer, name=model)
        edited.check(adapters)
        edited.apply(adapters)
    result = score_records(loaded, tokenizer, facts, scorer=SplitScoring(ranks).scorer)
    if json_:
        print_json(result.to_dict())
        return
    say(f"{len(facts)} records")
    for name in METRICS:
        say(f"{name:>3} {number(result[name], 2, 8)}")
