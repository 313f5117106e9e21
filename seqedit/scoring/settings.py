"""What is measured after every step: the settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from seqedit.errors import InputError
from seqedit.support.config import Config, setting
from seqedit.support.suggestions import did_you_mean

if TYPE_CHECKING:
    from evals.scores.generation import Writing


@dataclass(frozen=True, kw_only=True)
class EvalSettings(Config):
    """What is measured after every step."""

    counterfact: bool = setting(True, "score the new batch, and all earlier active ones")
    generation: bool = setting(True, "generate from the new batch's generation prompts (GE, RS)")
    generation_records: int = setting(16, "at most this many records of a batch are generated for")
    generation_convention: str | None = setting(
        None,
        "published: GE and RS of whole texts, prompt included; continuation: of the new text. A run's default is "
        "continuation, a comparison's published",
    )
    generation_tokens: int | None = setting(
        None, "length: published: tokens in all with the prompt (100); continuation: new tokens (50)"
    )
    attribute_snippets: str | None = setting(None, "CounterFact's attribute_snippets.json: reference texts of RS")
    answer_tokens: int = setting(8, "new tokens of the answers that the report shows")
    task_documents: int | None = setting(None, "take only the first documents of each task")
    task_batch_size: int = setting(64, "documents per forward pass of a task")
    resamples: int = setting(10_000, "resamples of the paired bootstrap")
    earlier_records: int | None = setting(None, "score a sample of so many earlier edits; none for all of them")
    drift: bool = setting(True, "measure drift of weights, of preserved outputs and of memorised values")
    perplexity_text: str | None = setting(
        None, "text file whose perplexity, and KL to the unedited model, is measured after every step"
    )

    def __post_init__(self) -> None:
        if self.generation_convention not in (None, "published", "continuation"):
            raise InputError(
                f"evals: generation_convention is published or continuation, got {self.generation_convention!r}"
                f"{did_you_mean(str(self.generation_convention), ('published', 'continuation'))}"
            )

    @property
    def writing(self) -> Writing:
        """How texts are written for GE and RS."""
        from evals.scores.generation import Writing

        published = self.generation_convention == "published"
        return Writing(published, self.generation_tokens or (100 if published else 50))
