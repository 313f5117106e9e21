"""zsRE by the names of its papers: efficacy, paraphrase and specificity accuracy, per token and exact.

The per-token accuracies are those of ROME, MEMIT and AlphaEdit (``eval_utils_zsre.py`` there): for every token of the
answer, is it the argmax after the prompt and the right tokens before it; averaged over a prompt's tokens, then within
the record, then over the records. Efficacy and paraphrase ask for the new answer, specificity for the locality
question's own answer. Exact accuracies want all tokens of an answer right, which is what a user sees.

Two things differ from that code. Targets are continued as token ids, so a tokenizer's BOS is never counted as a token
of the answer, nor does decoding and tokenizing again move its boundaries. And a record may have several locality
questions; each then weighs the same, however many tokens its answer has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from evals.likelihood.teacher_forcing import Progress
from evals.scores.counterfact import score_records
from evals.scores.scores import Scores
from seqedit.facts.requests import Record
from seqedit.forward.protocols import CausalLM, Tokenizer


@dataclass(frozen=True)
class Accuracy:
    """One accuracy in percent; None where no record can tell.

    Attributes:
        per_token: Mean share of the answer's tokens that are the argmax under teacher forcing.
        exact: Share of answers with all tokens right.
    """

    per_token: float | None
    exact: float | None


@dataclass(frozen=True)
class ZsreScores:
    """What zsRE tables report.

    Attributes:
        efficacy: Of the edited question (ET, EM).
        paraphrase: Of its rephrasings; papers also say generalisation (PT, PM).
        specificity: Of the unrelated questions (NT, NM).
    """

    efficacy: Accuracy
    paraphrase: Accuracy
    specificity: Accuracy

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """The scores as JSON types."""
        return asdict(self)


def zsre_scores(scores: Scores) -> ZsreScores:
    """The same scores by zsRE's names; nothing is measured again."""
    return ZsreScores(*(Accuracy(scores[f"{group}T"], scores[f"{group}M"]) for group in "EPN"))


def score_zsre(
    model: CausalLM,
    tokenizer: Tokenizer,
    records: Iterable[Record],
    *,
    max_tokens_per_batch: int = 16_384,
    progress: Progress | None = None,
) -> ZsreScores:
    """Score a model on zsRE records; arguments and errors as for `evals.scores.counterfact.score_records`."""
    return zsre_scores(
        score_records(model, tokenizer, records, max_tokens_per_batch=max_tokens_per_batch, progress=progress)
    )
