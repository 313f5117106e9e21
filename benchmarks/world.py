"""What the parts measure on: the shipped models, and facts of the demo world."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from seqedit.demo.location import demo_file
from seqedit.editing.settings import method_config
from seqedit.errors import InputError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Record, Request
from seqedit.keys.templates import sample_context_templates
from seqedit.methods.config import ClosedFormConfig
from seqedit.models.anatomy import Anatomy, anatomy
from seqedit.models.loading import load_model
from seqedit.moments.second_moments import SecondMoments

MODELS = ("demo-gpt2", "demo-llama")


@dataclass(frozen=True, eq=False)
class Subject:
    """A model with what editing it needs.

    Attributes:
        name: Name of the shipped model, which is also that of its preset.
        model: The causal LM.
        tokenizer: Its fast tokenizer.
        parts: Its anatomy.
        contexts: Context templates sampled from it.
        config: MEMIT's settings of the preset.
    """

    name: str
    model: Any
    tokenizer: Any
    parts: Anatomy
    contexts: tuple[tuple[str, ...], ...]
    config: ClosedFormConfig

    @classmethod
    def load(cls, name: str, dtype: str = "auto") -> Subject:
        """A shipped model, on the CPU."""
        model, tokenizer = load_model(name, dtype=dtype, device="cpu")
        contexts = sample_context_templates(model, tokenizer, seed=0)
        config = method_config("memit", preset=name)
        assert isinstance(config, ClosedFormConfig)
        return cls(name, model, tokenizer, anatomy(model), contexts, config)

    @property
    def middle(self) -> int:
        """A layer half-way up, so that not all figures are those of the preset's layer."""
        return len(self.parts.layers) // 2


def records(count: int, seed: int = 0) -> list[Record]:
    """Records of the demo world in a random order, no fact twice.

    Raises:
        InputError: there are not so many.
    """
    found = load_records("demo:counterfact.json")
    random.Random(seed).shuffle(found)  # the file has one relation after the other
    seen: set[tuple[str, str]] = set()
    chosen = []
    for record in found:
        # As `check_batch` tells facts apart: one may be written in two ways.
        names = {record.request.fact, ("", record.request.text)}
        if not names & seen:
            seen |= names
            chosen.append(record)
    if count > len(chosen):
        raise InputError(f"the demo world has {len(chosen)} facts, {count} were asked for")
    return chosen[:count]


def requests(count: int, seed: int = 0) -> list[Request]:
    """The requests of `records`."""
    return [record.request for record in records(count, seed)]


def corpus(characters: int | None = None) -> list[str]:
    """Plain text of the demo world, by lines, up to about so many characters."""
    chosen, total = [], 0
    for line in demo_file("corpus.txt").read_text("utf-8").splitlines():
        if characters is not None and total >= characters:
            break
        chosen.append(line)
        total += len(line)
    return chosen


def synthetic_moments(shapes: dict[str, int], device: str = "cpu", rank: int = 256, seed: int = 0) -> SecondMoments:
    """Symmetric positive definite matrices in the place of second moments, whose numbers no cost depends on.

    Args:
        shapes: Module name -> d_in.
        device: Where to make and keep them.
        rank: Directions that stand out from the identity.
        seed: Seed of these.
    """
    random_numbers = torch.Generator(device).manual_seed(seed)
    matrices = {}
    for name, d_in in shapes.items():
        directions = torch.randn(d_in, min(rank, d_in), generator=random_numbers, device=device)
        matrix = directions @ directions.T / directions.shape[1]
        matrix.diagonal().add_(1.0)
        matrices[name] = matrix
    return SecondMoments(matrices)


def groups_of(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """Items in so many consecutive groups of about one size, none of them empty."""
    count = min(count, len(items))
    cuts = [len(items) * i // count for i in range(count + 1)]
    return [items[a:b] for a, b in pairwise(cuts)]
