"""Records as a `datasets.Dataset` with fixed features, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import datasets

from seqedit.errors import InputError, RequestError
from seqedit.facts.published.probes import plain_probes
from seqedit.facts.requests import ORIGIN, Neighbor, Record, Request
from seqedit.facts.sources import pick_split

_TEXT = datasets.Value("string")
_TEXTS = datasets.List(_TEXT)

FEATURES = datasets.Features(
    {
        # An Arrow column has one type, and an id stays what it was: an integer in one column, a string in the other.
        "case_id": datasets.Value("int64"),
        "case_name": _TEXT,
        "subject": _TEXT,
        "prompt": _TEXT,
        "target_new": _TEXT,
        "target_true": _TEXT,
        "relation": _TEXT,
        "date": _TEXT,
        "source": _TEXT,
        "note": _TEXT,
        "paraphrase_prompts": _TEXTS,
        "neighborhood_prompts": datasets.List({"prompt": _TEXT, "target_true": _TEXT}),
        "generation_prompts": _TEXTS,
        "reference_texts": _TEXTS,
        "probes": datasets.List({"kind": _TEXT, "name": _TEXT, "prompt": _TEXT, "answers": _TEXTS}),
    }
)
"""Columns of a dataset of records; null stands for what is not known."""

REQUIRED = ("subject", "prompt", "target_new")
"""Columns that must be there; of the others a dataset may have any."""

_ALSO_READ = {"case_id": _TEXT, "neighborhood_prompts": _TEXTS}
_STRINGS = ("string", "large_string", "string_view")


def to_dataset(records: Iterable[Record]) -> datasets.Dataset:
    """Records as a dataset with `FEATURES`; `from_dataset` gives equal records back."""
    rows = [_row(record) for record in records]
    return datasets.Dataset.from_dict({name: [row[name] for row in rows] for name in FEATURES}, features=FEATURES)


def from_dataset(dataset: datasets.Dataset | datasets.DatasetDict, *, split: str = "train") -> list[Record]:
    """The inverse of `to_dataset`; columns that `FEATURES` does not name are left alone.

    Args:
        dataset: A dataset, or a dictionary of splits.
        split: Which of the splits.

    Raises:
        InputError: a column is missing or has another type (it is named, with both types), or there is no such split.
        RequestError: a row is not a record; names its number (from 1) and the field.
    """
    dataset = pick_split(dataset, split, "the dataset")
    check_features(dataset.features, "the dataset")
    records = []
    for number, row in enumerate(dataset.with_format(None), 1):
        try:
            records.append(_record(row))
        except RequestError as error:
            raise RequestError(f"record {number}: {error}") from None
    return records


def check_features(features: Mapping[str, Any], where: str) -> None:
    """Whether columns named as in `FEATURES` have the types there.

    Strings may be of any Arrow width, a ``case_id`` also a string, ``neighborhood_prompts`` also plain strings, and a
    column without any value has no type.

    Raises:
        InputError: names the first column that does not fit, its type and the one that is expected.
    """
    for name, wanted in FEATURES.items():
        found = features.get(name)
        if found is None:
            if name in REQUIRED:
                raise InputError(f"{where}: column '{name}' is missing, expected {_named(wanted)}")
            continue
        fits = _fits(found, wanted) or (name in _ALSO_READ and _fits(found, _ALSO_READ[name]))
        if not fits or (name in REQUIRED and _named(found) == "null"):
            raise InputError(f"{where}: column '{name}' has type {_named(found)}, expected {_named(wanted)}")


def _row(record: Record) -> dict[str, Any]:
    request = record.request
    return {
        "case_id": request.case_id if isinstance(request.case_id, int) else None,
        "case_name": request.case_id if isinstance(request.case_id, str) else None,
        "subject": request.subject,
        "prompt": request.prompt,
        "target_new": request.target_new,
        "target_true": request.target_true,
        "relation": request.relation,
        **{name: getattr(request, name) for name in ORIGIN},
        "paraphrase_prompts": list(record.paraphrase_prompts),
        "neighborhood_prompts": [
            {"prompt": n.prompt, "target_true": n.target_true} for n in record.neighborhood_prompts
        ],
        "generation_prompts": list(record.generation_prompts),
        "reference_texts": list(record.reference_texts),
        "probes": record.to_dict().get("probes", []),
    }


def _record(row: Mapping[str, Any]) -> Record:
    number, near = row.get("case_id"), row.get("neighborhood_prompts") or ()
    origin: dict[str, Any] = {name: row.get(name) for name in ORIGIN}
    return Record(
        Request(
            row["subject"],
            row["prompt"],
            row["target_new"],
            row.get("target_true"),
            row.get("relation"),
            case_id=row.get("case_name") if number is None else number,
            **origin,
        ),
        tuple(row.get("paraphrase_prompts") or ()),
        tuple(Neighbor(**n) if isinstance(n, Mapping) else Neighbor(n) for n in near),
        tuple(row.get("generation_prompts") or ()),
        tuple(row.get("reference_texts") or ()),
        plain_probes(row.get("probes")),
    )


def _fits(found: Any, wanted: Any) -> bool:
    if isinstance(found, datasets.Value):
        if found.dtype == "null":
            return True
        if not isinstance(wanted, datasets.Value):
            return False
        if wanted.dtype == "int64":  # every integer that int64 holds
            return found.dtype.startswith(("int", "uint")) and found.dtype != "uint64"
        return found.dtype in _STRINGS and wanted.dtype in _STRINGS
    inner, wanted_inner = _inner(found), _inner(wanted)
    if inner is not None and wanted_inner is not None:
        return _fits(inner, wanted_inner)
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        known = set(found) <= set(wanted) and "prompt" in found
        return known and all(_fits(feature, wanted[name]) for name, feature in found.items())
    return False


def _inner(feature: Any) -> Any:
    """What a list is of; None for what is no list."""
    if isinstance(feature, (datasets.List, datasets.LargeList)):
        return feature.feature
    return feature[0] if isinstance(feature, list) and feature else None


def _named(feature: Any) -> str:
    """A type in words."""
    if isinstance(feature, datasets.Value):
        return str(feature.dtype)
    inner = _inner(feature)
    if inner is not None:
        return f"list of {_named(inner)}"
    if isinstance(feature, Mapping):
        return "{" + ", ".join(f"{name}: {_named(value)}" for name, value in feature.items()) + "}"
    return type(feature).__name__
