"""``seqedit edit``: one batch of requests, one adapter directory, no ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.errors import InputError
from seqedit.texts import DEFAULT


@app.command()
def edit(
    model: Annotated[str, typer.Option(help="Hub id, local directory, or demo-gpt2 / demo-llama.")],
    requests: Annotated[str, typer.Option(help="CounterFact, EasyEdit, zsRE or JSONL file, or a Hub dataset.")],
    method: Annotated[str, typer.Option(help="Editing method: rome, emmet, memit, pmet, alphaedit.")],
    out: Annotated[Path, typer.Option(help="Adapter directory to write; must not exist or be empty.")],
    preset: Annotated[str | None, typer.Option(help="Shipped settings to start from (e.g. gpt2-xl).")] = None,
    hparams: Annotated[Path | None, typer.Option(help="Hyperparameter file (ours, MEMIT's or EasyEdit's).")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Set one field.")] = None,
    layers: Annotated[str | None, typer.Option(help="Layers to edit, e.g. 1,2,3.")] = None,
    spread: Annotated[str | None, typer.Option(help="single, even or sqrt.")] = None,
    second_moments: Annotated[Path | None, typer.Option(help="Safetensors, one matrix per module name.")] = None,
    text: Annotated[str | None, typer.Option(help=f"Text to measure second moments on. [default: {DEFAULT}]")] = None,
    context_templates: Annotated[Path | None, typer.Option(help="JSON, a list of lists of strings.")] = None,
    limit: Annotated[int | None, typer.Option(help="Take only the first requests.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the context templates.")] = 0,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
) -> None:
    """Compute one batch of edits and write it as an adapter that stock PEFT loads.

    Example: seqedit edit --model gpt2-xl --requests facts.json --method emmet --preset gpt2-xl --out my-edit
    """
    from seqedit.loaders import load_records
    from seqedit.requests import check_batch, requests_of
    from seqedit.settings import method_config

    # Everything that can be wrong in the input is found before the model is loaded, and before anything is written.
    config = method_config(method, preset=preset, hparams=hparams, assignments=set_ or [], layers=layers, spread=spread)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not an empty directory; choose another --out")
    batch = requests_of(load_records(requests, limit=limit))
    check_batch(batch)
    templates = _read_templates(context_templates) if context_templates else None

    from seqedit.one_batch import edit_one_batch

    adapter = edit_one_batch(
        model, batch, method, config,
        second_moments=second_moments, text=text, context_templates=templates, seed=seed, dtype=dtype, device=device,
    )  # fmt: skip
    adapter.save_pretrained(out)
    ranks = {delta.rank for delta in adapter.deltas.values()}
    typer.echo(
        f"{out}: {len(batch)} requests by {method}, {len(adapter.deltas)} layers, rank {max(ranks)}, "
        f"digest {adapter.digest[:12]}",
        err=True,
    )


def _read_templates(path: Path) -> list[list[str]]:
    from seqedit.lookup import check_context_templates

    try:
        data: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    try:
        return [list(group) for group in check_context_templates(data)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
