"""``seqedit edit``: one batch of requests, as an adapter directory or as a ledger's next entry."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.options import (
    AuthorOption,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    HparamsOption,
    JsonOption,
    LayersOption,
    LedgerOption,
    MessageOption,
    PresetOption,
    SecondMomentsOption,
    SetOption,
    TemplateSeedOption,
    ZsreOption,
)
from seqedit.cli.output import default_place, open_ledger
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say
from seqedit.errors import CheckFailed, InputError
from seqedit.text.plain_text import DEFAULT

if TYPE_CHECKING:
    from seqedit.adapters.adapter import Adapter
    from seqedit.editing.loading import Loading
    from seqedit.editing.rule import Settled
    from seqedit.editing.settings import Given
    from seqedit.facts.requests import Request


@app.command()
def edit(
    context: typer.Context,
    requests: Annotated[str, typer.Option(help="CounterFact, EasyEdit, zsRE or JSONL file, or a Hub dataset.")],
    method: Annotated[str, typer.Option(help="Editing method: rome, emmet, memit, pmet, alphaedit.")],
    model: Annotated[
        str | None, typer.Option(help="Hub id, local directory, or demo-gpt2 / demo-llama. [default: the ledger's]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Adapter directory to write; must not exist or be empty.")] = None,
    ledger: LedgerOption = None,
    preset: PresetOption = None,
    hparams: HparamsOption = None,
    set_: SetOption = None,
    layers: LayersOption = None,
    spread: Annotated[str | None, typer.Option(help="single, even or sqrt.")] = None,
    second_moments: SecondMomentsOption = None,
    text: Annotated[str | None, typer.Option(help=f"Text to measure second moments on. [default: {DEFAULT}]")] = None,
    context_templates: Annotated[Path | None, typer.Option(help="JSON, a list of lists of strings.")] = None,
    zsre: ZsreOption = "mend",
    limit: Annotated[int | None, typer.Option(help="Take only the first requests.")] = None,
    message: MessageOption = "",
    author: AuthorOption = "",
    seed: TemplateSeedOption = 0,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing, and exit with 1, where the edit cannot have taken.")
    ] = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Compute one batch of edits: an adapter that stock PEFT loads (--out), or else the next entry of a ledger.

    Example: seqedit edit --model gpt2-xl --requests facts.json --method emmet --preset gpt2-xl --out my-edit
    """
    from ledger.database.places import has_ledger
    from seqedit.editing.loading import Loading
    from seqedit.editing.settings import MethodChoice
    from seqedit.facts.loading import load_records
    from seqedit.facts.requests import check_batch, requests_of
    from seqedit.support.files import check_new

    # Everything that can be wrong in the input is found before the model is loaded, and before anything is written.
    choice = MethodChoice(method, preset, hparams, assignments=tuple(set_ or ()), layers=layers, spread=spread)
    config = choice.partial(method)
    # Which click typer brings, and so the source's type, differs between its versions.
    given = getattr(context.get_parameter_source("ledger"), "name", "") == "COMMANDLINE"
    place = default_place(ledger)
    if (out is not None and given) or (out is None and ledger is None and not has_ledger(place)):
        raise InputError("give either --out DIR for an adapter alone, or --ledger PLACE for the next entry of a ledger")
    if out is not None and model is None:
        raise InputError("--out needs --model")
    if out is not None:
        check_new(out)
    batch = requests_of(load_records(requests, limit=limit, zsre=zsre))
    check_batch(batch)
    templates = read_templates(context_templates) if context_templates else None

    order = _Order(batch, method, config, message or f"{len(batch)} facts by {method}", author, strict, dry_run, json_)
    loading = Loading(model, second_moments, text, templates, seed, dtype, device, ranks_of(context))
    if out is None:
        _edit_ledger(place, order, loading)
    else:
        _edit_alone(out, order, loading)


@dataclass(frozen=True)
class _Order:
    """What is to be edited, and how it is recorded and told."""

    batch: list[Request]
    method: str
    config: Given
    message: str
    author: str
    strict: bool
    dry_run: bool
    json: bool


def _edit_alone(out: Path, order: _Order, loading: Loading) -> None:
    if order.dry_run:
        _tell({"operation": "edit", "out": str(out)}, order, str(loading.model), [])
        return
    from seqedit.editing.one_batch import edit_one_batch

    settled: list[Settled] = []

    def told(found: Settled) -> None:
        tell_settled(found)
        settled.append(found)

    adapter = edit_one_batch(loading, order.batch, order.method, order.config, told=told)
    _check(adapter, order.strict)
    adapter.save_pretrained(out)
    rank = max(delta.rank for delta in adapter.deltas.values())
    if order.json:
        print_json({"out": str(out), "digest": adapter.digest, "requests": len(order.batch), "rank": rank,
                    "diagnosis": adapter.provenance["diagnosis"], **_settled(settled[0])})  # fmt: skip
        return
    say(
        f"{out}: {len(order.batch)} requests by {order.method}, {len(adapter.deltas)} layers, rank {rank}, "
        f"digest {adapter.digest[:12]}",
        err=True,
    )


def _edit_ledger(place: str, order: _Order, loading: Loading) -> None:
    with open_ledger(place) as opened:
        overlaps = [str(overlap) for overlap in opened.overlaps(order.batch)]
        if order.dry_run:
            plan = {"operation": "edit", "branch": opened.branch()}
            _tell(plan, order, loading.model or opened.base_model.name, overlaps)
            return
        for line in overlaps:  # before minutes are spent
            say(line, err=True)
        from seqedit.editing.rule import settle
        from seqedit.scoring.kinds import KIND_DIAGNOSIS
        from seqedit.session.opening import open_session

        session = open_session(opened, loading)
        session.check_unmoved()  # before minutes are spent
        settled = settle(order.config, session.editor)
        tell_settled(settled)
        entry = session.edit(
            order.batch, order.method, settled.config, message=order.message, author=order.author,
            check=lambda adapter: _check(adapter, order.strict), noted=settled.provenance(),
        )  # fmt: skip
        diagnosis = opened.scores(entry.id, KIND_DIAGNOSIS)[KIND_DIAGNOSIS]
    if order.json:
        print_json({"id": entry.id, "adapter": entry.adapter, "requests": len(order.batch), "overlaps": overlaps,
                    "diagnosis": diagnosis, **_settled(settled)})  # fmt: skip
    else:
        say(f"{entry.id[:12]} {entry.message}")


def tell_settled(settled: Settled) -> None:
    """Say where settings that were not given came from, and what speaks against them."""
    for line in (*settled.notes, *(f"warning: {text}" for text in settled.warnings)):
        say(line, err=True)


def _settled(settled: Settled) -> dict[str, Any]:
    """Where settings that were not given came from, as JSON types."""
    return {**settled.provenance(), "warnings": list(settled.warnings)}


def _check(adapter: Adapter, strict: bool) -> None:
    """Say how the edit went, before it is written; with ``strict``, refuse one that cannot have taken."""
    from seqedit.editing.diagnosis import line_of

    found = adapter.provenance["diagnosis"]
    say(line_of(found), err=True)
    faults = [fault["text"] for fault in found["faults"]]
    for text in faults:
        say(f"warning: {text}", err=True)
    if strict and faults:
        raise CheckFailed(f"nothing was written: {'; '.join(faults)}")


def _tell(plan: dict[str, Any], order: _Order, model: str, overlaps: list[str]) -> None:
    from seqedit.editing.preset_model import preset_warning
    from seqedit.editing.rule import planned
    from seqedit.editing.settings import BY_RULE
    from seqedit.runs.plans import bytes_on, empty_anatomy, plan_lines

    parts = empty_anatomy(model)
    chosen, ruled = planned(order.config, parts)
    warning = preset_warning(None if order.config.preset == BY_RULE else order.config.preset, parts, model)
    plan |= {
        "method": order.method, "settings": {**chosen.to_dict(), **dict.fromkeys(ruled)},
        "layers": list(chosen.layers), "overlaps": overlaps, "facts": [request.to_dict() for request in order.batch],
        "adapter_bytes": bytes_on(model, chosen, len(order.batch)), "by_rule": list(ruled),
        "warnings": [] if warning is None else [warning],
    }  # fmt: skip
    if warning is not None:
        say(f"warning: {warning}", err=True)
    if order.json:
        print_json(plan)
        return
    for line in plan_lines(plan):
        say(line)


def read_templates(path: Path) -> list[list[str]]:
    """Groups of context templates from a JSON file.

    Raises:
        InputError: names the file and what does not fit.
    """
    from seqedit.text.lookup import check_context_templates

    try:
        data: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error
    try:
        return [list(group) for group in check_context_templates(data)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
