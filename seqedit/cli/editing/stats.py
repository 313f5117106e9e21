"""``seqedit stats``: second moments of the keys, measured into the cache or a file, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_model_options
from seqedit.cli.options import DeviceOption, DryRunOption, DtypeOption, JsonOption, ModelOption
from seqedit.cli.parallel import ranks_of
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError
from seqedit.support.config import coerce
from seqedit.text.plain_text import DEFAULT, TextSource


@app.command()
def stats(
    context: typer.Context,
    model: ModelOption,
    layers: Annotated[
        str | None, typer.Option(help="Layers, e.g. 1,2,3. [default: those of the model's preset, or all]")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help=f"Text file, JSONL, Parquet, saved dataset, or Hub dataset. [default: {DEFAULT}]"),
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of a dataset that holds the text.")] = "text",
    max_tokens: Annotated[int | None, typer.Option(help="Sample size in tokens. [default: 100000]")] = None,
    per_dimension: Annotated[
        float | None, typer.Option(help="Sample size in tokens per input dimension, instead of --max-tokens.")
    ] = None,
    sequence_length: Annotated[int, typer.Option(help="Tokens of one row.")] = 64,
    out: Annotated[Path | None, typer.Option(help="Safetensors file for --second-moments; must not exist.")] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Measure the second moments of a model's keys over plain text, and say how near to singular they are.

    They are kept in the cache, where edits of the model with the same text and sample size find them.

    Example: seqedit stats --model gpt2-xl --text corpus.txt --per-dimension 10 --out moments.safetensors
    """
    if max_tokens is not None and per_dimension is not None:
        raise InputError("--max-tokens and --per-dimension both set the sample size; give one of them")
    for name, value in (("--max-tokens", max_tokens), ("--sequence-length", sequence_length)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if per_dimension is not None and not 0 < per_dimension < float("inf"):
        raise InputError(f"--per-dimension must be a positive number, got {per_dimension:g}")
    if out is not None and out.exists():
        raise InputError(f"{out} exists; choose another --out")

    check_model_options(model, dtype, device)
    if text is not None:
        TextSource(text, text_column).check()
    if layers is not None:
        coerce("layers", layers, tuple[int, ...])

    from seqedit.editing.moment_stats import describe, plan_moments, run_plan
    from seqedit.moments.split import measure_with
    from seqedit.moments.store import write_second_moments
    from seqedit.parallel.ranks import Ranks

    ranks = ranks_of(context) or Ranks()
    loaded, tokenizer = ranks.load_model(model, dtype=dtype, device=device)
    plan = plan_moments(
        loaded, tokenizer, model, layers=layers, text=text, column=text_column, max_tokens=max_tokens or 100_000,
        per_dimension=per_dimension, sequence_length=sequence_length,
    )  # fmt: skip
    if dry_run:
        planned = {**plan.to_dict(), "out": None if out is None else str(out)}
        tell_planned(planned, _plan_lines(planned), json_)
        return
    moments = run_plan(loaded, tokenizer, plan, measure_with(ranks))
    found = {**describe(plan, moments), "out": None if out is None else str(out)}
    if out is not None:
        write_second_moments(out, moments)
    print_json(found) if json_ else _print(found)


def _plan_lines(planned: Mapping[str, Any]) -> list[str]:
    rows = f"{planned['max_tokens']:,} tokens of {planned['text']} in rows of {planned['sequence_length']}"
    lines = [f"would measure {rows}"]
    for module in planned["modules"]:
        state = "cached" if module["cached"] else f"to be measured, {module['bytes'] / 1e6:,.1f} MB"
        lines.append(f"layer {module['layer']:>3}  {module['module']}  d_in {module['d_in']:,}  {state}")
    lines.append(f"cache: {planned['cache']}")
    return [*lines, f"would write {planned['out']}"] if planned["out"] else lines


def _print(found: Mapping[str, Any]) -> None:
    say(f"{found['tokens']:,} tokens of {found['text']} in rows of {found['sequence_length']}")
    width = max(len(module["module"]) for module in found["modules"])
    heads = f"{'d_in':>7} {'per dim':>8} {'condition':>10} {'eff. rank':>10} {'shrinkage':>10}"
    say(f"layer {'module':{width}} {heads}")
    for module in found["modules"]:
        condition = "singular" if module["condition"] is None else f"{module['condition']:.2g}"
        shrinkage = f"{module['shrinkage']:.2g}" if module["shrinkage"] else "none"
        say(
            f"{module['layer']:>5} {module['module']:{width}} {module['d_in']:>7,} "
            f"{module['tokens_per_dimension']:>8.1f} {condition:>10} {module['effective_rank']:>10.1f} {shrinkage:>10}"
        )
    needed = max(module["shrinkage"] for module in found["modules"])
    if needed:
        say(f"near to singular: edit with --set shrinkage={needed:.2g} or more, or measure more text")
    say(f"--second-moments {found['out']}" if found["out"] else f"cache: {found['cache']}")
