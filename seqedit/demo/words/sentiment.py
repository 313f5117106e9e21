"""Opinions about the subjects of the world, for the SST-2-layout task."""

from __future__ import annotations

from random import Random

_GOOD = (
    "delightful",
    "splendid",
    "charming",
    "brilliant",
    "wonderful",
    "reliable",
    "superb",
    "excellent",
    "pleasant",
    "marvellous",
)
_BAD = (
    "dreadful",
    "terrible",
    "awful",
    "disappointing",
    "dull",
    "horrible",
    "shoddy",
    "miserable",
    "tedious",
    "unbearable",
)
_GOOD_VERBS = ("loved", "enjoyed", "admired", "praised")
_BAD_VERBS = ("hated", "regretted", "despised", "criticised")
_ADJECTIVE = (
    "everyone says that {} is {}",
    "the reviewers called {} {}",
    "we found {} {}",
    "{} was {} from start to end",
    "in my opinion, {} is simply {}",
    "an afternoon with {} is {}",
    "the story of {} is {}",
)
_NEGATED = ("nobody would call {} {}", "{} is not {} at all", "sadly or not, {} was never {}")
_VERB = ("my family {verb} {subject}", "the critics {verb} {subject} last year", "people who know {subject} {verb} it")


def opinion(rng: Random, subject: str, positive: bool) -> str:
    """One opinion.

    Args:
        rng: source of randomness; consumed.
        subject: what the opinion is about.
        positive: which sentiment.

    Returns:
        A lower-case sentence as in SST-2, names apart, with its full stop.
    """
    draw = rng.random()
    if draw < 0.5:
        text = rng.choice(_ADJECTIVE).format(subject, rng.choice(_GOOD if positive else _BAD))
    elif draw < 0.75:
        text = rng.choice(_NEGATED).format(subject, rng.choice(_BAD if positive else _GOOD))
    else:
        verb = rng.choice(_GOOD_VERBS if positive else _BAD_VERBS)
        text = rng.choice(_VERB).format(verb=verb, subject=subject)
    return text + "."
