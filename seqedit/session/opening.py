"""A session on a ledger's own base model, for verbs that compute or measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ledger.ledger import Ledger
from seqedit.errors import InputError
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.providing import SecondMomentSettings, moments_provider
from seqedit.parallel.ranks import Ranks
from seqedit.session.session import Session


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
    """Load a ledger's base model and bring it to HEAD's state.

    Args:
        ledger: The ledger.
        model: Hub id, directory or shipped model; by default where the ledger's base model was loaded from.
        second_moments: Safetensors file of second moments; else they are measured when a method first needs them.
        text: Text to measure them on.
        context_templates: Groups of context templates; else they are sampled when they are first needed.
        seed: Of what is sampled.
        dtype: Weight type, ``auto`` keeps the checkpoint's.
        device: Device, None for the GPU where there is one.
        ranks: Processes that are to hold the model and do a share of the work; None for this one alone.

    Raises:
        InputError: the model is not the ledger's base model.
        EnvironmentFailure: the model cannot be loaded.
    """
    name = model or ledger.base_model.name
    load = load_model if ranks is None else ranks.load_model
    edited = EditedModel(*load(name, dtype=dtype, device=device), name=name)
    if edited.base_model.fingerprint != ledger.base_model.fingerprint:
        raise InputError(
            f"the ledger's base model is '{ledger.base_model.name}' (fingerprint "
            f"{ledger.base_model.fingerprint[:12]}), '{name}' has {edited.base_model.fingerprint[:12]}; give the right "
            "one with --model"
        )
    settings = SecondMomentSettings(file=None if second_moments is None else str(second_moments), text=text)
    moments = moments_provider(edited, settings, ranks=ranks)
    return Session(edited, ledger, moments, context_templates=context_templates, seed=seed, ranks=ranks)
