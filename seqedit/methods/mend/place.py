"""Where a trained hypernetwork is and what its configuration says: all that can be known of it without its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqedit.errors import InputError
from seqedit.support.reading import read_json
from seqedit.support.suggestions import did_you_mean

CONFIG = "mend_config.json"
CHECKPOINT = "checkpoint.safetensors"
FORMAT = "seqedit-mend"
VERSION = 1
_SHIPPED = Path(__file__).parents[2] / "demo" / "hypernetworks"


def resolve_hypernetwork(place: str | Path) -> Path:
    """The directory of a shipped hypernetwork, named like its model (``demo-llama``), or the place as it is.

    Raises:
        InputError: there is no such place, and the name is near that of a shipped one.
    """
    name = str(place)
    if Path(place).exists():
        return Path(place)
    if name not in shipped_names() and "/" not in name and (hint := did_you_mean(name, shipped_names())):
        raise InputError(f"no hypernetwork at {name}{hint}")
    return _SHIPPED / name if name in shipped_names() else Path(place)


def shipped_names() -> list[str]:
    """Names of the shipped hypernetworks."""
    return sorted(folder.name for folder in _SHIPPED.iterdir()) if _SHIPPED.is_dir() else []


def read_layers(place: str | Path) -> tuple[int, ...]:
    """The layers a hypernetwork edits, in order, from its configuration alone.

    Raises:
        InputError: there is none, or it is malformed.
    """
    folder = resolve_hypernetwork(place)
    data = read_config(folder)
    try:
        layers = tuple(sorted(int(row["layer"]) for row in data["layers"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / CONFIG}: field 'layers' is missing or malformed") from error
    if not layers:
        raise InputError(f"{folder / CONFIG}: field 'layers' is empty")
    return layers


def read_config(folder: Path) -> dict[str, Any]:
    """``mend_config.json`` as a JSON object of the version that is understood.

    Raises:
        InputError: names the file.
    """
    path = folder / CONFIG
    if not path.is_file():
        started = (folder / CHECKPOINT).is_file()
        hint = (
            "its training is not finished; continue it with 'seqedit train-mend --resume'"
            if started
            else f"is {folder} a directory written by 'seqedit train-mend'?"
        )
        raise InputError(f"{path} is missing; {hint}")
    data = read_json(path)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path}: not the configuration of a MEND hypernetwork")
    if data.get("version") != VERSION:
        raise InputError(f"{path}: version {data.get('version')!r} is not known to this seqedit (it knows {VERSION})")
    return data
