"""Fact files as records: CounterFact, EasyEdit, zsRE (MEND) and plain JSONL, told apart by their fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError, RequestError
from seqedit.requests import Neighbor, Record, Request

Row = Mapping[str, Any]


def load_records(source: str | Path, *, split: str = "train", limit: int | None = None) -> list[Record]:
    """Records from a local JSON or JSONL file, or from a dataset on the Hub.

    Args:
        source: A file, or the id of a Hub dataset (``azhx/counterfact``).
        split: Which split of a Hub dataset.
        limit: Take only the first records.

    Raises:
        InputError: the file is missing or not JSON.
        RequestError: a record is unusable; names its number (from 1) and field.
        EnvironmentFailure: the Hub cannot be reached.
    """
    path = Path(source)
    if path.is_file():
        rows = _read_rows(path)
    elif path.exists() or path.suffix in (".json", ".jsonl") or path.is_absolute() or str(source).count("/") != 1:
        raise InputError(f"no such file: {source} (a Hub dataset has an id like azhx/counterfact)")
    else:
        rows = _hub_rows(str(source), split)
    if limit is not None:
        rows = rows[:limit]
    if not rows:
        raise InputError(f"{source} holds no records")
    return [_convert(row, number, str(source)) for number, row in enumerate(rows, 1)]


def _read_rows(path: Path) -> list[Any]:
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}; convert it, e.g. with iconv -t utf-8") from error
    except OSError as error:
        raise EnvironmentFailure(f"{path}: {error.strerror}") from error
    if text.lstrip().startswith("["):
        try:
            rows: list[Any] = json.loads(text)
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error})") from error
        return rows
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise InputError(f"{path}, line {number}: not valid JSON ({error})") from error
    return rows


def _hub_rows(name: str, split: str) -> list[Any]:
    import datasets

    try:
        return list(datasets.load_dataset(name, split=split))
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise EnvironmentFailure(f"could not load the dataset '{name}' (split {split}): {first}") from error


def _convert(row: Any, number: int, source: str) -> Record:
    where = f"{source}, record {number}"
    if not isinstance(row, Mapping):
        raise RequestError(f"{where}: expected a JSON object, got {type(row).__name__}")
    for field, convert in _FORMATS:
        if field in row:
            try:
                return convert(row)
            except KeyError as error:
                raise RequestError(f"{where}: field {error} is missing") from error
            except RequestError as error:
                raise RequestError(f"{where}: {error}") from error
            except (TypeError, AttributeError, IndexError) as error:
                raise RequestError(f"{where}: malformed ({error})") from error
    raise RequestError(
        f"{where}: unknown layout with fields {', '.join(sorted(map(str, row))[:8])}; known are CounterFact "
        "(requested_rewrite), EasyEdit (prompt, target_new, rephrase_prompt), zsRE (src, alt) and plain JSONL "
        "(subject, prompt, target_new)"
    )


def _template(prompt: str, subject: str) -> str:
    """A filled-in prompt as a template; the subject must be there exactly once."""
    for name, value in (("prompt", prompt), ("subject", subject)):
        if not isinstance(value, str) or not value.strip():
            raise RequestError(f"field '{name}' must be a string that is not empty")
    if "{}" in prompt:
        return prompt
    count = prompt.count(subject)
    if count != 1:
        found = "does not occur" if count == 0 else f"occurs {count} times"
        raise RequestError(
            f"field 'prompt': the subject {subject!r} {found} in {prompt!r}; write the prompt with {{}} in its place"
        )
    return prompt.replace(subject, "{}")


def _strings(row: Row, field: str) -> tuple[str, ...]:
    value = row.get(field)
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, Sequence) or not all(isinstance(v, str) for v in values):
        raise RequestError(f"field '{field}' must be a string or a list of strings")
    return tuple(v for v in values if v.strip())


def _with_prompts(request: Request, row: Row) -> Record:
    """A record with the prompts that CounterFact and the plain layout name alike."""
    return Record(
        request,
        _strings(row, "paraphrase_prompts"),
        tuple(Neighbor(p) for p in _strings(row, "neighborhood_prompts")),
        _strings(row, "generation_prompts"),
        _strings(row, "reference_texts"),
    )


def _counterfact(row: Row) -> Record:
    rewrite = row["requested_rewrite"]
    request = Request(
        subject=rewrite["subject"],
        prompt=rewrite["prompt"],
        target_new=rewrite["target_new"]["str"],
        target_true=rewrite["target_true"]["str"] if rewrite.get("target_true") else None,
        relation=rewrite.get("relation_id"),
        case_id=row.get("case_id"),
    )
    return _with_prompts(request, row)


def _zsre(row: Row) -> Record:
    answers = _strings(row, "answers")
    request = Request(
        subject=row["subject"],
        prompt=_template(row["src"], row["subject"]),
        target_new=row["alt"],
        target_true=answers[0] if answers else row.get("pred") or None,
        case_id=row.get("case_id"),
    )
    near = (Neighbor(row["loc"], row["loc_ans"]),) if row.get("loc") and row.get("loc_ans") else ()
    return Record(request, _strings(row, "rephrase"), near)


def _filled_in(row: Row, *, target_true: str, relation: str) -> Request:
    """A request from a flat row, whose prompt may have the subject filled in already."""
    return Request(
        subject=row["subject"],
        prompt=_template(row["prompt"], row["subject"]),
        target_new=row["target_new"],
        target_true=row.get(target_true),
        relation=row.get(relation),
        case_id=row.get("case_id"),
    )


def _easyedit(row: Row) -> Record:
    request = _filled_in(row, target_true="ground_truth", relation="relation_id")
    prompts, truths = _strings(row, "locality_prompt"), _strings(row, "locality_ground_truth")
    if truths and len(truths) != len(prompts):
        raise RequestError("fields 'locality_prompt' and 'locality_ground_truth' have different lengths")
    near = tuple(Neighbor(p, truths[i] if truths else None) for i, p in enumerate(prompts))
    return Record(request, _strings(row, "rephrase_prompt"), near)


def _plain(row: Row) -> Record:
    return _with_prompts(_filled_in(row, target_true="target_true", relation="relation"), row)


# The first format whose telling field is there reads the row.
_FORMATS: tuple[tuple[str, Callable[[Row], Record]], ...] = (
    ("requested_rewrite", _counterfact),
    ("src", _zsre),
    ("rephrase_prompt", _easyedit),
    ("locality_prompt", _easyedit),
    ("ground_truth", _easyedit),
    ("target_new", _plain),
    ("prompt", _plain),
)
