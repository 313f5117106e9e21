"""Verbs that write a state as something others load, and read it back: export, import."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seqedit.cli.app import app
from seqedit.cli.defaults import with_defaults
from seqedit.cli.options import (
    DeviceOption,
    DryRunOption,
    DtypeOption,
    JsonOption,
    LedgerOption,
    MeasureOption,
    MovedModelOption,
    RevisionArgument,
    SecondMomentsOption,
)
from seqedit.cli.output import default_place, open_ledger
from seqedit.cli.shipping.costs import print_camouflage, print_truncation
from seqedit.cli.shipping.hiding import (
    CamouflageOption,
    DecoysOption,
    DrawOption,
    Hiding,
    StrengthOption,
    camouflage_result,
    camouflaged,
    hiding,
)
from seqedit.cli.terminal import print_json, say
from seqedit.cli.trust import AllowOlderOption, AtLeastOption, SignersOption, trusted_signers
from seqedit.errors import InputError
from seqedit.support.printable import plain
from seqedit.text.plain_text import DEFAULT

if TYPE_CHECKING:
    from ledger import Ledger
    from ledger.bundles.import_bundle import Imported
    from seqedit.editing.loading import Loading
    from seqedit.facts.requests import Record
    from seqedit.models.edited import EditedModel
    from seqedit.shipping.export import Exported

BaseOption = Annotated[
    str | None,
    typer.Option("--base-name", help="Hub id of the base model for adapter and card, where the ledger has a path."),
]
RankOption = Annotated[int | None, typer.Option(help="Truncate to this rank and print what that costs.")]
RecordsOption = Annotated[
    str | None, typer.Option(help="Records to measure a truncation or camouflage on. [default: the facts]")
]
ScoresOption = Annotated[bool, typer.Option("--scores/--no-scores", help="Recorded scores go with a bundle.")]
BranchOption = Annotated[str | None, typer.Option(help="Branch to extend; made where there is none. [default: HEAD's]")]
ObjectsOption = Annotated[str | None, typer.Option(help="Object store of a new ledger at a database URL.")]


class Format(StrEnum):
    """What a state can be exported as."""

    PEFT = "peft"
    MERGED = "merged"
    BUNDLE = "bundle"


@app.command(cls=with_defaults("model", "second_moments", "text", "dtype", "device"))
def export(
    format_: Annotated[Format, typer.Option("--format", help="peft: an adapter; merged: a model; bundle: one file.")],
    out: Annotated[Path, typer.Option(help="Directory to write; with --format bundle the file.")],
    rev: RevisionArgument = "HEAD",
    ledger: LedgerOption = None,
    entry: Annotated[
        bool, typer.Option("--entry", help="Only the adapter of this entry, not the whole state.")
    ] = False,
    rank: RankOption = None,
    camouflage: CamouflageOption = None,
    camouflage_strength: StrengthOption = None,
    decoys: DecoysOption = None,
    camouflage_seed: DrawOption = None,
    model: MovedModelOption = None,
    second_moments: SecondMomentsOption = None,
    text: Annotated[
        str | None, typer.Option(help=f"Text to measure a camouflage's second moments on. [default: {DEFAULT}]")
    ] = None,
    records: RecordsOption = None,
    measure: MeasureOption = True,
    scores: ScoresOption = True,
    base_name: BaseOption = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    signers: SignersOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Write a state, or one entry, as a stock PEFT adapter, a full model, or a bundle for another ledger.

    Examples: seqedit export --format peft --out my-state --rank 32
              seqedit export HEAD~2 --format merged --out my-model
              seqedit export --format bundle --out history.zip
              seqedit export --format peft --out my-state --camouflage 4 --decoys names.txt
    """
    from seqedit.editing.loading import Loading

    asked = hiding(camouflage, camouflage_strength, decoys, camouflage_seed)
    check_options(format_, entry=entry, rank=rank, records=records, asked=asked)
    loading = Loading(model, second_moments, text, dtype=dtype, device=device)
    trusted = trusted_signers(signers)
    check_records(records)
    with open_ledger(ledger) as opened:
        opened.signers = opened.kept_signers() if trusted is None else trusted
        opened.check_signed(rev)
        if format_ is Format.BUNDLE:
            result = _bundle(opened, rev, out, entry=entry, scores=scores, dry_run=dry_run)
        elif format_ is Format.MERGED:
            result = _merged(opened, rev, out, loading, base_name, dry_run=dry_run)
        else:
            how = _How(loading, entry, rank, base_name, records, measure, asked)
            result = _adapter(opened, rev, out, how, dry_run=dry_run)
    print_result({"format": str(format_), "out": str(out), **result}, json_, dry_run)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A bundle, as `export --format bundle` writes it.")],
    ledger: LedgerOption = None,
    branch: BranchOption = None,
    objects: ObjectsOption = None,
    signers: SignersOption = None,
    at_least: AtLeastOption = None,
    allow_older: AllowOlderOption = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Check a bundle and add what the ledger lacks of it; without a ledger make one.

    Example: seqedit import history.zip --ledger my-ledger
    """
    from ledger.bundles.import_bundle import import_bundle

    imported = import_bundle(
        default_place(ledger), file, branch=branch, objects=objects, dry_run=dry_run,
        signers=trusted_signers(signers), at_least=at_least, allow_older=allow_older,
    )  # fmt: skip
    print_result(imported_result(imported, ledger), json_, dry_run)


def check_options(
    format_: Format, *, entry: bool, rank: int | None, records: str | None, asked: Hiding | None = None
) -> None:
    if asked is not None:
        if format_ is Format.BUNDLE:
            raise InputError("a bundle names every fact in its entries, which no camouflage hides; ship an adapter")
        if format_ is Format.MERGED:
            raise InputError("--camouflage is for --format peft; merge what it writes with PEFT's merge_and_unload")
        if rank is not None:
            raise InputError(
                "--rank changes what is written at the edited keys, --camouflage keeps it; give one of them"
            )
    if format_ is not Format.PEFT and rank is not None:
        raise InputError(f"--rank truncates an adapter; --format {format_} loses nothing")
    if format_ is Format.MERGED and entry:
        raise InputError("--entry exports one adapter; a merged model is that of a state")
    if records is not None and rank is None and asked is None:
        raise InputError("--records measures what a truncation costs; give --rank too")
    if rank is not None and rank < 1:
        raise InputError(f"--rank must be at least 1, got {rank}")


def check_records(records: str | None) -> None:
    """Refuse records that cannot be read, before anything is exported."""
    if records is not None:
        from seqedit.facts.loading import read_facts

        read_facts(records, offer=False)


def _bundle(opened: Ledger, rev: str, out: Path, *, entry: bool, scores: bool, dry_run: bool) -> dict[str, Any]:
    from ledger.bundles.write import check_new_bundle, plan_bundle, write_bundle

    check_new_bundle(out)
    plan = plan_bundle(opened, rev, single=entry, scores=scores)
    if not dry_run:
        write_bundle(opened, plan, out)
    return {
        "kind": plan.kind,
        "tip": plan.tip,
        "entries": len(plan.entries),
        "objects": len(plan.objects),
        "bytes": plan.object_bytes if dry_run else out.stat().st_size,
    }


def _merged(
    opened: Ledger, rev: str, out: Path, loading: Loading, base_name: str | None, *, dry_run: bool
) -> dict[str, Any]:
    from seqedit.shipping.export import check_new, write_merged

    check_new(out)
    entries = opened.active(rev)
    if dry_run:
        loading.check(opened.base_model.name)
    else:
        write_merged(opened, rev, loading.load(opened.base_model.name), out, base_name=base_name)
    return {"state": opened.resolve(rev), "model": loading.model or opened.base_model.name, "entries": len(entries)}


@dataclass(frozen=True)
class _How:
    """How an adapter is to be written: the options of `export` that are about one."""

    loading: Loading
    entry: bool
    rank: int | None
    base_name: str | None
    records: str | None
    measure: bool
    asked: Hiding | None


def _adapter(opened: Ledger, rev: str, out: Path, how: _How, *, dry_run: bool) -> dict[str, Any]:
    from seqedit.shipping.export import base_hint, check_new, export_adapter, write_adapter

    check_new(out)
    exported = export_adapter(opened, rev, single=how.entry, rank=how.rank, base_name=how.base_name)
    changed = how.rank is not None or how.asked is not None
    needed = how.asked is not None or (how.measure and (changed or not dry_run))
    edited = base_at_hand(opened, how.loading) if needed else None
    if how.asked is not None:
        exported = camouflaged(opened, exported, edited, how.loading, how.asked)
    if changed and how.measure:
        exported = measured(exported, edited, how.records)
    hint = base_hint(exported.adapter)
    if hint is not None:
        say(f"warning: {hint}", err=True)
    if not dry_run:
        write_adapter(exported, out, edited=edited)
    result = adapter_result(exported)
    return result if how.asked is None else {**result, "camouflage": camouflage_result(exported, how.asked)}


def base_at_hand(opened: Ledger, loading: Loading) -> EditedModel | None:
    """The ledger's base model, to try an adapter on; without --model only where it lies on this machine.

    What lies there may have changed since, which is no reason not to export: then a notice says so.
    """
    from seqedit.models.loading import resolve_model
    from seqedit.shipping.export import check_base

    name = opened.base_model.name
    try:
        if loading.model is None and not Path(resolve_model(name)).is_dir():
            raise InputError("it is not on this machine")
        edited = loading.load(name)
        check_base(opened.base_model, edited.base_model)
    except InputError as error:
        if loading.model is not None:
            raise
        say(f"the adapter is not tried on its base model ({name}): {error}; give --model", err=True)
        return None
    return edited


def measured(exported: Exported, edited: EditedModel | None, records: str | None) -> Exported:
    """The export with measured scores, where the base model is at hand."""
    from seqedit.shipping.truncation import measure_effect, records_for

    if edited is None:  # as a notice has said
        return exported
    chosen: list[Record] | None = None
    if records is not None:
        from seqedit.facts.loading import load_records

        chosen = load_records(records)
    wanted = records_for(exported.exact.requests, chosen)
    return measure_effect(exported, edited, wanted)


def adapter_result(exported: Exported) -> dict[str, Any]:
    from seqedit.shipping.export import adapter_size, kinds

    rank, size = adapter_size(exported.adapter)
    truncation = exported.shipped.truncation
    return {
        "state": exported.shipped.rev,
        "entries": len(exported.shipped.entries),
        "facts": len(exported.exact.requests),
        "base_model": exported.adapter.base_model.name,
        "digest": exported.adapter.digest,
        "modules": kinds(exported.adapter),
        "rank": rank,
        "bytes": size,
        "truncation": None if truncation is None else asdict(truncation),
    }


def imported_result(imported: Imported, ledger: str | None) -> dict[str, Any]:
    from ledger.url_secrets import without_password

    return {"ledger": without_password(default_place(ledger)), **asdict(imported)}


def print_result(result: dict[str, Any], json_: bool, dry_run: bool) -> None:
    """The result as JSON, or line by line."""
    if json_:
        print_json({**result, "dry_run": dry_run})
        return
    if dry_run:
        say("dry run: nothing is written", err=True)
    for name, value in result.items():
        if name == "truncation":
            print_truncation(value)
        elif name == "camouflage":
            print_camouflage(value)
        elif isinstance(value, dict):
            say(f"{name}")
            for key, item in value.items():
                say(f"  {key}: {plain(item)}")
        elif value is not None:
            say(f"{name}: {plain(value)}")
