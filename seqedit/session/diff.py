"""The part of a diff that needs tensors: norms of the difference by module, and answers before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.history.diff import StateDiff
from ledger.ledger import Ledger
from seqedit.editing.loading import Loading
from seqedit.errors import InputError
from seqedit.session.opening import open_session
from seqedit.support.reading import read_text

if TYPE_CHECKING:
    from seqedit.session.session import Session


def delta_norms(ledger: Ledger, found: StateDiff) -> dict[str, float]:
    """Module name -> Frobenius norm of the difference of two states' weights; adapters of both cancel exactly."""
    stored = ledger.stored_norms(found.adapters_added, found.adapters_removed)
    if stored is not None:
        return stored
    from seqedit.adapters.sums import concatenate

    added = concatenate(ledger.adapter(entry) for entry in found.adapters_added)
    removed = concatenate(ledger.adapter(entry) for entry in found.adapters_removed)
    norms = {}
    for name in sorted({*added, *removed}):
        if name not in removed:
            difference = added[name].dense()
        elif name not in added:
            difference = removed[name].dense()
        else:
            difference = added[name].dense() - removed[name].dense()
        norms[name] = float(difference.norm())
    return norms


def answers_of(
    ledger: Ledger,
    found: StateDiff,
    probes: Sequence[str] = (),
    *,
    loading: Loading | None = None,
    tokens: int = 8,
    session: Session | None = None,
) -> dict[str, tuple[str, str]]:
    """What the model says, greedily, in the old and in the new state.

    Args:
        ledger: The ledger.
        found: The two states and their changed facts.
        probes: Further prompts.
        loading: As for `open_session`.
        tokens: New tokens of an answer.
        session: Model and ledger, instead of loading the model; it is at its own state again afterwards.

    Returns:
        Prompt -> (answer in the old state, answer in the new one), of every changed fact and every probe.
    """
    from evals.likelihood.decoding import generate

    prompts = list(dict.fromkeys([*_prompts(found), *probes]))
    if not prompts:
        return {}
    session = session or open_session(ledger, loading)
    said = []
    try:
        for rev in (found.old, found.new):
            session.checkout(rev)
            texts = generate(session.edited.model, session.edited.tokenizer, prompts, max_new_tokens=tokens, top_k=1)
            said.append([" ".join(text.split()) for text in texts])
    finally:
        session.restore()
    return {prompt: (old, new) for prompt, old, new in zip(prompts, *said, strict=True)}


def read_probes(path: Path) -> list[str]:
    """Prompts, one a line.

    Raises:
        InputError: the file cannot be read, or holds none.
    """
    prompts = [line for line in read_text(path).splitlines() if line.strip()]
    if not prompts:
        raise InputError(f"{path} holds no prompts")
    return prompts


def _prompts(found: StateDiff) -> list[str]:
    requests = [change.new or change.old for change in found.facts]
    return [request.text for request in requests if request is not None]
