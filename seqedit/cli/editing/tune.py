"""``seqedit tune``: settings for a model and a method, found on calibration facts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import DeviceOption, DtypeOption, JsonOption
from seqedit.cli.terminal import print_json, say
from seqedit.text.plain_text import DEFAULT


@app.command()
def tune(
    model: Annotated[str, typer.Option(help="Hub id, local directory, GGUF file, or demo-gpt2 / demo-llama.")],
    records: Annotated[str, typer.Option(help="Calibration facts, apart from those to be edited later.")],
    method: Annotated[str, typer.Option(help="emmet or memit.")] = "emmet",
    minutes: Annotated[float, typer.Option(help="Time budget; what would pass it is not begun.")] = 15.0,
    out: Annotated[Path, typer.Option(help="Folder of preset.yaml and trials; a search is resumed from it.")] = Path(
        "tuned"
    ),
    limit: Annotated[int, typer.Option(help="Take only the first facts.")] = 32,
    layers: Annotated[str | None, typer.Option(help="Layers to try, e.g. 4,6,8. [default: three depths]")] = None,
    text: Annotated[str | None, typer.Option(help=f"Text for second moments. [default: {DEFAULT}]")] = None,
    max_tokens: Annotated[int, typer.Option(help="Sample size for second moments, in tokens.")] = 20_000,
    steps: Annotated[int, typer.Option(help="Optimisation steps.")] = 25,
    seed: Annotated[int, typer.Option(help="Seed of the context templates.")] = 0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    json_: JsonOption = False,
) -> None:
    """Find settings for a model on calibration facts, and write them as a preset with their evidence.

    Example: seqedit tune --model ./my-model --records facts.json --method memit --minutes 15 --out tuned
    """
    from seqedit.editing.loading import Loading
    from seqedit.facts.loading import load_records
    from seqedit.support.config import coerce
    from seqedit.tuning.bench import check_method
    from seqedit.tuning.preset import evidence, table, write_preset
    from seqedit.tuning.tune import tune as search

    check_method(method)
    chosen = coerce("layers", layers, tuple[int, ...]) if layers else None
    facts = load_records(records, limit=limit)
    edited = Loading(model, dtype=dtype, device=device).load()
    found = search(
        edited, facts, method, out, minutes=minutes, layers=chosen, text=text, max_tokens=max_tokens, steps=steps,
        seed=seed, report=lambda told: say(told, err=True),
    )  # fmt: skip
    file = out / "preset.yaml"
    write_preset(file, found, edited)
    if json_:
        print_json({"preset": str(file), "settings": dict(found.best.settings), **evidence(found, edited)})
        return
    for row in table(found):
        say(row)
    say(f"{file}: use it with --preset {file}")
