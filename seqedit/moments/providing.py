"""Where second moments come from: a file, the cache, or a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from seqedit.support.config import Config, setting
from seqedit.text.plain_text import TextSource, default_text

if TYPE_CHECKING:  # the settings are part of run files, which are read without torch
    from seqedit.models.edited import EditedModel
    from seqedit.moments.second_moments import SecondMoments
    from seqedit.parallel.ranks import Ranks


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
    settings: SecondMomentSettings | None = None,
    *,
    name: str | None = None,
    ranks: Ranks | None = None,
) -> Callable[[tuple[int, ...]], SecondMoments]:
    """What gives an editor the second moments of some layers when a method first needs them.

    Args:
        edited: The model.
        settings: Where they come from; by default measured on the model's default text.
        name: What the user called the model, if it is not what ``edited`` calls it.
        ranks: Processes that hold the model and do a share of the work; None for this one alone.
    """
    return lambda layers: provide_second_moments(edited, layers, settings, name=name, ranks=ranks)


def provide_second_moments(
    edited: EditedModel,
    layers: Sequence[int],
    settings: SecondMomentSettings | None = None,
    *,
    name: str | None = None,
    ranks: Ranks | None = None,
) -> SecondMoments:
    """Second moments from a file, or measured on text (for a shipped model: its own world's) and cached.

    They are those of the unedited model, as published; the state that the model is in is put back.

    Args:
        edited: The model.
        layers: Layers to be edited.
        settings: Where they come from; by default measured on the model's default text.
        name: What the user called the model, if it is not what ``edited`` calls it.
        ranks: Processes that hold the model and do a share of the work; None for this one alone.

    Raises:
        InputError: the file or the text cannot be read, or lacks what the layers need.
    """
    from seqedit.moments.second_moments import SecondMoments
    from seqedit.moments.split import measure_with
    from seqedit.moments.store import cached_second_moments, read_second_moments

    wanted = settings or SecondMomentSettings()
    projections = edited.parts.projections_of(layers)
    if wanted.file is not None:
        moments = read_second_moments(Path(wanted.file))
        moments.require(projections)
        return SecondMoments({p.name: moments.matrices[p.name] for p in projections}, moments.tokens)
    source = TextSource(wanted.text or default_text(name or edited.base_model.name))
    with edited.unedited():
        return cached_second_moments(
            edited.model, edited.tokenizer, edited.base_model.fingerprint, projections, source,
            max_tokens=wanted.max_tokens, sequence_length=wanted.sequence_length, per_dimension=wanted.per_dimension,
            measure=measure_with(ranks),
        )  # fmt: skip
