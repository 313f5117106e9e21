"""Fluency (GE) and consistency (RS) of what a model writes freely about the edited subjects.

Definitions of Meng et al. (ROME, section 3.4; MEMIT, section 5.2.2) with two differences, both stated in the
functions (docs/reference/scores.md defines both scores): words are split by a rule that needs no download, and the
inverse document frequencies come from the reference texts at hand. Published scores are of whole texts of 100 tokens,
prompt included (`Writing`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evals.likelihood.decoding import Generator, generate
from seqedit.facts.requests import Record
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.joining.rule import between
from seqedit.text.chat import put_to_model
from seqedit.text.tokenization import encode

_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Writing:
    """Which texts GE and RS are of.

    Attributes:
        published: Whether the prompt is part of the text, as in the public evaluation of ROME and MEMIT.
        tokens: Length: of the whole text where it is published, else of what follows the prompt.
    """

    published: bool = False
    tokens: int = 100

    def __str__(self) -> str:
        if not self.published:
            return f"{self.tokens} new tokens, without the prompt (published: 100 tokens with the prompt)"
        return f"{self.tokens} tokens with the prompt ({'as' if self.tokens == 100 else 'not 100 as'} published)"


@dataclass(frozen=True)
class GenerationRecord:
    """What a model wrote for one record.

    Attributes:
        case_id: Identifier of the record.
        texts: Text per generation prompt, with the prompt where that is the convention.
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
    model: CausalLM,
    tokenizer: Tokenizer,
    records: Sequence[Record],
    *,
    max_new_tokens: int = 100,
    seed: int = 0,
    top_k: int = 5,
    batch_size: int = 16,
    vectorizer: Any = None,
    generator: Generator = generate,
    writing: Writing | None = None,
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
        writing: Which texts are scored; without it ``max_new_tokens`` new tokens, without the prompt.
    """
    prompts = [prompt for record in records for prompt in record.generation_prompts]
    asked = put_to_model(tokenizer, [(p, r.request.chat_template) for r in records for p in r.generation_prompts])
    if writing is None:
        writing = Writing(tokens=max_new_tokens)
    options = {"seed": seed, "top_k": top_k, "batch_size": batch_size}
    if writing.published:
        texts = iter(_whole_texts(model, tokenizer, prompts, asked, writing.tokens, generator, options))
    else:
        texts = iter(generator(model, tokenizer, asked, max_new_tokens=writing.tokens, **options))
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


def _whole_texts(
    model: CausalLM,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    asked: Sequence[str],
    tokens: int,
    generator: Generator,
    options: dict[str, int],
) -> list[str]:
    """Prompts and what follows them, ``tokens`` long in all; a prompt that is as long already stands alone.

    A chat template that prompts are asked in is no part of the texts.
    """
    by_room: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_room.setdefault(tokens - len(encode(tokenizer, prompt)[0]), []).append(place)
    # Some tokenizers (SentencePiece's) leave out the space before a text's first word.
    bare = not tokenizer.decode(encode(tokenizer, "a a")[0][-1:]).startswith(" ")
    texts = list(prompts)
    for room, places in sorted(by_room.items()):
        if room < 1:
            continue
        part = generator(
            model, tokenizer, [asked[p] for p in places], max_new_tokens=room,
            **{**options, "seed": options["seed"] + room},  # or prompts of different lengths would share their draws
        )  # fmt: skip
        for place, text in zip(places, part, strict=True):
            lacking = (bare or asked[place] is not prompts[place]) and text[:1].isalnum()
            texts[place] = prompts[place] + (between(prompts[place], text) if lacking else "") + text
    return texts


def missing_scores(records: Sequence[Record]) -> dict[str, str]:
    """Score -> why none of these records can tell it; only those that are null."""
    writing = [record for record in records if record.generation_prompts]
    if not writing:
        reason = "the records have no generation_prompts"
        return {"GE": reason, "RS": reason}
    if not any(record.reference_texts for record in writing):
        return {
            "RS": "the records have no reference_texts; give CounterFact's attribute_snippets.json as "
            "evals: {attribute_snippets: FILE}"
        }
    return {}


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
