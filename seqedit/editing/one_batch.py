"""A model by name, a batch of requests, an adapter: what ``seqedit edit`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from seqedit.adapters.adapter import Adapter
from seqedit.editing.editor import Editor
from seqedit.editing.rule import Settled, settle
from seqedit.editing.settings import Given
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
    config: EditConfig | Given,
    *,
    second_moments: Path | None = None,
    text: str | None = None,
    context_templates: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
    dtype: str = "auto",
    device: str | None = None,
    ranks: Ranks | None = None,
    told: Callable[[Settled], None] = lambda settled: None,
) -> Adapter:
    """Load a model and compute one batch; see `seqedit.editing.compute.compute_adapter` for the errors.

    Settings that were only given in part are settled for the model (`seqedit.editing.rule`) and ``told`` before the
    batch is computed.
    """
    editor = open_editor(
        model, second_moments=second_moments, text=text, context_templates=context_templates, seed=seed,
        dtype=dtype, device=device, ranks=ranks,
    )  # fmt: skip
    settled = settle(config, editor) if isinstance(config, Given) else Settled(config)
    told(settled)
    editor.edited.parts.check_layers(settled.config.layers)  # before minutes are spent on second moments
    adapter = editor.compute(requests, method, settled.config)
    return replace(adapter, provenance={**adapter.provenance, **settled.provenance()})


def open_editor(
    model: str,
    *,
    second_moments: Path | None = None,
    text: str | None = None,
    context_templates: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
    dtype: str = "auto",
    device: str | None = None,
    ranks: Ranks | None = None,
) -> Editor:
    """Load a model, unedited, with what edits need; second moments are measured when they are first asked for."""
    load = load_model if ranks is None else ranks.load_model
    loaded, tokenizer = load(model, dtype=dtype, device=device)
    edited = EditedModel(loaded, tokenizer, model)
    settings = SecondMomentSettings(file=None if second_moments is None else str(second_moments), text=text)
    moments = moments_provider(edited, settings, ranks=ranks)
    return Editor(edited, moments, context_templates=context_templates, seed=seed, ranks=ranks)
