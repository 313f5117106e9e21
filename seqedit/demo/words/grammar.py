"""Acceptability contrasts for the CoLA-layout task: a well-formed sentence and ways to break it.

Each break is a real linguistic contrast: word order, a missing function word, agreement, a wrong preposition, or a
doubled word. Names are never broken up, and the fact itself stays true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def _scramble(rng: Random, units: list[str], names: frozenset[str]) -> list[str] | None:
    # The first unit stays: "is Anna ..." would read as a question. Three units or more are out of their place: a small
    # model does not notice two neighbours that changed places.
    if len(units) < 4:
        return None
    rest = units[1:]
    rng.shuffle(rest)
    moved = sum(a != b for a, b in zip(rest, units[1:], strict=True))
    if moved < 3 or any("," in unit for unit in rest):
        return None
    return [units[0], *rest]


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


_BREAKS: tuple[Break, ...] = (_scramble, _drop, _disagree, _wrong_preposition, _double)
# A small model first has to notice that some sentences are broken at all: a preposition that is wrong anywhere teaches
# that soonest. Evenly frequent from the beginning, the breaks stayed at chance for 1,800 steps.
EASY_FIRST = (2, 2, 3, 5, 1)
EVEN = (3, 3, 3, 3, 1)


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


def broken(
    rng: Random, units: list[str], names: frozenset[str] = frozenset(), frequencies: Sequence[int] = EVEN
) -> str | None:
    """Breaks a sentence in one of the five ways.

    Args:
        rng: source of randomness; consumed.
        units: the sentence as units, without the final full stop.
        names: units that must stay whole and single.
        frequencies: of scrambled words, a missing word, disagreement, a wrong preposition and a doubled word.

    Returns:
        The unacceptable sentence with its full stop, or None if the way drawn does not apply to this sentence.
    """
    (way,) = rng.choices(_BREAKS, frequencies)
    out = way(rng, list(units), names)
    return None if out is None else " ".join(out) + "."
