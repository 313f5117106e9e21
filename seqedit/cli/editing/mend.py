"""``seqedit train-mend``: train the hypernetwork that the method ``mend`` edits with."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_model_options
from seqedit.cli.interrupts import interrupts_told
from seqedit.cli.options import (
    ChatTemplateOption,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    JoinOption,
    JsonOption,
    ModelOption,
    SkipUnusableOption,
)
from seqedit.cli.output import facts_told, number, skipped_json, tokenizer_of
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError


@app.command("train-mend")
def train_mend(
    model: ModelOption,
    records: Annotated[str, typer.Option(help="CounterFact, EasyEdit or zsRE file, or a Hub dataset.")],
    layers: Annotated[str, typer.Option(help="Layers it learns to edit, e.g. 3,4,5.")],
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")],
    steps: Annotated[int | None, typer.Option(help="Adam steps, at most. [default: 1000]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's learning rate. [default: 1e-3]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Edits of one Adam step. [default: 8]")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set one field: rank, edit_rate, edit_weight, patience, ..."),
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Put the records into a random order by the seed first, as runs do.")
    ] = False,
    skip: Annotated[int, typer.Option(help="Leave out the first records.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Take only this many records.")] = None,
    skip_unusable: SkipUnusableOption = False,
    join: JoinOption = None,
    chat_template: ChatTemplateOption = False,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random. [default: 0]")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted training in --out.")] = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Train a MEND hypernetwork for a model; the last tenth of the records is held out and decides when to stop.

    Example: seqedit train-mend --model demo-gpt2 --records facts.json --layers 3,4,5 --steps 2000 --out my-mend
    """
    from seqedit.editing.settings import assigned
    from seqedit.methods.mend.config import MendTraining
    from seqedit.methods.mend.place import CHECKPOINT
    from seqedit.text.framing import Framing

    # Everything that can be wrong in the input is found before the model is loaded, and before anything is written.
    values: dict[str, Any] = dict(assigned(set_ or ()))
    options = {
        "layers": layers, "steps": steps, "learning_rate": learning_rate, "batch_size": batch_size, "seed": seed,
    }  # fmt: skip
    config = MendTraining.from_dict(values | {k: v for k, v in options.items() if v is not None})
    check_model_options(model, dtype, device)
    if skip < 0:
        raise InputError(f"--skip must not be negative, got {skip}")
    if resume and not (out / CHECKPOINT).is_file():
        raise InputError(f"{out} holds no unfinished training ({CHECKPOINT}); start one without --resume")
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty directory; choose another --out, or --resume")
    if limit is not None and limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    read = facts_told(records, limit=None if limit is None or shuffle else skip + limit, skip_unusable=skip_unusable)
    facts = Framing(join, chat_template).of(read.records, tokenizer_of(model))
    if shuffle:
        facts = random.Random(config.seed).sample(facts, len(facts))
    facts = facts[skip:][:limit]
    if not facts:
        raise InputError(f"{records} holds no records after the first {skip}")

    if dry_run:
        from seqedit.editing.loading import Loading
        from seqedit.methods.mend.examples import split

        Loading(model, dtype=dtype, device=device).check(layers=config.layers)
        training, held_out = split(facts, config.validation_share)
        plan = {
            "operation": "train-mend", "model": model, "out": str(out), "resume": resume, "records": len(training),
            "held_out": len(held_out), "settings": config.to_dict(), **skipped_json(read.skipped),
        }  # fmt: skip
        said = (
            f"would train layers {','.join(map(str, config.layers))} of {model} on {len(training)} records for at most "
            f"{config.steps} steps, {len(held_out)} held out{', from its checkpoint' if resume else ''}"
        )
        tell_planned(plan, [said, f"would write {out}"], json_)
        return

    from seqedit.adapters.adapter import BaseModel
    from seqedit.methods.mend.training import train_hypernetwork
    from seqedit.models.fingerprint import fingerprint
    from seqedit.models.loading import load_model

    def show(row: dict[str, float]) -> None:
        say(f"step {row['step']:>6}: held-out {_figures(row)}", err=True)

    loaded, tokenizer = load_model(model, dtype=dtype, device=device)
    start = time.perf_counter()
    with interrupts_told(lambda: f"the last checkpoint in {out}, if one was written, is kept", ("--resume",)):
        trained = train_hypernetwork(
            loaded, tokenizer, facts, config,
            base_model=BaseModel(model, fingerprint(loaded)), out=out, resume=resume, report=show,
        )  # fmt: skip
    if json_:
        seconds = round(time.perf_counter() - start, 1)
        rates = {str(layer): float(trained.network.rate(layer)) for layer in trained.network.layers}
        print_json({
            "out": str(out), "digest": trained.digest, "modules": list(trained.modules.values()), "rates": rates,
            "training": trained.training, "validation": trained.validation, "seconds": seconds,
            **skipped_json(read.skipped),
        })  # fmt: skip
        return
    say(f"{out}: layers {','.join(map(str, trained.network.layers))}, digest {trained.digest[:12]}")
    say(f"held-out records: {trained.validation['records']}")
    for name in ("unedited", "untrained", "trained"):
        say(f"{name:>9}: {_figures(trained.validation[name])}")


def _figures(row: dict[str, float]) -> str:
    return (
        f"loss {number(row['loss'], 4, 8)}, NLL of the target {number(row['edit_nll'], 3, 7)}, "
        f"KL of the neighbours {number(row['locality_kl'], 4, 8)}"
    )
