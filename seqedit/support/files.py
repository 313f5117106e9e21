"""Files and folders that a user names: mappings in JSON or YAML to read, new folders to write."""

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


def check_new(out: str | Path) -> None:
    """Refuse a place that holds something.

    Raises:
        InputError: it exists and is not an empty directory.
    """
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{out} exists and is not an empty directory; choose another --out")
