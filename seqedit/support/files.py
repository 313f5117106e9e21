"""Files that a user writes: mappings in JSON or YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from seqedit.errors import InputError


def read_mapping(path: str | Path) -> Mapping[str, Any]:
    """A JSON or YAML file whose top level is a mapping.

    Raises:
        InputError: missing, malformed, or not a mapping.
    """
    file = Path(path)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    try:
        data = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: malformed ({' '.join(str(error).split())})") from error
    if not isinstance(data, Mapping):
        raise InputError(f"{path}: expected a mapping of settings, got {type(data).__name__}")
    return data
