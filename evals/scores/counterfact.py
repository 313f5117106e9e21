"""CounterFact and zsRE scores as published: does the model hold the edits and leave their neighbours alone.

Meng et al., "Locating and Editing Factual Associations in GPT", section 3.4, and "Mass-Editing Memory in a
Transformer", section 5.2.2, define ES, PS, NS and S; EM, PM, NM, ET, PT and NT are the accuracies that zsRE is scored
by (`evals.scores.zsre`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from evals.likelihood.teacher_forcing import Continuation, Progress, Scorer, score_continuations
from evals.scores.probes import TokenizedProbe, probe_answers, tokenized_probe
from evals.scores.scores import PromptScore, RecordScore, Scores
from seqedit.errors import RequestError
from seqedit.facts.requests import Record, Request
from seqedit.forward.access import position_limit, too_long
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.text.chat import frame_of
from seqedit.text.tokenization import collector_paused, encode_many, pair_texts, prompt_and_target_ids

_Pair = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class TokenizedPrompt:
    """One prompt with both targets as token ids.

    Attributes:
        prompt: Its text.
        new: Ids of (prompt, new target).
        true: Ids of (prompt, true target); None where no true answer is known.
    """

    prompt: str
    new: _Pair
    true: _Pair | None


@dataclass(frozen=True)
class TokenizedRecord:
    """A record ready to be scored by a model with the tokenizer it was made by; make it once per run."""

    case_id: str | int | None
    rewrite: tuple[TokenizedPrompt, ...]
    paraphrase: tuple[TokenizedPrompt, ...]
    neighborhood: tuple[TokenizedPrompt, ...]
    probes: tuple[TokenizedProbe, ...] = ()


ScoredContent = tuple[Any, ...]
"""All of a record that its tokens and scores depend on, hashable."""


def scored_content(record: Record) -> ScoredContent:
    """What a record's tokens are made of: its request, paraphrases and neighbours.

    Equal content gives equal tokens (with one tokenizer), whichever object holds it; an object's ``id`` would be given
    to another record as soon as it is gone.
    """
    neighbors = tuple((n.prompt, n.target_true) for n in record.neighborhood_prompts)
    return record.request, tuple(record.paraphrase_prompts), neighbors, record.probes


def tokenize_records(tokenizer: Tokenizer, records: Iterable[Record]) -> list[TokenizedRecord]:
    """Token ids of everything that `score_tokenized` needs.

    Raises:
        RequestError: names the record whose prompt or target has no tokens.
    """
    with collector_paused():
        return _tokenized_records(tokenizer, list(records))


def _tokenized_records(tokenizer: Tokenizer, records: Sequence[Record]) -> list[TokenizedRecord]:
    chats = dict.fromkeys(record.request.chat_template for record in records)
    frames = {chat: frame_of(tokenizer, chat) for chat in chats}
    texts: dict[str, None] = {}
    for record in records:
        way = record.request.join, frames[record.request.chat_template]
        for prompt, *targets in _asked(record):
            for target in targets:
                if target is not None:
                    texts |= dict.fromkeys(pair_texts(prompt, target, *way))
        for probe in record.probes:
            for answer in probe_answers(probe):
                texts |= dict.fromkeys(pair_texts(probe.prompt, answer, *way))
    known = encode_many(tokenizer, list(texts)) if getattr(tokenizer, "is_fast", False) else {}
    seen: dict[tuple[str, str, str, str | None, str], _Pair] = {}  # neighbours recur between records

    def pair(prompt: str, target: str, request: Request) -> _Pair:
        subject = request.subject if request.subject in prompt else ""
        key = prompt, target, request.join, request.chat_template, subject
        if key not in seen:
            context, continuation = prompt_and_target_ids(
                tokenizer, prompt, target, known,
                join=request.join, frame=frames[request.chat_template], subject=subject,
            )  # fmt: skip
            if not context:
                raise RequestError(f"prompt {prompt!r} has no tokens")
            seen[key] = tuple(context), tuple(continuation)
        return seen[key]

    def tokenized(request: Request, prompt: str, new: str, true: str | None) -> TokenizedPrompt:
        other = None if true is None else pair(prompt, true, request)
        return TokenizedPrompt(prompt, pair(prompt, new, request), other)

    result = []
    for index, record in enumerate(records):
        request, paraphrases = record.request, len(record.paraphrase_prompts)
        try:
            prompts = tuple(tokenized(request, *asked) for asked in _asked(record))
            result.append(
                TokenizedRecord(
                    case_id=request.case_id,
                    rewrite=(prompts[0],),
                    paraphrase=prompts[1 : 1 + paraphrases],
                    neighborhood=prompts[1 + paraphrases :],
                    probes=tuple(tokenized_probe(probe, partial(pair, request=request)) for probe in record.probes),
                )
            )
        except RequestError as error:
            name = f"at position {index}" if request.case_id is None else str(request.case_id)
            raise RequestError(f"record {name}: {error}") from error
    return result


def _asked(record: Record) -> list[tuple[str, str, str | None]]:
    """(prompt, new target, true target) of the rewrite prompt, the paraphrases and the neighbours."""
    request = record.request
    own = [request.text, *record.paraphrase_prompts]
    return [
        *((prompt, request.target_new, request.target_true) for prompt in own),
        *(
            (n.prompt, request.target_new, request.target_true if n.target_true is None else n.target_true)
            for n in record.neighborhood_prompts
        ),
    ]


def score_tokenized(
    model: CausalLM,
    records: Sequence[TokenizedRecord],
    *,
    max_tokens_per_batch: int = 16_384,
    progress: Progress | None = None,
    scorer: Scorer = score_continuations,
) -> Scores:
    """Scores of records that are already token ids; arguments as for `score_records`."""
    _check_lengths(records, position_limit(model))
    # The same (prompt, target) is scored once, however many records share it.
    index: dict[_Pair, int] = {}
    for record in records:
        for prompt in (*record.rewrite, *record.paraphrase, *record.neighborhood):
            for pair in (prompt.new, prompt.true):
                if pair is not None:
                    index.setdefault(pair, len(index))
        for probe in record.probes:
            for pair in probe.pairs:
                index.setdefault(pair, len(index))
    scored = scorer(model, list(index), max_tokens_per_batch=max_tokens_per_batch, progress=progress)

    def of(pair: _Pair | None) -> Continuation | None:
        return None if pair is None else scored[index[pair]]

    def group(prompts: Sequence[TokenizedPrompt], answer_is_new: bool) -> tuple[PromptScore, ...]:
        result = []
        for prompt in prompts:
            new, true = of(prompt.new), of(prompt.true)
            assert new is not None
            answer = new if answer_is_new else true
            result.append(
                PromptScore(
                    prompt=prompt.prompt,
                    nll_new=new.mean_nll,
                    nll_true=None if true is None else true.mean_nll,
                    argmax_correct=None if answer is None else answer.argmax,
                    argmax_share=None if answer is None else answer.argmax_share,
                )
            )
        return tuple(result)

    return Scores(
        tuple(
            RecordScore(
                record.case_id,
                rewrite=group(record.rewrite, True),
                paraphrase=group(record.paraphrase, True),
                neighborhood=group(record.neighborhood, False),
                probes=tuple(probe.score([scored[index[pair]] for pair in probe.pairs]) for probe in record.probes),
            )
            for record in records
        )
    )


def _check_lengths(records: Sequence[TokenizedRecord], limit: int | None) -> None:
    """Name the record and the prompt that the model has too few positions for."""
    if limit is None:
        return
    for index, record in enumerate(records):
        for group in ("rewrite", "paraphrase", "neighborhood"):
            for number, prompt in enumerate(getattr(record, group), 1):
                for pair in (prompt.new, prompt.true):
                    tokens = 0 if pair is None else len(pair[0]) + len(pair[1]) - 1
                    if tokens > limit:
                        name = f"at position {index}" if record.case_id is None else repr(record.case_id)[:80]
                        what = "the prompt" if group == "rewrite" else f"{group} prompt {number}"
                        raise RequestError(f"record {name}: {too_long(what, prompt.prompt, tokens, limit)}")
        for probe in record.probes:
            for pair in probe.pairs:
                tokens = len(pair[0]) + len(pair[1]) - 1
                if tokens > limit:
                    name = f"at position {index}" if record.case_id is None else repr(record.case_id)[:80]
                    what = too_long(f"a {probe.kind} prompt", probe.prompt, tokens, limit)
                    raise RequestError(f"record {name}: {what}")


def score_records(
    model: CausalLM,
    tokenizer: Tokenizer,
    records: Iterable[Record],
    *,
    max_tokens_per_batch: int = 16_384,
    progress: Progress | None = None,
    scorer: Scorer = score_continuations,
) -> Scores:
    """Score a model on records by teacher forcing.

    Args:
        model: A causal language model on any device, in any dtype; left as it was.
        tokenizer: Its fast tokenizer.
        records: What to score; a neighbour's own ``target_true`` takes the place of the record's.
        max_tokens_per_batch: Most tokens per forward pass; no result depends on it beyond rounding.
        progress: Called with (rows done, rows in all).
        scorer: What finds the likelihoods.

    Returns:
        Per-prompt values and, from them, `evals.scores.scores.METRICS` in percent.

    Raises:
        RequestError: names the record whose prompt or target has no tokens, or that is longer than the model's
            positions.
        NumericsError: the model's outputs are not finite.
    """
    return score_tokenized(
        model,
        tokenize_records(tokenizer, records),
        max_tokens_per_batch=max_tokens_per_batch,
        progress=progress,
        scorer=scorer,
    )
