"""A model by name, a batch of requests, an adapter: what ``seqedit edit`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from seqedit.adapters.adapter import Adapter
from seqedit.editing.editor import Editor
from seqedit.facts.requests import Request
from seqedit.methods.config import EditConfig
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.providing import SecondMomentSettings, moments_provider
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
    editor = open_editor(
        model, config, second_moments=second_moments, text=text, context_templates=context_templates, seed=seed,
        dtype=dtype, device=device, ranks=ranks,
    )  # fmt: skip
    return editor.compute(requests, method, config)


def open_editor(
    model: str,
    config: EditConfig,
    *,
    second_moments: Path | None = None,
    text: str | None = None,
    context_templates: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
    dtype: str = "auto",
    device: str | None = None,
    ranks: Ranks | None = None,
) -> Editor:
    """Load a model, unedited, with what edits by some settings need.

    Raises:
        InputError: the model has no such layers.
    """
    load = load_model if ranks is None else ranks.load_model
    loaded, tokenizer = load(model, dtype=dtype, device=device)
    edited = EditedModel(loaded, tokenizer, model)
    edited.parts.check_layers(config.layers)  # before minutes are spent on second moments
    settings = SecondMomentSettings(file=None if second_moments is None else str(second_moments), text=text)
    moments = moments_provider(edited, settings, ranks=ranks)
    return Editor(edited, moments, context_templates=context_templates, seed=seed, ranks=ranks)
