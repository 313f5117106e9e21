"""Calls as the flat layout had them, for scripts that import its modules (`seqedit.distribution.old_names`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ledger.ledger import Ledger
from seqedit.editing.loading import Loading
from seqedit.models.edited import EditedModel
from seqedit.moments import providing
from seqedit.moments.providing import SecondMomentSettings
from seqedit.moments.second_moments import SecondMoments
from seqedit.parallel.ranks import Ranks
from seqedit.session import opening
from seqedit.session.session import Session


def moments_provider(
    edited: EditedModel,
    name: str,
    *,
    file: Path | None = None,
    text: str | None = None,
    max_tokens: int = 100_000,
    sequence_length: int = 64,
    per_dimension: float | None = None,
    ranks: Ranks | None = None,
) -> Callable[[tuple[int, ...]], SecondMoments]:
    """`seqedit.moments.providing.moments_provider` with its settings one by one."""
    settings = SecondMomentSettings(
        file=None if file is None else str(file), text=text, max_tokens=max_tokens, sequence_length=sequence_length,
        per_dimension=per_dimension,
    )  # fmt: skip
    return providing.moments_provider(edited, settings, name=name, ranks=ranks)


def open_session(
    ledger: Ledger,
    *,
    model: str | None = None,
    second_moments: Path | None = None,
    text: str | None = None,
    context_templates: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
    dtype: str = "auto",
    device: str | None = None,
    ranks: Ranks | None = None,
) -> Session:
    """`seqedit.session.opening.open_session` with its settings one by one."""
    loading = Loading(model, second_moments, text, context_templates, seed, dtype, device, ranks)
    return opening.open_session(ledger, loading)
