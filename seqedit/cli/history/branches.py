"""Verbs on branches: branch, checkout, reset, reflog, undo. None needs a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import DryRunOption, JsonOption, LedgerOption, MoveMessageOption
from seqedit.cli.output import open_ledger
from seqedit.cli.terminal import print_json, say
from seqedit.cli.trust import SignersOption, trusted_signers
from seqedit.errors import InputError


@app.command()
def branch(
    name: Annotated[str | None, typer.Argument(help="Branch to make; without it, branches are listed.")] = None,
    rev: Annotated[str, typer.Argument(help="Where it starts.")] = "HEAD",
    delete: Annotated[
        bool, typer.Option("--delete", "-d", help="Delete the branch; its entries stay until gc.")
    ] = False,
    ledger: LedgerOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """List branches, make one, or delete one.

    Example: seqedit branch experiment HEAD~2
    """
    with open_ledger(ledger) as opened:
        if name is None:
            if delete:
                raise InputError("--delete needs the name of a branch")
            current, there = opened.branch(), opened.branches()
            if json_:
                print_json({"current": current, "branches": there})
                return
            for each, entry in there.items():
                say(f"{'*' if each == current else ' '} {each:<24} {entry[:12]}")
            return
        would = "would be " if dry_run else ""
        if delete:
            at = opened.check_delete_branch(name) if dry_run else opened.delete_branch(name)
            say(f"{name} {would}deleted (was at {at[:12]})", err=json_)
        else:
            at = opened.check_branch(name, rev)
            if not dry_run:
                opened.start_branch(name, at)
            say(f"{name} {would}at {at[:12]}", err=json_)
        if json_:
            print_json({
                "current": opened.branch(), "branches": opened.branches(), "name": name, "entry": at,
                "deleted": delete, "dry_run": dry_run,
            })  # fmt: skip


@app.command()
def checkout(
    name: Annotated[str, typer.Argument(help="The branch that HEAD is to name.")],
    create: Annotated[bool, typer.Option("--branch", "-b", help="Make it first, at HEAD.")] = False,
    ledger: LedgerOption = None,
    signers: SignersOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Make a branch the one that is read and extended.

    Example: seqedit checkout -b experiment
    """
    trusted = trusted_signers(signers)
    with open_ledger(ledger) as opened:
        at = opened.check_branch(name) if create else opened.branch_entry(name)
        if trusted is not None:  # what the ledger keeps is asked where a state comes or goes, not of work at hand
            opened.check_signed(at, trusted)
        if not dry_run:
            if create:
                opened.start_branch(name, at)
            opened.switch(name)
    if json_:
        print_json({"branch": name, "entry": at, "done": not dry_run, "dry_run": dry_run})
    else:
        say(f"{'would be ' if dry_run else ''}on {name} at {at[:12]}")


@app.command()
def reset(
    rev: Annotated[str, typer.Argument(help="Where the branch shall be.")],
    branch: Annotated[str | None, typer.Option("--branch", help="The branch. [default: HEAD's]")] = None,
    message: MoveMessageOption = None,
    ledger: LedgerOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Put a branch at another entry; `seqedit undo` puts it back.

    Example: seqedit reset HEAD~3
    """
    from ledger.queries.branches import unknown

    with open_ledger(ledger) as opened:
        name = branch or opened.branch()
        if name not in opened.branches():
            raise unknown(name, opened.branches())
        old, new = opened.branches()[name], opened.resolve(rev)
        if not dry_run:
            opened.reset(new, branch=name, expected=old, message=message)
    if json_:
        print_json({"branch": name, "old": old, "new": new, "done": not dry_run, "dry_run": dry_run})
    else:
        say(f"{'would move ' if dry_run else ''}{name}: {old[:12]} -> {new[:12]}")


@app.command()
def reflog(
    branch: Annotated[str | None, typer.Argument(help="Only the moves of this branch, or of HEAD.")] = None,
    limit: Annotated[int | None, typer.Option("-n", "--limit", help="Only the newest moves.")] = None,
    ledger: LedgerOption = None,
    json_: JsonOption = False,
) -> None:
    """List every move of every branch, newest first: what was ever at a branch can be found again.

    Example: seqedit reflog main -n 5
    """
    with open_ledger(ledger) as opened:
        moves = opened.moves(branch, limit)
    if json_:
        print_json([asdict(move) for move in moves])
        return
    for move in moves:
        new, old = (move.new or "-")[:12], (move.old or "-")[:12]
        say(f"{move.time} {move.ref:<16} {old:<12} -> {new:<12} {move.message}")


@app.command()
def undo(
    branch: Annotated[str | None, typer.Argument(help="The branch. [default: HEAD's]")] = None,
    message: MoveMessageOption = None,
    ledger: LedgerOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Take back the last move of a branch: an edit, a revert, a rebase, a reset. Undo again to redo.

    Example: seqedit undo
    """
    with open_ledger(ledger) as opened:
        move = opened.check_undo(branch) if dry_run else opened.undo(branch, message=message)
    if json_:
        print_json({"undone": asdict(move), "done": not dry_run, "dry_run": dry_run})
    else:
        say(f"{'would undo' if dry_run else 'undone'}: {move.message} ({move.ref} back at {(move.old or '')[:12]})")
