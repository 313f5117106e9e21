"""Fluency (GE) and consistency (RS) of what a model writes freely about the edited subjects.

Definitions of Meng et al. (ROME, section 3.4; MEMIT, section 5.2.2) with three differences, all stated in the
functions: the prompt is not counted as generated, words are split by a rule that needs no download, and the
inverse document frequencies come from the reference texts at hand instead of from Wikipedia.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evals.sampling import Generator, generate
from seqedit.requests import Record

_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class GenerationRecord:
    """What a model wrote for one record.

    Attributes:
        case_id: Identifier of the record.
        texts: Generated text per generation prompt, without the prompt.
        entropy: GE of the texts, x100; None without generation prompts.
        reference: RS of the texts, x100; None without generation prompts or reference texts.
    """

    case_id: str | int | None
    texts: tuple[str, ...]
    entropy: float | None
    reference: float | None


@dataclass(frozen=True)
class GenerationScores:
    """GE and RS averaged over the records that have them, x100 as published."""

    entropy: float | None
    reference: float | None
    records: tuple[GenerationRecord, ...]

    def to_dict(self) -> dict[str, Any]:
        """{"GE", "RS", "records": [{"case_id", "texts", "GE", "RS"}]}."""
        return {
            "GE": self.entropy,
            "RS": self.reference,
            "records": [
                {"case_id": r.case_id, "texts": list(r.texts), "GE": r.entropy, "RS": r.reference} for r in self.records
            ],
        }


def score_generation(
    model: Any,
    tokenizer: Any,
    records: Sequence[Record],
    *,
    max_new_tokens: int = 100,
    seed: int = 0,
    top_k: int = 5,
    batch_size: int = 16,
    vectorizer: Any = None,
    generator: Generator = generate,
) -> GenerationScores:
    """Let a model continue the records' generation prompts and score the texts.

    Args:
        model: A causal language model; left as it was.
        tokenizer: Its fast tokenizer.
        records: Records with ``generation_prompts`` and, for RS, ``reference_texts``.
        max_new_tokens, seed, top_k, batch_size: As for `generate`.
        vectorizer: What `fit_vectorizer` gave for the reference texts of a whole run. Without it the weights
            come from these records alone, and scores of different sets of records are not comparable.
        generator: What writes the texts.
    """
    prompts = [prompt for record in records for prompt in record.generation_prompts]
    texts = iter(
        generator(
            model,
            tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            seed=seed,
            top_k=top_k,
            batch_size=batch_size,
        )
    )
    if vectorizer is None:
        vectorizer = fit_vectorizer(text for record in records for text in record.reference_texts)
    scored = []
    for record in records:
        own = tuple(next(texts) for _ in record.generation_prompts)
        scored.append(
            GenerationRecord(
                record.request.case_id,
                own,
                entropy=100 * n_gram_entropy(own) if own else None,
                reference=(
                    100 * tfidf_similarity(" ".join(own), " ".join(record.reference_texts), vectorizer)
                    if own and record.reference_texts and vectorizer is not None
                    else None
                ),
            )
        )
    return GenerationScores(_mean(r.entropy for r in scored), _mean(r.reference for r in scored), tuple(scored))


def n_gram_entropy(texts: Sequence[str]) -> float:
    """Mean over texts of (2/3 H2 + 4/3 H3) / 2, the weighted entropies of their bi- and trigrams in bits.

    As published, but a word is a run of letters and digits (inner hyphens and apostrophes included) or one
    punctuation mark, where the papers used a trained sentence splitter before splitting words.
    """
    values = []
    for text in texts:
        words = _WORD.findall(text)
        values.append((2 / 3 * _entropy(words, 2) + 4 / 3 * _entropy(words, 3)) / 2)
    return sum(values) / len(values) if values else 0.0


def _entropy(words: Sequence[str], n: int) -> float:
    """Entropy in bits of the distribution of n-grams; 0 for a text too short to have any."""
    counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values()) if total else 0.0


def fit_vectorizer(texts: Iterable[str]) -> Any:
    """TF-IDF weights (scikit-learn's defaults) of some texts; None if they hold no words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    documents = [text for text in texts if re.search(r"\w\w", text)]
    return TfidfVectorizer().fit(documents) if documents else None


def tfidf_similarity(text: str, reference: str, vectorizer: Any) -> float:
    """Cosine of the TF-IDF vectors of two texts, 0 to 1; 0 if one shares no word with the vocabulary."""
    # The vectors have unit length (or are zero), so their product is the cosine.
    vectors = vectorizer.transform([text, reference])
    return float((vectors[0] @ vectors[1].T).toarray()[0, 0])


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
