"""What a task's metric notes of one document, as JSON and back.

lm-eval lets a metric note anything: a number, a pair of right and chosen answer, a distribution over the choices,
texts, a whole document. The metric is what the task's aggregation makes of the notes of all documents, so they are kept
as they are: tuples come back as tuples and arrays as arrays, because an aggregation may tell them apart.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np


def encode(value: Any) -> Any:
    """A note as JSON types; plain numbers, texts, lists and None stay as they are.

    Raises:
        TypeError: it holds something that JSON could not give back.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, list):
        return [encode(part) for part in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(part) for part in value]}
    if isinstance(value, np.ndarray):
        return {"array": encode(value.tolist())}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(part)] for key, part in value.items()]}
    raise TypeError(f"a {type(value).__name__} cannot be kept")


def decode(value: Any) -> Any:
    """The inverse of `encode`; numbers of an array's kind come back as Python's."""
    if isinstance(value, list):
        return [decode(part) for part in value]
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "float":
            return float(content)
        if kind == "tuple":
            return tuple(decode(part) for part in content)
        if kind == "array":
            return np.array(decode(content))
        return {decode(key): decode(part) for key, part in content}
    return value


def same(value: Any) -> str:
    """A text that is equal for equal notes."""
    return json.dumps(encode(value))
