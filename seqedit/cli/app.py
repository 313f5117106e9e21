"""The command tree. Each module of verbs adds its own to it, when one of them is asked for (`seqedit.cli.verbs`)."""

from __future__ import annotations

from typing import Annotated

import typer

from seqedit.cli.terminal import say
from seqedit.cli.verbs import VerbGroup

app = typer.Typer(
    name="seqedit",
    cls=VerbGroup,
    help="Change what a language model knows, batch after batch: every batch an adapter, in a ledger, measured.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from seqedit.version import __version__

        say(f"seqedit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Options of every verb."""
