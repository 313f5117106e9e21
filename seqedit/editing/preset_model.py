"""Which model a preset was made for, told by its shape; never by what a model is called.

A preset file says so in ``model``: the width of its residual stream, its layers, the width of its feed-forward blocks
and its vocabulary; any of them may be left out. ``name`` and ``fingerprint`` are for readers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqedit.editing.settings import PRESETS, is_preset_file, preset_names
from seqedit.errors import InputError
from seqedit.models.anatomy import Anatomy
from seqedit.support.files import read_mapping
from seqedit.support.suggestions import did_you_mean

_SIZES = ("hidden_size", "num_layers", "ffn", "vocabulary")
_ADDED_TOKENS = 0.01
"""By which share vocabularies of one model may differ: fine-tuned models often have a few tokens more."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; None where a preset leaves one out.

    Attributes:
        hidden_size: Width of the residual stream.
        num_layers: Decoder layers.
        ffn: Width of the feed-forward blocks, that of the keys.
        vocabulary: Rows of the LM head.
    """

    hidden_size: int | None = None
    num_layers: int | None = None
    ffn: int | None = None
    vocabulary: int | None = None

    @classmethod
    def of(cls, parts: Anatomy) -> Shape:
        """The shape of a model, loaded or not."""
        rows: Any = getattr(parts.lm_head, "weight", None)
        first = next(iter(parts.projections))  # of a model without its weights too
        return cls(
            parts.hidden_size, len(parts.layers), int(first.weight.shape[0 if first.transposed else 1]),
            None if rows is None else int(rows.shape[0]),
        )  # fmt: skip

    def to_dict(self) -> dict[str, int]:
        """The sizes that are known."""
        return {name: value for name in _SIZES if (value := getattr(self, name)) is not None}

    def fits(self, other: Shape) -> bool:
        """Whether no size that both have tells two models apart."""
        mine, theirs = self.to_dict(), other.to_dict()
        return all(_same(name, mine[name], theirs[name]) for name in mine.keys() & theirs.keys())

    def __str__(self) -> str:
        words = {"hidden_size": "width", "num_layers": "layers", "ffn": "feed-forward", "vocabulary": "vocabulary"}
        return ", ".join(
            f"{value:,} layers" if name == "num_layers" else f"{words[name]} {value:,}"
            for name, value in self.to_dict().items()
        )


def _same(name: str, mine: int, theirs: int) -> bool:
    slack = _ADDED_TOKENS * max(mine, theirs) if name == "vocabulary" else 0
    return abs(mine - theirs) <= slack


def model_of(preset: str) -> tuple[Shape, str] | None:
    """The shape of the model that a preset was made for, and what the preset calls it.

    Args:
        preset: A shipped preset, or a preset file.

    Returns:
        None where the preset does not say.

    Raises:
        InputError: the file cannot be read, or what it says of its model is not understood.
    """
    own = is_preset_file(preset)
    data = read_mapping(Path(preset) if own else PRESETS / f"{preset}.yaml").get("model")
    if data is None:
        return None
    if not isinstance(data, Mapping):
        raise InputError(f"{preset}: 'model' must be a mapping of {', '.join(_SIZES)}, got {data!r}")
    unknown = [str(name) for name in data if name not in (*_SIZES, "name", "fingerprint")]
    if unknown:
        known = (*_SIZES, "name", "fingerprint")
        hint = did_you_mean(unknown[0], known)
        raise InputError(f"{preset}: unknown field 'model.{unknown[0]}' (known: {', '.join(known)}){hint}")
    for name in _SIZES:
        size = data.get(name)
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise InputError(f"{preset}: 'model.{name}' must be a positive whole number, got {size!r}")
    return Shape(**{name: data.get(name) for name in _SIZES}), str(data.get("name") or Path(preset).stem)


def preset_warning(preset: str | None, parts: Anatomy, model: str) -> str | None:
    """One line where a preset was made for a model of another shape than the one at hand; None where it fits.

    Args:
        preset: The preset that was asked for; None for none.
        parts: The anatomy of the loaded model.
        model: What the user calls that.
    """
    found = None if preset is None else model_of(preset)
    here = Shape.of(parts)
    if found is None or found[0].fits(here):
        return None
    made_for, name = found
    return (
        f"preset '{preset}' was made for '{name}' ({made_for}), but '{model}' has {here}: its settings are another "
        "model's; find this model's with `seqedit tune`, or leave the preset out and have them by rule"
    )


def preset_for(parts: Anatomy) -> str | None:
    """The shipped preset that was made for a model of this very shape; None where no preset knows the model."""
    here = Shape.of(parts)
    for name in preset_names():
        found = model_of(name)
        if found is not None and found[0].to_dict().keys() == here.to_dict().keys() and found[0].fits(here):
            return name
    return None
