"""The verb that names states for good: tag."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import AuthorOption, DryRunOption, JsonOption, LedgerOption
from seqedit.cli.output import open_ledger
from seqedit.cli.terminal import print_json, say
from seqedit.errors import InputError


@app.command()
def tag(
    name: Annotated[str | None, typer.Argument(help="Tag to make; without it, tags are listed.")] = None,
    rev: Annotated[str, typer.Argument(help="The state that it names.")] = "HEAD",
    message: Annotated[str, typer.Option("-m", "--message", "--reason", help="What is said of it.")] = "",
    delete: Annotated[bool, typer.Option("--delete", "-d", help="Delete the tag; its entries stay until gc.")] = False,
    force: Annotated[bool, typer.Option("--force", "-f", help="Move a tag that is there.")] = False,
    author: AuthorOption = "",
    ledger: LedgerOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """List tags, name a state by one, or delete one. A tag stays where it is, and gc keeps what it leads to.

    Example: seqedit tag 2032-04 HEAD -m "what was shipped in April"
    """
    with open_ledger(ledger) as opened:
        if name is None:
            if delete or force or message:
                raise InputError("give the name of a tag")
            there = opened.tags()
            if json_:
                print_json([asdict(one) for one in there])
                return
            for one in there:
                say(f"{one.name:<24} {one.entry[:12]} {one.time}  {one.message}".rstrip())
            return
        would = "would be " if dry_run else ""
        if delete:
            at = {one.name: one.entry for one in opened.tags()}.get(name) if dry_run else opened.delete_tag(name)
            if at is None:
                raise InputError(f"no tag '{name}' (there are: {', '.join(t.name for t in opened.tags()) or 'none'})")
            told = f"{name} {would}deleted (was at {at[:12]})"
        else:
            at = opened.check_tag(name, rev, force=force)
            if not dry_run:
                opened.tag(name, at, message=message, author=author, force=force)
            told = f"{name} {would}at {at[:12]}"
    if json_:
        made = {"name": name, "entry": at, "message": message, "deleted": delete, "done": not dry_run}
        print_json({**made, **({"dry_run": True} if dry_run else {})})
    else:
        say(told)
