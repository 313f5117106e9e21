"""``seqedit audit``: what the weights of an adapter give away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_model_options
from seqedit.cli.options import (
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelOption,
    SecondMomentsOption,
    TemplateSeedOption,
)
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError
from seqedit.text.plain_text import DEFAULT


@app.command()
def audit(
    adapter: Annotated[Path, typer.Argument(help="Adapter folder; with seqedit.json in it or as a plain LoRA.")],
    candidates: Annotated[Path, typer.Option(help="Names, one a line (.txt), or a fact file whose subjects they are.")],
    model: ModelOption,
    before: Annotated[
        Path | None, typer.Option(help="The adapter before it was camouflaged, whose record says what was edited.")
    ] = None,
    prompts: Annotated[
        str, typer.Option(help="bare: keys of the names alone; own: at each fact's own prompt, as if it were known.")
    ] = "bare",
    second_moments: SecondMomentsOption = None,
    text: Annotated[str | None, typer.Option(help=f"Text to measure second moments on. [default: {DEFAULT}]")] = None,
    plain_metric: Annotated[
        bool, typer.Option("--plain-metric", help="Without second moments: C0 is the identity. Weaker, needs no text.")
    ] = False,
    seed: TemplateSeedOption = 0,
    top: Annotated[int, typer.Option(help="Show only so many candidates.")] = 10,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    json_: JsonOption = False,
) -> None:
    """Tell from an adapter's weights alone which subjects it was made for: what somebody can read from a shipped one.

    The record beside the weights names the facts anyway; this is about weights that are shipped without it.

    Examples: seqedit audit my-edit --candidates names.txt --model gpt2-xl --text corpus.txt
              seqedit audit my-state --before my-edit --candidates names.txt --model gpt2-xl --text corpus.txt
    """
    if prompts not in ("bare", "own"):
        raise InputError(f"--prompts must be bare or own, got '{prompts}'")
    if top < 0:
        raise InputError(f"--top must not be negative, got {top}")
    if plain_metric and (text is not None or second_moments is not None):
        raise InputError("--plain-metric needs neither --text nor --second-moments; leave it or them out")
    check_model_options(model, dtype, device)

    from seqedit.adapters.file_names import CONFIG
    from seqedit.adapters.sidecar import read_json
    from seqedit.editing.loading import Loading
    from seqedit.leakage.subjects import NAMES, load_candidates

    for given in (adapter, *(() if before is None else (before,))):
        read_json(given / CONFIG)  # that it is an adapter, before anything is imported that could read it
    named = load_candidates(candidates)
    if prompts == "own" and candidates.suffix.lower() in NAMES:
        raise InputError(f"{candidates} holds names alone; --prompts own needs a fact file, whose prompts it takes")
    loading = Loading(model, second_moments, text, None, seed, dtype, device, None)

    from seqedit.leakage.update import read_update

    update = read_update(adapter)
    plain = None if before is None else read_update(before)

    from seqedit.editing.one_batch import open_editor
    from seqedit.leakage.audit import audit_update

    editor = open_editor(loading)
    if plain_metric:
        editor.moments = None
    found = audit_update(editor, update, named, own_prompts=prompts == "own", before=plain)
    if json_:
        print_json(found.to_dict())
    else:
        for line in found.lines(top):
            say(line)
