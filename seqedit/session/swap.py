"""Swap: the facts of an entry once more by another method, in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ledger import Entry
from seqedit.methods.config import EditConfig
from seqedit.session.entries import _seed, active_entry, before, diagnosis_scores, inherited

if TYPE_CHECKING:
    from seqedit.session.session import Session


def swap(
    session: Session,
    rev: str,
    method: str,
    config: EditConfig,
    *,
    message: str | None = None,
    author: str = "",
    when: str | None = None,
    reason: str = "",
    noted: Mapping[str, Any] | None = None,
) -> Entry:
    """Edit an entry's requests once more, by another method or setting, in its place.

    The new adapter is computed on the state that the old one's place stands on: the active entries before it. What
    was computed after it stays as it is (`seqedit.session.rebase` computes it again). ``reason`` is kept in the entry.

    Args:
        session: Model and ledger.
        rev: The entry.
        method: Name of the method.
        config: Its settings, all of them: where the method stays, those of the entry are what one begins with
            (`seqedit.session.entries.chosen_for`).
        message: Free text.
        author: Free text.
        when: ISO 8601 UTC; now by default.
        noted: What the adapter's provenance is to say besides of where the settings came from.

    Raises:
        InputError: the entry is not active, or the settings do not fit the model.
        BranchMoved: another writer moved the session's branch meanwhile.
    """
    ledger = session.ledger
    session.check_unmoved()
    old = active_entry(ledger, session.named(rev), "swap", session.tip)
    replaced = ledger.adapter(old)
    templates = replaced.provenance.get("context_templates")
    adapter = session.compute_on(
        before(ledger, old, state=session.tip),
        old.requests,
        method,
        config,
        context_templates=templates,
        seed=_seed(ledger, old),
    )
    known = {**inherited(replaced, method, config), **(noted or {})}
    adapter = replace(adapter, provenance={**adapter.provenance, **known})
    text = f"swap {old.id[:12]} ({old.method.get('name')}) for {method}: {old.message}".rstrip(": ")
    made = session.extend(
        lambda branch, tip: ledger.append(
            adapter, message=text if message is None else message, author=author, time=when, parent=tip, branch=branch,
            operation="swap", targets=[old.id], scores=diagnosis_scores(adapter), reason=reason,
        )
    )  # fmt: skip
    session.learnt()
    return made
