"""A session on a ledger's own base model, for verbs that compute or measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ledger.ledger import Ledger
from seqedit.errors import InputError
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.one_batch import provide_second_moments
from seqedit.parallel.ranks import Ranks
from seqedit.second_moments import SecondMoments
from seqedit.session import Session


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

    moments = moments_provider(edited, name, file=second_moments, text=text, ranks=ranks)
    return Session(edited, ledger, moments, context_templates=context_templates, seed=seed, ranks=ranks)


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
