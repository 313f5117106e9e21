"""Second moments by themselves: measured once, looked at, and kept for later edits (``seqedit stats``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqedit.editing.settings import preset_names, read_preset
from seqedit.errors import InputError
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.methods import get_method
from seqedit.models.anatomy import Anatomy, anatomy
from seqedit.models.fingerprint import fingerprint
from seqedit.moments.figures import MomentFigures, moment_figures
from seqedit.moments.measure import compute_second_moments
from seqedit.moments.second_moments import SecondMoments, sample_size
from seqedit.moments.store import cache_folder, cached_second_moments
from seqedit.text.plain_text import TextSource, default_text


@dataclass(frozen=True)
class MomentPlan:
    """What is to be measured.

    Attributes:
        model: What the user called the model.
        source: The text.
        layers: Layers, in order.
        max_tokens: Sample size.
        sequence_length: Tokens of one row.
        folder: Where the results are cached.
        parts: The model's anatomy.
        digest: The model's fingerprint.
    """

    model: str
    source: TextSource
    layers: tuple[int, ...]
    max_tokens: int
    sequence_length: int
    folder: Path
    parts: Anatomy
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """JSON types, with what is cached already."""
        modules = []
        for layer, projection in zip(self.layers, self.parts.projections_of(self.layers), strict=True):
            d_in = projection.matrix().shape[1]
            cached = (self.folder / f"{projection.name}.safetensors").is_file()
            modules.append(
                {"module": projection.name, "layer": layer, "d_in": d_in, "bytes": 4 * d_in**2, "cached": cached}
            )
        return {
            "model": self.model, "text": self.source.name, "max_tokens": self.max_tokens,
            "sequence_length": self.sequence_length, "cache": str(self.folder), "modules": modules,
        }  # fmt: skip


def plan_moments(
    model: CausalLM,
    tokenizer: Tokenizer,
    name: str,
    *,
    layers: str | None = None,
    text: str | None = None,
    column: str = "text",
    max_tokens: int = 100_000,
    per_dimension: float | None = None,
    sequence_length: int = 64,
) -> MomentPlan:
    """Fill in what was not given.

    Args:
        model: The loaded, unedited model.
        tokenizer: Its tokenizer.
        name: What the user called it.
        layers: Layers as the command line gives them; None for those of the preset of that name, or all.
        text: Text; None for what goes with the model.
        column: The text's column in a dataset.
        max_tokens: Sample size.
        per_dimension: Sample size in tokens per input dimension of the widest layer, instead of ``max_tokens``.
        sequence_length: Tokens of one row.

    Raises:
        InputError: a layer that the model does not have, or a size that is not positive.
    """
    parts = anatomy(model)
    given = _layers(name, parts) if layers is None else get_method("memit").config.from_dict({"layers": layers}).layers
    chosen = parts.check_layers(given)
    if per_dimension is not None:
        max_tokens = sample_size(parts.projections_of(chosen), per_dimension)
    source = TextSource(text or default_text(name), column)
    digest = fingerprint(model)
    folder = cache_folder(tokenizer, digest, source, max_tokens, sequence_length)
    return MomentPlan(name, source, chosen, max_tokens, sequence_length, folder, parts, digest)


def _layers(name: str, parts: Anatomy) -> Sequence[int]:
    preset = Path(name).name.lower()
    found: Sequence[int] = read_preset(preset, "memit").get("layers", ()) if preset in preset_names() else ()
    return found or range(len(parts.layers))


def run_plan(
    model: CausalLM,
    tokenizer: Tokenizer,
    plan: MomentPlan,
    measure: Callable[..., SecondMoments] = compute_second_moments,
) -> SecondMoments:
    """The second moments of a plan, from the cache as far as it has them.

    Args:
        model: The loaded, unedited model.
        tokenizer: Its tokenizer.
        plan: What to measure.
        measure: As for `cached_second_moments`.
    """
    projections = plan.parts.projections_of(plan.layers)
    return cached_second_moments(
        model, tokenizer, plan.digest, projections, plan.source, max_tokens=plan.max_tokens,
        sequence_length=plan.sequence_length, measure=measure,
    )  # fmt: skip


def describe(plan: MomentPlan, moments: SecondMoments) -> dict[str, Any]:
    """Figures of every module, as JSON types.

    Raises:
        InputError: the text was too short to give a single row.
    """
    if not moments.tokens:
        raise InputError(f"{plan.source.name}: holds no tokens")
    rows = []
    for layer, projection in zip(plan.layers, plan.parts.projections_of(plan.layers), strict=True):
        figures = moment_figures(moments.matrices[projection.name].to(projection.weight.device))
        rows.append({"module": projection.name, "layer": layer, **_row(figures, moments.tokens)})
    return {
        "model": plan.model, "text": plan.source.name, "tokens": moments.tokens,
        "sequence_length": plan.sequence_length, "digest": moments.digest, "cache": str(plan.folder), "modules": rows,
    }  # fmt: skip


def _row(figures: MomentFigures, tokens: int) -> dict[str, Any]:
    return {
        "d_in": figures.d_in,
        "tokens_per_dimension": tokens / figures.d_in,
        "largest_eigenvalue": figures.largest,
        "smallest_eigenvalue": figures.smallest,
        "condition": figures.condition,
        "effective_rank": figures.effective_rank,
        "shrinkage": figures.shrinkage_for(),
    }
