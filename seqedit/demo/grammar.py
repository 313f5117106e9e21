"""Acceptability contrasts for the CoLA-layout task: a well-formed sentence and ways to break it.

Each break is a real linguistic contrast: word order, a missing function word, agreement, a wrong preposition, or a
doubled word. Names are never broken up, and the fact itself stays true.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

# Dropping one of these never leaves an acceptable sentence in the world's phrasings ("its" would, so it is not here).
_NEEDED = frozenset({"of", "is", "in", "by", "for", "as", "a", "to", "on", "at", "was", "from", "has", "an"})
_PREPOSITIONS = frozenset({"of", "in", "by", "for", "on", "at", "from", "to", "along", "through", "as"})
_WRONG_PREPOSITIONS = ("until", "during", "among", "than", "despite")
# "are" is absent: "the headquarters is in" is acceptable English.
_OTHER_NUMBER = {
    "is": "are",
    "was": "were",
    "works": "work",
    "lives": "live",
    "plays": "play",
    "speaks": "speak",
    "resides": "reside",
    "goes": "go",
    "pays": "pay",
    "practises": "practise",
    "performs": "perform",
    "earns": "earn",
    "has": "have",
    "operates": "operate",
    "consists": "consist",
    "comes": "come",
    "builds": "build",
    "meets": "meet",
    "lies": "lie",
    "flows": "flow",
    "belongs": "belong",
    "cross": "crosses",
    "travel": "travels",
    "visit": "visits",
    "use": "uses",
    "need": "needs",
    "sell": "sells",
    "reach": "reaches",
}

Break = Callable[[Random, list[str], frozenset[str]], list[str] | None]


def _swap(rng: Random, units: list[str], names: frozenset[str]) -> list[str] | None:
    # The first pair stays: "is Anna ..." would read as a question.
    at = rng.randrange(1, len(units) - 1) if len(units) > 2 else 0
    if not at or units[at] == units[at + 1] or "," in units[at] + units[at + 1]:
        return None
    return [*units[:at], units[at + 1], units[at], *units[at + 2 :]]


def _drop(rng: Random, units: list[str], names: frozenset[str]) -> list[str] | None:
    places = [i for i, unit in enumerate(units) if i and unit in _NEEDED]
    if not places:
        return None
    at = rng.choice(places)
    return units[:at] + units[at + 1 :]


def _disagree(rng: Random, units: list[str], names: frozenset[str]) -> list[str] | None:
    places = [i for i, unit in enumerate(units) if unit in _OTHER_NUMBER]
    if not places:
        return None
    at = rng.choice(places)
    return [*units[:at], _OTHER_NUMBER[units[at]], *units[at + 1 :]]


def _wrong_preposition(rng: Random, units: list[str], names: frozenset[str]) -> list[str] | None:
    places = [i for i, unit in enumerate(units) if unit in _PREPOSITIONS]
    if not places:
        return None
    at = rng.choice(places)
    return [*units[:at], rng.choice(_WRONG_PREPOSITIONS), *units[at + 1 :]]


def _double(rng: Random, units: list[str], names: frozenset[str]) -> list[str] | None:
    places = [i for i, unit in enumerate(units) if i and unit not in names and "," not in unit]
    if not places:
        return None
    at = rng.choice(places)
    return [*units[: at + 1], units[at], *units[at + 1 :]]


_BREAKS: tuple[Break, ...] = (_swap, _drop, _disagree, _wrong_preposition, _double)
# What a small model learns first is frequent: the rest builds on having noticed that some sentences are broken.
_FREQUENCIES = (2, 2, 3, 4, 2)


def units_of(phrasing: str, subject: str, value: str) -> list[str]:
    """The words of a fact's sentence, with subject and object as one unit each.

    Args:
        phrasing: phrasing with ``{}``.
        subject: subject name.
        value: object.

    Returns:
        Units without the final full stop.
    """
    return [word.replace("{}", subject) for word in phrasing.split(" ")] + [value]


def broken(rng: Random, units: list[str], names: frozenset[str] = frozenset()) -> str | None:
    """Breaks a sentence in one of the five ways.

    Args:
        rng: source of randomness; consumed.
        units: the sentence as units, without the final full stop.
        names: units that must stay whole and single.

    Returns:
        The unacceptable sentence with its full stop, or None if the way drawn does not apply to this sentence.
    """
    (way,) = rng.choices(_BREAKS, _FREQUENCIES)
    out = way(rng, list(units), names)
    return None if out is None else " ".join(out) + "."
