"""What `log` and `blame` print of entries and facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from seqedit.cli.history.drawing import draw
from seqedit.cli.terminal import say

if TYPE_CHECKING:
    from ledger.history.diff import FactChange
    from ledger.history.rewrites import Event
    from ledger.queries.blame import Answer

AVERAGES = ("ES", "PS", "NS")
SHOWN_OF_FACT = ("date", "source", "note")
"""Fields of a request that `blame` shows in a line of their own below the fact, where it has them."""
_SIGNS = {"added": "+", "superseded": "~", "dropped": "-", "moved": "="}
_WORDS = {"added": "learned", "superseded": "superseded", "dropped": "no longer", "moved": "now by this entry"}
_DONE = {
    "revert": "reverted by", "swap": "swapped for", "merge": "merged into",
    "rebase": "dropped by a rebase,", "reorder": "dropped by a reorder,",
}  # fmt: skip


def print_log(rows: Sequence[Mapping[str, Any]], *, graph: bool) -> None:
    """A line for every entry, with its changes below where the rows have any; ``graph`` draws what follows what."""
    drawn: list[tuple[str, str, list[str]]] = (
        draw([(row["id"], row["parents"]) for row in rows]) if graph else [("", "", [])] * len(rows)
    )
    width = max((len(first) for first, _, _ in drawn), default=0)
    for row, (first, rest, lines) in zip(rows, drawn, strict=True):
        say(f"{first:<{width}} {_line(row)}".rstrip() if graph else _line(row))
        for text in _below(row):
            say(f"{rest:<{width}} {text}" if graph else text)
        for line in lines:
            say(line)


def _line(row: Mapping[str, Any]) -> str:
    scores = row["scores"]
    shown = " ".join(f"{name} {scores[name]:.1f}" for name in AVERAGES if scores.get(name) is not None)
    state = "active" if row["active"] else "      "
    refs = f"({', '.join(row['refs'])}) " if row["refs"] else ""
    what = f"  [{facts_of(row)}]" if row["requests"] else ""
    head = f"{row['id'][:12]} {row['time']} {row['operation']:<6} {state}"
    return f"{head}  {refs}{row['message']}{what}  {shown}".rstrip()


def facts_of(row: Mapping[str, Any]) -> str:
    """How many facts, and by which method."""
    count = f"{row['requests']} fact{'' if row['requests'] == 1 else 's'}"
    method = row["method"].get("name")
    how = row["method"].get("how")
    return count if method is None else f"{count} by {method}{f' ({how})' if how else ''}"


def _below(row: Mapping[str, Any]) -> Iterator[str]:
    if "changes" not in row:
        return
    if row["author"]:
        yield f"    author: {row['author']}"
    if row["reason"]:
        yield f"    reason: {row['reason']}"
    if row["origin"]:
        yield f"    picked from: {row['origin'][:12]}"
    for change in row["changes"]:
        yield f"    {_SIGNS[change['kind']]} {_changed(change)}"


def _changed(change: Mapping[str, Any]) -> str:
    if change["kind"] == "superseded":
        return f"{change['prompt']} -> {change['new']} (was {change['old']})"
    if change["kind"] == "dropped":
        return f"{change['prompt']} -> {change['old']}"
    return f"{change['prompt']} -> {change['new']}"


def change_row(change: FactChange) -> dict[str, Any]:
    """A changed fact as JSON types."""
    request = change.new or change.old
    assert request is not None
    return {
        "kind": change.kind, "what": _WORDS[change.kind], "subject": change.subject, "relation": change.relation,
        "prompt": request.text, "old": None if change.old is None else change.old.target_new,
        "new": None if change.new is None else change.new.target_new,
        "old_entry": change.old_entry, "new_entry": change.new_entry,
    }  # fmt: skip


def answer_row(answer: Answer) -> dict[str, Any]:
    """An answer of `blame` as JSON types."""
    of_fact = {} if answer.request is None else answer.request.to_dict()
    return {
        **asdict(answer.taught),
        **{name: of_fact[name] for name in SHOWN_OF_FACT if name in of_fact},
        "status": answer.status,
        "by": answer.by,
        "author": answer.set_by.author if answer.set_by else "",
        "message": answer.set_by.message if answer.set_by else "",
        "reason": answer.set_by.reason if answer.set_by else "",
        "event": None if answer.event is None else asdict(answer.event),
        "before": None if answer.before is None else asdict(answer.before),
        "left_out": answer.left_out,
        "now": answer.now,
        "refs": list(answer.refs),
        "told": list(told(answer)),
    }


def print_answer(answer: Answer) -> None:
    """What has become of a request, in some lines."""
    taught = answer.taught
    by = f" by {answer.by[:12]}" if answer.by else ""
    prompt = taught.prompt.replace("{}", taught.subject)
    say(f"{taught.entry[:12]} {taught.time} {answer.status}{by}: {prompt} -> {taught.target_new}")
    for line in told(answer):
        say(f"    {line}")


def told(answer: Answer) -> Iterator[str]:
    """Sentences on who set a fact, what took it out and why, and where it still is."""
    if answer.set_by is not None:
        event = answer.set_by
        yield f"set{_who(event.author)}: {event.message or '(no message)'}{_because(event.reason)}"
    of_fact = {} if answer.request is None else answer.request.to_dict()
    shown = [f"{name}: {of_fact[name]}" for name in SHOWN_OF_FACT if of_fact.get(name)]
    if shown:
        yield "; ".join(shown)
    if answer.before is not None:
        yield _what(answer.before, "out of force")
    if answer.event is not None:
        yield _what(answer.event, answer.status)
    if answer.left_out:
        yield "it was superseded then, so the merge left it out"
    if answer.now is not None:
        yield f"the same is taught by {answer.now[:12]}, which is in force"
    if answer.refs:
        yield f"in force on {', '.join(answer.refs)}"
    elif answer.status in ("dropped", "elsewhere"):
        yield "in force on no branch and no tag"


def _what(event: Event, status: str) -> str:
    if event.operation == "move":
        return f"left behind when {event.entry} was moved at {event.time}: {event.message}"
    done = "superseded by" if status == "superseded" else _DONE.get(event.operation, f"{event.operation} by")
    when = f"at {event.time}{_who(event.author)}"
    return f"{done} {event.entry[:12]} {when}: {event.message}{_because(event.reason)}"


def _who(author: str) -> str:
    return f" by {author}" if author else ""


def _because(reason: str) -> str:
    return f" (reason: {reason})" if reason else ""
