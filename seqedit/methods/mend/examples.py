"""What the training looks at: records as token ids, and which of them make up a step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from seqedit.errors import InputError
from seqedit.facts.requests import Record, Request
from seqedit.forward.protocols import Tokenizer
from seqedit.methods.mend.config import MendTraining
from seqedit.text.chat import frame_of, in_turn
from seqedit.text.lookup import Prompt, tokenize_request
from seqedit.text.tokenization import encode, prompt_and_target_ids


@dataclass(frozen=True)
class Case:
    """A record, tokenized.

    Attributes:
        prompt: The request with its target: what the edit is made from.
        answers: The rewrite prompt and paraphrases with the target: what the edit is to bring about.
        neighbors: Prompts whose next token the edit is to leave alone.
    """

    prompt: Prompt
    answers: tuple[Prompt, ...]
    neighbors: tuple[tuple[int, ...], ...]


def tokenize_records(tokenizer: Tokenizer, records: Sequence[Record]) -> list[Case]:
    """Records as cases.

    Raises:
        InputError: names the record (from 1) that cannot be used, or says that none has neighbourhood prompts.
    """
    cases = []
    for number, record in enumerate(records, 1):
        try:
            prompt = tokenize_request(tokenizer, record.request, with_target=True)
            paraphrases = [_with_target(tokenizer, text, record.request) for text in record.paraphrase_prompts]
        except InputError as error:
            raise InputError(f"record {number}: {error}") from error
        chat = record.request.chat_template
        neighbors = [encode(tokenizer, in_turn(tokenizer, n.prompt, chat))[0] for n in record.neighborhood_prompts]
        cases.append(Case(prompt, (prompt, *paraphrases), tuple(tuple(ids) for ids in neighbors if ids)))
    if not any(case.neighbors for case in cases):
        raise InputError(
            "none of the records has neighborhood_prompts, so nothing would teach the hypernetwork to leave other "
            "facts alone; train it on CounterFact or zsRE records"
        )
    return cases


def _with_target(tokenizer: Tokenizer, text: str, request: Request) -> Prompt:
    prompt_ids, target_ids = prompt_and_target_ids(
        tokenizer,
        text,
        request.target_new,
        join=request.join,
        frame=frame_of(tokenizer, request.chat_template),
        subject=request.subject,
    )
    return Prompt((*prompt_ids, *target_ids[:-1]), 0, tuple(target_ids), len(prompt_ids) - 1)


def split(records: Sequence[Record], share: float) -> tuple[list[Record], list[Record]]:
    """Records for training, and the last ones for validation.

    Raises:
        InputError: fewer than two records.
    """
    if len(records) < 2:
        raise InputError(f"training and validation need at least 2 records, got {len(records)}")
    held_out = min(len(records) - 1, max(1, round(share * len(records))))
    return list(records[:-held_out]), list(records[-held_out:])


def step_cases(cases: Sequence[Case], step: int, config: MendTraining) -> list[list[Case]]:
    """The groups of edits of a step, with the prompts drawn for it.

    A function of seed and step alone, so a resumed training sees what an uninterrupted one does. Every epoch goes
    through the records in another order.

    Returns:
        batch_size / edits_together groups of edits_together cases (fewer where there are not that many records).
    """
    first = step * config.batch_size
    places = range(first, first + config.batch_size)
    orders = {
        epoch: _shuffled(len(cases), f"{config.seed} epoch {epoch}") for epoch in {i // len(cases) for i in places}
    }
    draw = random.Random(f"{config.seed} step {step}")
    chosen = [_drawn(cases[orders[i // len(cases)][i % len(cases)]], config, draw) for i in places]
    return group(chosen, config.edits_together)


def validation_cases(cases: Sequence[Case], config: MendTraining) -> list[list[Case]]:
    """All held-out cases in groups, with the same prompts every time."""
    draw = random.Random(f"{config.seed} validation")
    return group([_drawn(case, config, draw) for case in cases], config.edits_together)


def group(cases: Sequence[Case], size: int) -> list[list[Case]]:
    """Cases in groups whose edits are applied together."""
    return [list(cases[i : i + size]) for i in range(0, len(cases), size)]


def _shuffled(count: int, seed: str) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def _drawn(case: Case, config: MendTraining, draw: random.Random) -> Case:
    paraphrases = case.answers[1:]
    few = draw.sample(paraphrases, min(config.paraphrases, len(paraphrases)))
    neighbors = draw.sample(case.neighbors, min(config.neighbors, len(case.neighbors)))
    return Case(case.prompt, (case.prompt, *few), tuple(neighbors))
