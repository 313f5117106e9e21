"""Whose signatures a command asks for: a file, the environment, or what the ledger keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SignersOption = Annotated[
    Path | None,
    typer.Option(
        "--signers",
        envvar="SEQEDIT_SIGNERS",
        help="Public keys, one per line (hex or ssh-ed25519), that must vouch for it. [default: the ledger's]",
    ),
]
AtLeastOption = Annotated[
    str | None,
    typer.Option("--at-least", help="Newest entry you know (12 digits or more): a history without it is refused."),
]
AllowOlderOption = Annotated[
    bool, typer.Option("--allow-older", help="With signers: also a state older than a signed one the ledger has.")
]


def trusted_signers(file: Path | None) -> dict[str, str] | None:
    """The keys of a signers file, or None where none was given."""
    from ledger.upkeep.signers import read_signers

    return None if file is None else read_signers(file)
