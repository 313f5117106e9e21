"""How a model is loaded and made ready to be edited, as one object from the options of a verb down to the editor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqedit.errors import InputError
from seqedit.models.names import check_device, check_dtype, check_model
from seqedit.text.plain_text import TextSource

if TYPE_CHECKING:  # a verb makes its `Loading` from options, which are checked before torch is imported
    from seqedit.editing.editor import Moments
    from seqedit.models.anatomy import Anatomy
    from seqedit.models.edited import EditedModel
    from seqedit.parallel.ranks import Ranks


def load_model(name: str, *, dtype: str = "auto", device: str | None = None) -> tuple[Any, Any]:
    """`seqedit.models.loading.load_model`, imported when a model is loaded."""
    from seqedit.models.loading import load_model as load

    return load(name, dtype=dtype, device=device)


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

    Raises:
        InputError: a model, type, device or file that there cannot be, found before anything is imported that computes.
    """

    model: str | None = None
    second_moments: str | Path | None = None
    text: str | None = None
    context_templates: Sequence[Sequence[str]] | None = None
    seed: int = 0
    dtype: str = "auto"
    device: str | None = None
    ranks: Ranks | None = None

    def __post_init__(self) -> None:
        if self.model is not None:
            check_model(self.model)
        check_dtype(self.dtype)
        check_device(self.device)
        if self.second_moments is not None and not Path(self.second_moments).is_file():
            raise InputError(f"{self.second_moments}: not readable as second moments in safetensors (no such file)")
        if self.text is not None:
            TextSource(self.text).check()

    def load(self, default: str = "") -> EditedModel:
        """The model.

        Args:
            default: Which one where none is named.

        Raises:
            InputError: the model cannot be edited.
            EnvironmentFailure: it cannot be loaded.
        """
        from seqedit.models.edited import EditedModel

        name = self.model or default
        load = load_model if self.ranks is None else self.ranks.load_model
        return EditedModel(*load(name, dtype=self.dtype, device=self.device), name=name)

    def check(self, default: str = "", *, layers: Sequence[int] = ()) -> Anatomy:
        """Refuse what `load` and the files named beside the model would be refused for, without the model's weights.

        Only its weights tell its fingerprint, and only its tokenizer how long a prompt is: neither is looked at.

        Args:
            default: Which model where none is named.
            layers: Layers that are to be edited, which the model and the file of second moments must have.

        Returns:
            The model's anatomy, without weights.

        Raises:
            InputError: no such model, device, type, layer, file of second moments, or text.
            EnvironmentFailure: the model's configuration cannot be read.
        """
        from seqedit.models.unloaded import check_model
        from seqedit.moments.store import read_second_moments
        from seqedit.text.plain_text import check_text

        parts = check_model(self.model or default, dtype=self.dtype, device=self.device)
        projections = parts.projections_of(layers) if layers else []
        if self.second_moments is not None:
            read_second_moments(self.second_moments).require(projections)
        if self.text is not None:
            check_text(self.text)
        return parts

    def moments(self, edited: EditedModel) -> Moments:
        """Second moments of some layers of the loaded model, when a method first needs them."""
        from seqedit.moments.providing import SecondMomentSettings, moments_provider

        file = None if self.second_moments is None else str(self.second_moments)
        return moments_provider(edited, SecondMomentSettings(file=file, text=self.text), ranks=self.ranks)
