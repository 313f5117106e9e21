"""A model by name, a batch of requests, an adapter: what ``seqedit edit --out`` does."""

from __future__ import annotations

from collections.abc import Sequence

from seqedit.adapters.adapter import Adapter
from seqedit.editing.editor import Editor
from seqedit.editing.loading import Loading
from seqedit.facts.requests import Request
from seqedit.methods.config import EditConfig


def edit_one_batch(loading: Loading, requests: Sequence[Request], method: str, config: EditConfig) -> Adapter:
    """Load a model and compute one batch; see `seqedit.editing.compute.compute_adapter` for the errors."""
    edited = loading.load()
    edited.parts.check_layers(config.layers)  # before minutes are spent on second moments
    editor = Editor(
        edited, loading.moments(edited),
        context_templates=loading.context_templates, seed=loading.seed, ranks=loading.ranks,
    )  # fmt: skip
    return editor.compute(requests, method, config)
