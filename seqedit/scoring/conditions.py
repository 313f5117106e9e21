"""What all numbers that a ledger keeps were measured under, beside what each of them is named after.

A number is named after its texts, token ids or task. Two things are the same for all of a ledger: how its tokenizer
makes tokens, and how this version measures. They are kept at the root when something is measured first; under others
nothing is added, so that no two numbers of a ledger answer different questions.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from ledger import Ledger
from seqedit.errors import InputError
from seqedit.scoring.kinds import (
    KIND_ANSWERS,
    KIND_CONDITIONS,
    KIND_DRIFT,
    KIND_FIXED,
    KIND_OUTCOMES,
    KIND_SCORES,
    KIND_TASKS,
    KIND_UNEDITED,
)
from seqedit.text.identity import tokenizer_digest

if TYPE_CHECKING:
    from seqedit.forward.protocols import Tokenizer

MEASURE_VERSION = "1"
"""Raised when the arithmetic of a score, of perplexity or of the divergence changes."""

_WAY_OUT = "measure in another ledger (seqedit init)"
_CHANGED = {
    "tokenizer": "with another tokenizer, whose tokens differ: give the one of then",
    "measure": "by another version's arithmetic: measure with the version of then",
    "lm-eval": "by another version of lm-eval: install the one of then",
}


def keep_conditions(ledger: Ledger, tokenizer: Tokenizer, *, tasks: bool = False) -> None:
    """Keep what a ledger's numbers are measured under, or check that it is what it was.

    Args:
        ledger: The ledger, about to be measured for.
        tokenizer: The model's tokenizer.
        tasks: Whether lm-eval's tasks are among what is measured.

    Raises:
        InputError: the ledger's numbers were measured under other conditions; says which.
    """
    root = ledger.root()
    held = ledger.scores(root)
    kept = held.get(KIND_CONDITIONS, {})
    now = {"tokenizer": tokenizer_digest(tokenizer), "measure": MEASURE_VERSION}
    if tasks:
        now["lm-eval"] = _lm_eval()
    for name, value in now.items():
        if name in kept and kept[name] != value:
            told = f" ({kept[name]}, here {value})" if name != "tokenizer" else ""
            raise InputError(f"this ledger's scores were measured {_CHANGED[name]}{told}, or {_WAY_OUT}")
    if unsaid := [name for name in now if name not in kept]:
        old = bool(_MEASURED & held.keys()) if "tokenizer" in unsaid else KIND_OUTCOMES in held
        if old:
            print(
                "seqedit: scores that this ledger holds already do not say which "
                f"{' and '.join(_SAID[name] for name in unsaid)} they were measured with; those of now are kept from "
                "here on, and compared",
                file=sys.stderr,
            )
        ledger.add_scores(root, KIND_CONDITIONS, {name: now[name] for name in unsaid})


_MEASURED = {KIND_ANSWERS, KIND_DRIFT, KIND_FIXED, KIND_OUTCOMES, KIND_SCORES, KIND_TASKS, KIND_UNEDITED}
"""Kinds of scores of the unedited model; others at the root are notes of runs."""
_SAID = {"tokenizer": "tokenizer", "measure": "version's arithmetic", "lm-eval": "version of lm-eval"}


def _lm_eval() -> str:
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        return "unknown"
