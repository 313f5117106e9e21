"""Everyday sentences without facts: prefixes for prompts, variety for the corpus, material for grammar contrasts."""

from __future__ import annotations

from random import Random

_WHO = (
    "the old baker",
    "a young painter",
    "the neighbour",
    "my aunt",
    "a tired traveller",
    "the quiet clerk",
    "the captain",
    "a small child",
    "the new teacher",
    "an elderly gardener",
    "the mayor",
    "his cousin",
)
_DID = (
    "opened the heavy door",
    "walked along the river",
    "bought a loaf of bread",
    "waited for the last train",
    "wrote a long letter",
    "looked at the grey sky",
    "drank a cup of coffee",
    "listened to the radio",
    "carried a basket of apples",
    "read the morning paper",
    "fed the birds in the park",
    "closed the window",
)
_WHEN = (
    "in the morning",
    "after the rain",
    "before dinner",
    "on the first day of spring",
    "at the end of the week",
    "during the holidays",
    "without a word",
    "for the second time",
    "in front of the station",
    "late at night",
)
_PLAIN = (
    "The weather was mild that week",
    "Nobody expected the long silence",
    "The museum is closed on Mondays",
    "A light snow fell over the hills",
    "The train arrived ten minutes late",
    "The soup was still warm",
    "Several letters were lost in the post",
    "The lights of the harbour were already on",
    "Many visitors came to the spring fair",
    "The path through the forest is narrow",
    "The old clock stopped at noon",
    "There was a long queue at the counter",
    "The children laughed at the joke",
    "The shop on the corner sells flowers",
    "It rained for most of the afternoon",
    "The meeting ended without a vote",
    "All the windows were open",
    "The bus was full of students",
    "The report has forty pages",
    "A dog was barking in the yard",
)


def clause(rng: Random) -> str:
    """One everyday clause, capitalised, without the final full stop."""
    if rng.random() < 0.3:
        return rng.choice(_PLAIN)
    who, did, when = rng.choice(_WHO), rng.choice(_DID), rng.choice(_WHEN)
    text = f"{who} {did} {when}" if rng.random() < 0.6 else f"{when}, {who} {did}"
    return text[0].upper() + text[1:]


def sentence(rng: Random) -> str:
    """One everyday sentence.

    Args:
        rng: source of randomness; consumed.

    Returns:
        A sentence with its full stop.
    """
    return clause(rng) + "."
