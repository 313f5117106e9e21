"""Verbs on the HuggingFace Hub: push, pull."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.checks import check_repository
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
)
from seqedit.cli.output import default_place, open_ledger
from seqedit.cli.shipping.ship import (
    BaseOption,
    BranchOption,
    Format,
    ObjectsOption,
    RankOption,
    RecordsOption,
    ScoresOption,
    adapter_result,
    base_at_hand,
    check_options,
    check_records,
    imported_result,
    measured,
    print_result,
)
from seqedit.cli.terminal import say
from seqedit.cli.trust import AllowOlderOption, AtLeastOption, SignersOption, trusted_signers


@app.command(cls=with_defaults("model", "dtype", "device"))
def push(
    repository: Annotated[str, typer.Argument(help="Hub repository, e.g. me/edits; made where there is none.")],
    rev: RevisionArgument = "HEAD",
    ledger: LedgerOption = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch of the repository; made where there is none.")] = None,
    message: Annotated[str | None, typer.Option("-m", "--message", help="Message of the commit.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also where the repository has another history.")] = False,
    rank: RankOption = None,
    model: MovedModelOption = None,
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
    """Publish a state on the HuggingFace Hub: a stock PEFT adapter with its card, and the history for `pull`.

    Log in first with `hf auth login`, or set HF_TOKEN.

    Example: seqedit push me/edits --private --base-name me/base-model
    """
    from seqedit.editing.loading import Loading

    check_options(Format.PEFT, entry=False, rank=rank, records=records)
    trusted = trusted_signers(signers)
    check_repository(repository)
    check_records(records)
    loading = Loading(model, dtype=dtype, device=device)
    with open_ledger(ledger) as opened:
        opened.signers = opened.kept_signers() if trusted is None else trusted
        opened.check_signed(rev)

        from seqedit.shipping.export import export_adapter
        from seqedit.shipping.hub import push_state

        exported = export_adapter(opened, rev, rank=rank, base_name=base_name)
        if rank is not None and measure:
            exported = measured(exported, base_at_hand(opened, loading), records)
        pushed = push_state(
            opened, exported, repository,
            private=private, revision=revision, message=message, scores=scores, force=force, dry_run=dry_run,
        )  # fmt: skip
    told = asdict(pushed)
    if pushed.not_looked is None:
        del told["not_looked"]
    elif not json_:
        say(f"not looked at {told['repository']}: {told.pop('not_looked')}", err=True)
    print_result({**told, **adapter_result(exported)}, json_, dry_run)


@app.command()
def pull(
    repository: Annotated[str, typer.Argument(help="Hub repository that `push` wrote.")],
    ledger: LedgerOption = None,
    branch: BranchOption = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the repository.")] = None,
    objects: ObjectsOption = None,
    signers: SignersOption = None,
    at_least: AtLeastOption = None,
    allow_older: AllowOlderOption = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Fetch the history that a Hub repository holds, check it, and add what the ledger lacks of it.

    Example: seqedit pull me/edits --ledger my-ledger
    """
    trusted = trusted_signers(signers)
    check_repository(repository)

    from ledger.bundles.import_bundle import import_bundle
    from seqedit.shipping.hub import fetch_bundle

    with fetch_bundle(repository, revision=revision) as file:
        imported = import_bundle(
            default_place(ledger), file, branch=branch, objects=objects, dry_run=dry_run,
            signers=trusted, at_least=at_least, allow_older=allow_older,
        )  # fmt: skip
    print_result({"repository": repository, **imported_result(imported, ledger)}, json_, dry_run)
