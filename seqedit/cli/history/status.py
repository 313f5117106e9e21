"""The verb that says where a ledger stands: status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import JsonOption, LedgerOption
from seqedit.cli.output import open_ledger
from seqedit.cli.terminal import print_json, say

if TYPE_CHECKING:
    from seqedit.history.status import Scored, Status


@app.command()
def status(
    branch: Annotated[str | None, typer.Argument(help="The branch that is looked at. [default: HEAD's]")] = None,
    ledger: LedgerOption = None,
    json_: JsonOption = False,
) -> None:
    """Say where a ledger stands: what is in force, how full the layers are, the last scores and gates, what waits.

    Example: seqedit status
    """
    from seqedit.history.status import status_of

    with open_ledger(ledger) as opened:
        found = status_of(opened, branch)
    if json_:
        print_json(found.to_dict())
        return
    _print(found)


def _print(found: Status) -> None:
    named = f" (tag {', '.join(found.tags)})" if found.tags else ""
    say(f"on {found.branch} at {found.head[:12]}{named}, model {found.model}")
    say(
        f"{found.entries_in_force} of {found.entries} entries in force: {found.facts_in_force} facts"
        + (f", {found.facts_superseded} more superseded" if found.facts_superseded else "")
    )
    for load in found.load:
        say(f"load {load.load:8.2g}  {load.module}: {load.edits} edits in {load.key_dimension} key dimensions")
    if found.scored is not None:
        _print_scored(found.scored)
    if found.unscored:
        shown = ", ".join(identifier[:12] for identifier in found.unscored[:5])
        more = f" and {len(found.unscored) - 5} more" if len(found.unscored) > 5 else ""
        say(f"not scored: {shown}{more}")
    elif found.entries:
        say("every entry is scored")
    if found.gates_of is not None:
        tripped = [gate for gate in found.gates if gate["tripped"]]
        say(f"gates of {found.gates_of[:12]}: {len(found.gates) - len(tripped)} passed, {len(tripped)} tripped")
        for gate in tripped:
            say(f"  tripped: {gate['gate']} (value {gate['value']}, bound {gate['bound']})")
    for waiting in found.pending:
        say(f"{waiting.kind}: {waiting.advice}")


def _print_scored(scored: Scored) -> None:
    ago = "" if not scored.since else f", {scored.since} {'entry' if scored.since == 1 else 'entries'} ago"
    shown = " ".join(f"{name} {value:.1f}" for name, value in scored.scores.items())
    say(f"last scored: {scored.entry[:12]}{ago}: {shown}  {scored.message}".rstrip())
    for name, task in scored.tasks.items():
        say(f"  {name} " + ", ".join(f"{metric} {value:.4f}" for metric, value in task.items()))
