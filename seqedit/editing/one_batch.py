"""A model by name, a batch of requests, an adapter: what ``seqedit edit`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.editing.compute import compute_adapter
from seqedit.facts.requests import Request
from seqedit.keys.templates import sample_context_templates
from seqedit.methods import get_method
from seqedit.methods.config import EditConfig
from seqedit.models.anatomy import anatomy
from seqedit.models.fingerprint import fingerprint
from seqedit.models.loading import load_model
from seqedit.moments.providing import provide_second_moments
from seqedit.parallel.ranks import Ranks


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
    """Load a model and compute one batch; see `seqedit.editing.compute.compute_adapter` for the errors."""
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
