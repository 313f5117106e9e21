"""Files and folders that a user names: mappings in JSON or YAML to read, new folders to write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from seqedit.errors import InputError
from seqedit.support.reading import check_value, parse_json, read_text


def read_mapping(path: str | Path) -> Mapping[str, Any]:
    """A JSON or YAML file whose top level is a mapping.

    Raises:
        InputError: missing, malformed, or not a mapping.
    """
    file = Path(path)
    text = read_text(path)
    data = parse_json(text, path) if file.suffix == ".json" else _yaml(text, path)
    if not isinstance(data, Mapping):
        raise InputError(f"{path}: expected a mapping of settings, got {type(data).__name__}")
    for name in data:
        if not isinstance(name, str):
            raise InputError(f"{path}: the name of a field must be a text, got {name!r}")
    return data


def _yaml(text: str, path: str | Path) -> Any:
    try:
        value = yaml.safe_load(text)
    except RecursionError:
        raise InputError(f"{path}: malformed (nested too deeply)") from None
    except (ValueError, yaml.YAMLError, TypeError) as error:  # TypeError: a list or mapping as a key
        raise InputError(f"{path}: malformed ({' '.join(str(error).split())[:200]})") from error
    check_value(value, path)
    return value


def check_new(out: str | Path) -> None:
    """Refuse a place that holds something.

    Raises:
        InputError: it exists and is not an empty directory.
    """
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{out} exists and is not an empty directory; choose another --out")
