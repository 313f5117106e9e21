"""Where second moments come from: a file, the cache, or a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqedit.models.anatomy import Anatomy
from seqedit.models.edited import EditedModel
from seqedit.moments.second_moments import SecondMoments
from seqedit.moments.split import measure_with
from seqedit.moments.store import cached_second_moments, read_second_moments
from seqedit.parallel.ranks import Ranks
from seqedit.support.config import Config, setting
from seqedit.text.plain_text import TextSource, default_text


@dataclass(frozen=True, kw_only=True)
class SecondMomentSettings(Config):
    """Where second moments come from."""

    file: str | None = setting(None, "safetensors file with one matrix per module name")
    text: str | None = setting(None, "text file or Hub dataset to measure on")
    max_tokens: int = setting(100_000, "sample size in tokens")
    sequence_length: int = setting(64, "tokens of one row")
    per_dimension: float | None = setting(None, "sample size in tokens per input dimension, instead of max_tokens")


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
    """What gives a session the second moments of some layers when a method first needs them.

    They are those of the unedited model, as published; the state that the model is in is put back.

    Args:
        edited: The model.
        name: What the user called it.
        file: Safetensors file of second moments; else they are measured, or read from the cache.
        text: Text to measure them on.
        max_tokens: Sample size.
        sequence_length: Tokens of one row.
        per_dimension: Sample size in tokens per input dimension of the widest layer, instead of ``max_tokens``.
        ranks: Processes that hold the model and do a share of the work; None for this one alone.
    """

    def moments(layers: tuple[int, ...]) -> SecondMoments:
        held = {p.name: p.matrix().clone() for p in edited.parts.projections}
        edited.write({})
        try:
            return provide_second_moments(
                edited.model, edited.tokenizer, edited.parts, name, edited.base_model.fingerprint, layers,
                file=file, text=text, max_tokens=max_tokens, sequence_length=sequence_length,
                per_dimension=per_dimension, ranks=ranks,
            )  # fmt: skip
        finally:
            for projection in edited.parts.projections:
                projection.write(held[projection.name])

    return moments


def provide_second_moments(
    model: Any,
    tokenizer: Any,
    parts: Anatomy,
    name: str,
    digest: str,
    layers: Sequence[int],
    *,
    file: Path | None = None,
    text: str | None = None,
    max_tokens: int = 100_000,
    sequence_length: int = 64,
    per_dimension: float | None = None,
    ranks: Ranks | None = None,
) -> SecondMoments:
    """Second moments from a file, or measured on text (for a shipped model: its own world's) and cached.

    Args:
        model: The unedited causal LM.
        tokenizer: Its tokenizer.
        parts: Its anatomy.
        name: What the user called it.
        digest: Its fingerprint.
        layers: Layers to be edited.
        file: The user's own file, if any.
        text: Text file or Hub dataset, if given.
        max_tokens: Sample size.
        sequence_length: Tokens of one row.
        per_dimension: Sample size in tokens per input dimension of the widest layer, instead of ``max_tokens``.
        ranks: Processes that hold the model and do a share of the work; None for this one alone.
    """
    projections = parts.projections_of(layers)
    if file is not None:
        moments = read_second_moments(file)
        moments.require(projections)
        return SecondMoments({p.name: moments.matrices[p.name] for p in projections}, moments.tokens)
    return cached_second_moments(
        model, tokenizer, digest, projections, TextSource(text or default_text(name)),
        max_tokens=max_tokens, sequence_length=sequence_length, per_dimension=per_dimension,
        measure=measure_with(ranks),
    )  # fmt: skip
