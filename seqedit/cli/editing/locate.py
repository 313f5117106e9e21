"""``seqedit locate``: causal tracing, and the layers to edit that it suggests."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_model_options
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
from seqedit.distribution.extras import need
from seqedit.errors import InputError

if TYPE_CHECKING:
    from seqedit.facts.requests import Request
    from seqedit.locating.location import TraceConfig


@app.command()
def locate(
    model: ModelOption,
    records: Annotated[str, typer.Option(help="CounterFact, EasyEdit, zsRE or JSONL file, or a Hub dataset.")],
    join: JoinOption = None,
    chat_template: ChatTemplateOption = False,
    limit: Annotated[int, typer.Option(help="Take only the first records.")] = 50,
    skip_unusable: SkipUnusableOption = False,
    samples: Annotated[int, typer.Option(help="Noise samples of one prompt.")] = 10,
    noise: Annotated[float, typer.Option(help="Noise, in standard deviations of the subjects' embeddings.")] = 3.0,
    window: Annotated[
        int | None,
        typer.Option(help="Layers whose FFN or attention is restored together. [default: a third, at most 10]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for locate.json, .csv and .png; must not exist or be empty.")
    ] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Find the layers that carry facts by causal tracing (ROME, section 2), and suggest which to edit.

    Example: seqedit locate --model gpt2-xl --records facts.json --out where
    """
    from seqedit.locating.config import TraceConfig
    from seqedit.support.files import check_new
    from seqedit.text.framing import Framing

    # All that can be wrong is found before anything that computes is imported.
    config = TraceConfig(samples=samples, noise=noise, window=window, seed=seed)
    check_model_options(model, dtype, device)
    if out is not None:
        check_new(out)
    if limit < 1:
        raise InputError(f"--limit must be at least 1, got {limit}")
    if noise == 0:
        raise InputError("--noise 0 corrupts nothing, so there is nothing to restore; 3 is usual")
    read = facts_told(records, limit=limit, skip_unusable=skip_unusable)
    facts = Framing(join, chat_template).of(read.records, tokenizer_of(model))
    requests = [record.request for record in facts]

    from seqedit.locating.locate import locate as trace

    if out is not None:
        need("matplotlib", "report", "the picture in --out")
    if dry_run:
        from seqedit.editing.loading import Loading

        Loading(model, dtype=dtype, device=device).check()
        _tell_plan(model, requests, config, out, skipped_json(read.skipped), json_)
        return
    from seqedit.models.loading import load_model

    loaded, tokenizer = load_model(model, dtype=dtype, device=device)
    found = {
        "model": model,
        "records": records,
        **skipped_json(read.skipped),
        **trace(loaded, tokenizer, requests, config).to_dict(),
    }
    if out is not None:
        _write(found, out)
    if json_:
        print_json(found)
    else:
        _print(found)


def _tell_plan(
    model: str, requests: Sequence[Request], config: TraceConfig, out: Path | None, skipped: Mapping[str, Any],
    json_: bool,
) -> None:  # fmt: skip
    files = [] if out is None else [str(out / name) for name in FILES]
    plan = {
        "operation": "locate", "model": model, "facts": [request.to_dict() for request in requests],
        "settings": asdict(config), "files": files, **skipped,
    }  # fmt: skip
    said = [f"would trace {len(requests)} facts on {model}, each with {config.samples} samples of noise"]
    tell_planned(plan, [*said, *(f"would write {file}" for file in files)], json_)


FILES = ("locate.png", "locate.csv", "locate.json")
"""What ``--out`` gets, in the order in which it is written."""


def _write(found: Mapping[str, Any], out: Path) -> None:
    from evals.report.figures import write_png
    from evals.report.trace_plot import plot_effects

    out.mkdir(parents=True, exist_ok=True)
    write_png(plot_effects(found), out / "locate.png")
    with (out / "locate.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "token", "layer", "mean", "ci_low", "ci_high", "facts"])
        for kind, classes in found["effects"].items():
            for name, points in classes.items():
                writer.writerows([kind, name, layer, *point.values()] for layer, point in enumerate(points))
    # Last, so that a folder with it is whole.
    (out / "locate.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")


COLUMNS = (
    ("last subject token", "layer"),
    ("last subject token", "ffn"),
    ("last subject token", "attention"),
    ("last token", "layer"),
    ("last token", "ffn"),
    ("last token", "attention"),
)


def _print(found: Mapping[str, Any]) -> None:
    facts, settings, suggested = found["facts"], found["settings"], found["suggested"]
    say(f"{facts['traced']} facts traced, {facts['unknown']} left out because the model gives another answer")
    say(
        f"p(answer) {_percent(found['clean'])} % clean, {_percent(found['corrupted'])} % with noise on the subject "
        f"(standard deviation {settings['noise_std']:.3g}, {settings['noise']:g} times the embeddings')"
    )
    say(f"effect of restoring, in points of p(answer); FFN and attention over {settings['window']} layers at a time")
    say(f"{'':5} {'last subject token':>23} {'last token':>23}")
    say(f"layer {'layer':>7} {'FFN':>7} {'attn':>7} {'layer':>7} {'FFN':>7} {'attn':>7}")
    for layer in range(found["layers"]):
        points = [found["effects"][kind][name][layer] for name, kind in COLUMNS]
        mark = " *" if layer == suggested["peak"] else ""
        say(f"{layer:>5} " + " ".join(_percent(point, 7) for point in points) + mark)
    if suggested["peak"] is None:
        say("suggested layers: none, because every prompt ends with its subject; give prompts that go on after it")
        return
    effect = suggested["effect"]
    interval = (
        f" [{_percent(effect, field='ci_low')}, {_percent(effect, field='ci_high')}]" if facts["traced"] > 1 else ""
    )
    say(f"FFN peak at the last subject token: layer {suggested['peak']}, effect {_percent(effect)}{interval}")
    if not suggested["clear"]:
        say("this peak is not clear: its 95 % interval includes 0, so take the suggestion as a guess")
    elif suggested["alike"]:
        say(f"not told from the peak: layers {','.join(map(str, suggested['alike']))}")
    say("suggested layers (a heuristic, see docs/guide/locate.md):")
    say(f"--layers {','.join(map(str, suggested['layers']))}")


def _percent(point: Mapping[str, Any], width: int = 0, field: str = "mean") -> str:
    value = point[field]
    # Rounded here, because -0.04 would be printed as -0.0.
    return number(None if value is None else round(100 * value, 1) + 0.0, width=width)
