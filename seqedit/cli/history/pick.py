"""The verb that takes entries of other branches over: cherry-pick."""

from __future__ import annotations

from typing import Annotated

import typer

from seqedit.cli.app import app
from seqedit.cli.options import (
    AuthorOption,
    DeviceOption,
    DryRunOption,
    DtypeOption,
    JsonOption,
    LedgerOption,
    MovedModelOption,
    OwnMessageOption,
    ReasonOption,
    SecondMomentsOption,
)
from seqedit.cli.output import open_ledger
from seqedit.cli.parallel import ranks_of
from seqedit.cli.terminal import print_json, say


@app.command(name="cherry-pick")
def cherry_pick(
    context: typer.Context,
    entries: Annotated[list[str], typer.Argument(help="The entries, of any branch, in the order to apply them.")],
    how: Annotated[
        str, typer.Option(help="delta: the adapter as it is; solve: its target values, solved for here.")
    ] = "delta",
    model: MovedModelOption = None,
    second_moments: SecondMomentsOption = None,
    text: Annotated[str | None, typer.Option(help="Text to measure second moments on.")] = None,
    ledger: LedgerOption = None,
    message: OwnMessageOption = None,
    reason: ReasonOption = "",
    author: AuthorOption = "",
    dtype: DtypeOption = "auto",
    device: DeviceOption = None,
    dry_run: DryRunOption = False,
    json_: JsonOption = False,
) -> None:
    """Apply entries of other branches to this one; their facts supersede what is taught of them here.

    Messages and authors stay those of the entries where none are given.

    Example: seqedit cherry-pick experiment~1 --reason "proved itself"
    """
    from seqedit.history.pick import cherry_pick as pick_entries
    from seqedit.history.pick import plan_picks

    with open_ledger(ledger) as opened:
        branch = opened.branch()
        plan = plan_picks(opened, entries, how)
        if dry_run:
            rows = [pick.to_dict() for pick in plan]
            if json_:
                print_json({"branch": branch, "how": how, "picks": rows, "done": False, "dry_run": True})
                return
            for row in rows:
                say(f"would pick {row['entry'][:12]} by {how}: {row['requests']} facts  {row['message']}")
                for fact in row["facts"]:
                    say(f"  {fact['prompt'].replace('{}', fact['subject'])} -> {fact['target_new']}")
                for line in row["overlaps"]:
                    say(f"  {line}")
            return
        session = None
        if how == "solve":
            from seqedit.editing.loading import Loading
            from seqedit.session.opening import open_session

            loading = Loading(model, second_moments, text, dtype=dtype, device=device, ranks=ranks_of(context))
            session = open_session(opened, loading)
        made = pick_entries(
            session,
            opened,
            [pick.entry.id for pick in plan],
            how,
            message=message,
            author=author or None,
            reason=reason,
        )
    for pick in plan:
        for line in pick.overlaps:
            say(line, err=True)
    if json_:
        print_json({
            "branch": branch, "how": how, "done": True,
            "picks": [{"entry": pick.entry.id, "id": entry.id} for pick, entry in zip(plan, made, strict=True)],
        })  # fmt: skip
        return
    for pick, entry in zip(plan, made, strict=True):
        say(f"{entry.id[:12]} picked from {pick.entry.id[:12]}: {entry.message}")
