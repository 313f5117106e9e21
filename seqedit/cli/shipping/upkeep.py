"""Verbs that look after a ledger: gc, sign, signers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import DryRunOption, JsonOption, LedgerOption, RevisionArgument
from seqedit.cli.output import open_ledger
from seqedit.cli.planned import tell_planned
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError


@app.command()
def gc(
    ledger: LedgerOption = None,
    keep_days: Annotated[
        float, typer.Option(min=0, help="How long entries stay that only the reflog leads to, in days.")
    ] = 90.0,
    prune_now: Annotated[bool, typer.Option("--prune-now", help="The reflog keeps nothing.")] = False,
    grace: Annotated[
        float, typer.Option(min=0, help="Unused files younger than this many hours stay; a writer may need them.")
    ] = 1.0,
    all_registered: Annotated[
        bool,
        typer.Option(
            "--all-registered",
            help="Every ledger that uses the object store is registered with it; asked once for a store of old.",
        ),
    ] = False,
    forget_ledger: Annotated[
        list[str] | None,
        typer.Option(help="First unregister a ledger that is gone for good from the object store; repeatable."),
    ] = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Remove entries and objects that nothing leads to, and what interrupted writers left behind.

    Example: seqedit gc --dry-run
    """
    from ledger.url_secrets import without_password

    forgotten: list[str] = []
    with open_ledger(ledger) as opened:
        for place in forget_ledger or ():
            forgotten += opened.forget_user(place, dry_run=dry_run)
            say(f"{'would forget' if dry_run else 'forgot'} the ledger {without_password(place)}", err=True)
        found = opened.gc(
            keep_days=None if prune_now else keep_days,
            grace=grace * 3600,
            dry_run=dry_run,
            all_registered=all_registered,
            without=forgotten,
        )
    if json_:
        print_json(
            {
                "dry_run": dry_run,
                "forgotten": forgotten,
                "entries": [vars(entry) for entry in found.entries],
                "objects": [vars(files) for files in found.objects],
                "temporary": [vars(files) for files in found.temporary],
                "young": found.young,
                "unsure": found.unsure,
                "bytes": found.size,
            }
        )
        return
    for entry in found.entries:
        say(f"entry {entry.id[:12]} {entry.operation:<6} {entry.message}".rstrip())
    for kind, items in (("object", found.objects), ("temporary", found.temporary)):
        for files in items:
            say(f"{kind} {files.path} {files.size:,} bytes")
    say(
        f"{'would remove' if dry_run else 'removed'} {len(found.entries)} entries, {len(found.objects)} objects and "
        f"{len(found.temporary)} temporary files, {found.size:,} bytes"
    )
    if found.young:
        say(f"{found.young} unused objects or files are younger than {grace:g} hours and stay", err=True)
    if found.unsure:
        say(
            f"{found.unsure} unused objects stay: the object store is older than its list of ledgers, so others may "
            "need them. Run `seqedit gc` once on each other ledger that uses it, then `seqedit gc --all-registered`",
            err=True,
        )


@app.command()
def sign(
    rev: RevisionArgument = "HEAD",
    ledger: LedgerOption = None,
    key: Annotated[Path | None, typer.Option(help="Private ed25519 key: PEM, or OpenSSH's format.")] = None,
    new_key: Annotated[Path | None, typer.Option(help="Make a key file and print its public key.")] = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Sign an entry, and with it everything before it; `verify --signers FILE` checks signatures.

    Example: seqedit sign HEAD --key ~/.config/seqedit/key.pem
    """
    from ledger.upkeep import signing

    if (key is None) == (new_key is None):
        raise InputError("give either --key FILE to sign with, or --new-key FILE to make a key")
    if new_key is not None:
        if dry_run:
            signing.check_new_key(new_key)
            said = f"would make a key in {new_key}"
            tell_planned({"operation": "sign", "new_key": str(new_key)}, [said], json_)
            return
        public = signing.new_key(new_key)
        print_json({"key": public}) if json_ else say(public)
        say(f"{new_key} is the private key: keep it to yourself, and give out the line above", err=True)
        return
    assert key is not None
    private = signing.load_key(key)
    with open_ledger(ledger) as opened:
        signature, new = opened.sign(rev, private, dry_run=dry_run)
    if json_:
        print_json({"entry": signature.entry, "key": signature.key, "new": new, "dry_run": dry_run})
        return
    done = "was signed already:" if not new else "would sign" if dry_run else "signed"
    say(f"{done} {signature.entry[:12]} with key {signature.key[:12]}")


@app.command()
def signers(
    ledger: LedgerOption = None,
    set_: Annotated[Path | None, typer.Option("--set", help="Keep the public keys of this file.")] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Keep none any more.")] = False,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Show or set the public keys that verify, import, pull, export and push ask for where --signers is not given.

    They stand in the ledger's database: a reminder, which whoever writes the ledger can change. Where that matters,
    keep the file elsewhere and give --signers, or name it in SEQEDIT_SIGNERS.

    Example: seqedit signers --set team-keys
    """
    from ledger.upkeep.signers import read_signers

    if set_ is not None and clear:
        raise InputError("give either --set FILE or --clear")
    wanted = None if set_ is None else read_signers(set_)
    with open_ledger(ledger) as opened:
        if wanted is not None or clear:
            found = wanted
            if not dry_run:
                opened.keep_signers(wanted)
        else:
            found = opened.kept_signers()
    if json_:
        print_json({"signers": found, "dry_run": dry_run})
        return
    for key, name in sorted((found or {}).items()):
        say(f"{key} {name}")
    if not found:
        say("the ledger keeps no signers: signatures are asked for with --signers only", err=True)
