"""How a model is loaded and made ready to be edited, as one object from the options of a verb down to the editor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seqedit.editing.editor import Moments
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.providing import SecondMomentSettings, moments_provider
from seqedit.parallel.ranks import Ranks


@dataclass(frozen=True)
class Loading:
    """A model, and what editing it needs beside the facts and the method.

    Attributes:
        model: Hub id, directory or shipped model; None where a ledger knows where its base model is.
        second_moments: Safetensors file of second moments; else they are measured when a method first needs them.
        text: Text to measure them on.
        context_templates: Groups of context templates; else they are sampled when they are first needed.
        seed: Of what is sampled.
        dtype: Weight type, ``auto`` keeps the checkpoint's.
        device: Device; None for the GPU where there is one, ``auto`` for all of them.
        ranks: Processes that are to hold the model and do a share of the work; None for this one alone.
    """

    model: str | None = None
    second_moments: str | Path | None = None
    text: str | None = None
    context_templates: Sequence[Sequence[str]] | None = None
    seed: int = 0
    dtype: str = "auto"
    device: str | None = None
    ranks: Ranks | None = None

    def load(self, default: str = "") -> EditedModel:
        """The model.

        Args:
            default: Which one where none is named.

        Raises:
            InputError: the model cannot be edited.
            EnvironmentFailure: it cannot be loaded.
        """
        name = self.model or default
        load = load_model if self.ranks is None else self.ranks.load_model
        return EditedModel(*load(name, dtype=self.dtype, device=self.device), name=name)

    def moments(self, edited: EditedModel) -> Moments:
        """Second moments of some layers of the loaded model, when a method first needs them."""
        file = None if self.second_moments is None else str(self.second_moments)
        return moments_provider(edited, SecondMomentSettings(file=file, text=self.text), ranks=self.ranks)
