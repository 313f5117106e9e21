"""A model by name, a batch of requests, an adapter: what ``seqedit edit`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.config import EditConfig
from seqedit.editing import compute_adapter
from seqedit.facts.requests import Request
from seqedit.keys.templates import sample_context_templates
from seqedit.methods import get_method
from seqedit.models.anatomy import Anatomy, anatomy
from seqedit.models.fingerprint import fingerprint
from seqedit.models.loading import load_model
from seqedit.moment_store import cached_second_moments, read_second_moments
from seqedit.parallel.ranks import Ranks
from seqedit.second_moments import SecondMoments
from seqedit.split_moments import measure_with
from seqedit.text.plain_text import TextSource, default_text


def edit_one_batch(
    model: str,
    requests: Sequence[Request],
    method: str,
    config: EditConfig,
    *,
    second_moments: Path | None = None,
    text: str | None = None,
    context_templates: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
    dtype: str = "auto",
    device: str | None = None,
    ranks: Ranks | None = None,
) -> Adapter:
    """Load a model and compute one batch; see `seqedit.editing.compute_adapter` for the errors."""
    load = load_model if ranks is None else ranks.load_model
    loaded, tokenizer = load(model, dtype=dtype, device=device)
    parts = anatomy(loaded)
    parts.check_layers(config.layers)  # before minutes are spent on second moments
    digest = fingerprint(loaded)
    moments = None
    if get_method(method).needs_second_moments:
        moments = provide_second_moments(
            loaded, tokenizer, parts, model, digest, config.layers, file=second_moments, text=text,
            ranks=ranks,
        )  # fmt: skip
    templates = context_templates or sample_context_templates(loaded, tokenizer, seed=seed)
    return compute_adapter(
        loaded, tokenizer, requests, method, config,
        base_model=BaseModel(model, digest), second_moments=moments, context_templates=templates,
        seed=seed, ranks=ranks,
    )  # fmt: skip


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
