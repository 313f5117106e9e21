"""What a task's numbers depend on beside the model, as a digest: a baseline holds for one definition of a task only."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

_ELSEWHERE = {
    "task", "task_alias", "tag", "group", "custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs",
    "training_split", "validation_split", "test_split", "fewshot_split", "process_docs", "metadata", "description_dict",
    "_qa_turn", "num_fewshot",
}  # fmt: skip
"""What says where documents come from: the documents themselves count, wherever they lie."""


def task_definition(task: Any, limit: int | None = None) -> str:
    """Digest of a task's documents, prompts, metrics with the code of its own functions, and examples.

    Args:
        task: lm-eval's task object.
        limit: Only the first so many documents.
    """
    digest = hashlib.sha256()
    config = {name: _told(value) for name, value in _fields(task.config) if name not in _ELSEWHERE}
    parts: dict[str, Any] = {
        "class": _code(type(task)),
        "config": config,
        "metadata": {k: v for k, v in _mapping(task.config.metadata).items() if k in ("version", "zsre")},
        "num_fewshot": task.config.num_fewshot or 0,
    }
    for part in (parts, *_documents(islice(task.eval_docs, limit))):
        digest.update(json.dumps(part, sort_keys=True, default=repr).encode() + b"\n")
    if task.config.num_fewshot and hasattr(task, "sampler"):
        digest.update(b"examples\n")
        for part in _documents(task.sampler.df):
            digest.update(json.dumps(part, sort_keys=True, default=repr).encode() + b"\n")
    return digest.hexdigest()


def _documents(documents: Iterable[Any]) -> Iterable[Any]:
    return (_told(document) for document in documents)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _fields(value: Any) -> Iterable[tuple[str, Any]]:
    return ((field.name, getattr(value, field.name)) for field in fields(value))


def _told(value: Any) -> Any:
    """A value of a configuration as JSON types that are the same in every process."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _told(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        parts = [_told(part) for part in value]
        return sorted(parts, key=repr) if isinstance(value, set | frozenset) else parts
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _told(part) for name, part in _fields(value) if not (name in _ELSEWHERE or name == "split")}
    if callable(value):
        return _code(value)
    return str(value)


def _code(function: Any) -> Any:
    """A function by its name and the text of the file that it is in, whose helpers it may call."""
    if isinstance(function, partial):
        return [_code(function.func), _told(list(function.args)), _told(dict(function.keywords))]
    target = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    try:
        source = Path(inspect.getsourcefile(target) or "")
        text = source.read_bytes() if source.is_file() else b""
    except (TypeError, OSError):  # built in
        text = b""
    name = getattr(target, "__qualname__", type(target).__qualname__)
    return [name, hashlib.sha256(text).hexdigest()]
