"""The options that a ledger keeps, and what each may be: what does not fit is said when it is set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seqedit.defaults import checks
from seqedit.errors import InputError
from seqedit.support.suggestions import did_you_mean


@dataclass(frozen=True)
class Key:
    """An option that can be set once.

    Attributes:
        name: Its name, that of the option of `seqedit edit` but for the dashes before it.
        about: What it says, one line.
        check: Gives the text to keep for one that was given: a path that exists becomes absolute.
        many: Whether it takes several values.
        number: Whether it is a whole number.
    """

    name: str
    about: str
    check: Callable[[str], str]
    many: bool = False
    number: bool = False


_KEYS = (
    Key("model", "where the base model is, if not where the ledger's was", checks.model),
    Key("method", "editing method", checks.method),
    Key("preset", "settings to start from: a shipped name, a .yaml file, or rule", checks.preset),
    Key("hparams", "hyperparameter file", checks.mapping_file),
    Key("layers", "layers to edit, e.g. 1,2,3", checks.layers),
    Key("spread", "single, even or sqrt", checks.spread),
    Key("second-moments", "safetensors file of second moments", checks.file),
    Key("text", "text to measure second moments on", checks.text),
    Key("context-templates", "JSON file, a list of lists of strings", checks.mapping_or_list_file),
    Key("zsre", "what zsRE records teach", checks.zsre),
    Key("gates", "limits that an edit must keep", checks.gate, many=True),
    Key("on-gate", "what a broken gate does to an edit: revert or stop", checks.on_gate),
    Key("tasks", "lm-eval tasks, NAME or NAME=FILE", checks.task, many=True),
    Key("num-fewshot", "examples before every document of the tasks with a file", checks.count, number=True),
    Key("fewshot", "NAME=FILE: where a task's examples come from", checks.named_file, many=True),
    Key("task-documents", "only the first documents of each task", checks.positive, number=True),
    Key("records", "records with paraphrases and neighbours of the facts", checks.source),
    Key("drift-text", "plain text whose perplexity and KL are measured", checks.text),
    Key("author", "author of new entries", checks.some_text),
    Key("seed", "seed of the context templates", checks.count, number=True),
    Key("dtype", "auto, float32, bfloat16 or float16", checks.dtype),
    Key("device", "cpu, cuda, ...", checks.some_text),
)
KEYS: Mapping[str, Key] = {key.name: key for key in _KEYS}
SIGNERS = "signers"
"""Whose signatures are asked for; the ledger keeps the keys of the file itself (`Ledger.keep_signers`)."""
NAMES = (*KEYS, SIGNERS)


def named(name: str) -> str:
    """The name of an option as it is kept; underscores count as dashes.

    Raises:
        InputError: there is none of this name; suggests one.
    """
    wanted = name.strip().lower().replace("_", "-").lstrip("-")
    wanted = _ALSO.get(wanted, wanted)
    if wanted in NAMES:
        return wanted
    raise InputError(f"unknown key '{name}'{did_you_mean(wanted, NAMES)} (known: {', '.join(NAMES)})")


_ALSO = {"gate": "gates", "task": "tasks", "signer": SIGNERS, "moments": "second-moments", "second-moment-text": "text"}


def checked(name: str, values: Sequence[str]) -> str | list[str]:
    """What is kept for an option.

    Args:
        name: A name of `KEYS`.
        values: What was given for it.

    Raises:
        InputError: it does not fit, or several were given for one; names the key.
    """
    key = KEYS[name]
    if not key.many and len(values) != 1:
        raise InputError(f"'{name}' takes one value, got {len(values)}: quote a value that has spaces")
    try:
        kept = [key.check(value) for value in values]
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    return kept if key.many else kept[0]


def known(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a ledger keeps that which this version knows: a newer one may have more. Numbers are numbers."""
    found = {name: value for name, value in kept.items() if name in KEYS and _fits(KEYS[name], value)}
    return {name: int(value) if KEYS[name].number else value for name, value in found.items()}


def _fits(key: Key, value: Any) -> bool:
    if key.many:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, str) and (value.isdecimal() or not key.number)
