"""Verbs that begin and extend a ledger without computing: init, add."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_adapters, check_model_options
from seqedit.cli.defaults import with_defaults
from seqedit.cli.options import (
    AuthorOption,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    JsonOption,
    LedgerOption,
    MessageOption,
    ModelOption,
)
from seqedit.cli.output import default_place, open_ledger
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError


@app.command()
def init(
    model: ModelOption,
    ledger: LedgerOption = None,
    objects: Annotated[str | None, typer.Option(help="fsspec URL of the object store; needed with a database.")] = None,
    author: AuthorOption = "",
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Make an empty ledger for a model; the model is read once for its fingerprint.

    Example: seqedit init --model gpt2-xl --ledger my-ledger
    """
    from ledger import Ledger
    from ledger.database.places import has_ledger
    from ledger.url_secrets import is_url, without_password

    place = default_place(ledger)
    if is_url(place) and objects is None:  # before the model is read
        raise InputError("a ledger at a database URL needs --objects, the directory or URL of its object store")
    if has_ledger(place):
        raise InputError(f"{without_password(place)} holds a ledger already; choose another place")
    check_model_options(model, dtype, device)
    shown = without_password(place)
    if dry_run:
        from seqedit.models.unloaded import check_model

        check_model(model, dtype=dtype, device=device)
        plan = {"operation": "init", "ledger": shown, "model": model, "done": False}
        tell_planned(plan, [f"would make a ledger of {model} at {shown}"], json_)
        return
    from seqedit.adapters.base import BaseModel
    from seqedit.models.fingerprint import fingerprint
    from seqedit.models.loading import load_model

    loaded, _ = load_model(model, dtype=dtype, device=device)
    with Ledger.create(place, BaseModel(model, fingerprint(loaded)), objects=objects, author=author) as made:
        root = made.root()
        base = made.base_model
    if json_:
        print_json({"ledger": shown, "root": root, "model": base.name, "fingerprint": base.fingerprint})
    else:
        say(f"{shown}: ledger of {base.name} (fingerprint {base.fingerprint[:12]}), root {root[:12]}")


@app.command(cls=with_defaults("author"))
def add(
    adapters: Annotated[list[Path], typer.Argument(help="Adapter directories that `seqedit edit --out` wrote.")],
    ledger: LedgerOption = None,
    message: MessageOption = "",
    author: AuthorOption = "",
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Append finished adapters to the ledger, one entry each.

    Example: seqedit add my-edit -m "capitals of 2026"
    """
    made, told = [], []
    check_adapters(adapters)
    with open_ledger(ledger) as opened:
        from seqedit.adapters.adapter import Adapter

        # All are read and compared before the first is appended.
        found = [Adapter.from_pretrained(path) for path in adapters]
        first: dict[str, Path] = {}
        for path, adapter in zip(adapters, found, strict=True):
            if adapter.digest in first:
                raise InputError(f"{path} holds the adapter of {first[adapter.digest]} once more; give it once")
            first[adapter.digest] = path
        for path, adapter in zip(adapters, found, strict=True):
            opened.check_append(adapter)
            told.append([str(overlap) for overlap in opened.overlaps(adapter.requests)])
            if not json_:
                verb = "would add" if dry_run else "adding"
                say(f"{verb} {path}: {len(adapter.requests)} facts by {adapter.method.get('name')}", err=True)
                for line in told[-1]:
                    say(f"  {line}", err=True)
        if not dry_run:
            for path, adapter in zip(adapters, found, strict=True):
                text = message or f"{len(adapter.requests)} facts by {adapter.method.get('name')} ({path.name})"
                made.append(opened.append(adapter, message=text, author=author))
    if json_:
        print_json({"entries": [entry.id for entry in made], "overlaps": told, "done": not dry_run, "dry_run": dry_run})
        return
    for entry in made:
        say(f"{entry.id[:12]} {entry.message}")
