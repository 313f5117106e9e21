"""A model by name, a batch of requests, an adapter: what ``seqedit edit --out`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from seqedit.adapters.adapter import Adapter
from seqedit.editing.editor import Editor
from seqedit.editing.loading import Loading
from seqedit.editing.rule import Settled, settle
from seqedit.editing.settings import Given
from seqedit.facts.requests import Request
from seqedit.methods.config import EditConfig


def edit_one_batch(
    loading: Loading,
    requests: Sequence[Request],
    method: str,
    config: EditConfig | Given,
    *,
    told: Callable[[Settled], None] = lambda settled: None,
    made: Callable[[Editor, Adapter], None] = lambda editor, adapter: None,
    noted: Mapping[str, Any] | None = None,
) -> Adapter:
    """Load a model and compute one batch; see `seqedit.editing.compute.compute_adapter` for the errors.

    Settings that were only given in part are settled for the model (`seqedit.editing.rule`) and ``told`` before the
    batch is computed. ``made`` gets the editor, whose model is unedited, and the adapter while the model is loaded.
    ``noted`` is what its provenance is to say besides.
    """
    editor = open_editor(loading)
    settled = settle(config, editor) if isinstance(config, Given) else Settled(config)
    told(settled)
    editor.edited.parts.check_layers(settled.config.layers)  # before minutes are spent on second moments
    adapter = editor.compute(requests, method, settled.config)
    adapter = replace(adapter, provenance={**adapter.provenance, **settled.provenance(), **(noted or {})})
    made(editor, adapter)
    return adapter


def open_editor(loading: Loading) -> Editor:
    """Load a model, unedited, with what edits need; second moments are measured when they are first asked for."""
    edited = loading.load()
    return Editor(
        edited, loading.moments(edited),
        context_templates=loading.context_templates, seed=loading.seed, ranks=loading.ranks,
    )  # fmt: skip
