"""What the files of an adapter directory are called, and whether a directory has them; knows no tensor."""

from __future__ import annotations

from pathlib import Path

from seqedit.adapters.sidecar import read_json
from seqedit.errors import InputError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
CARD = "README.md"
SIDECAR = "seqedit.json"
VALUES = "seqedit_values.safetensors"
ALL = (CONFIG, WEIGHTS, CARD, SIDECAR, VALUES)
FORMAT_VERSION = 1
RESIDUALS_FORMAT = 2
"""Of adapters that hold residuals, which versions before could not read; all others keep the first format."""
FORMATS = (FORMAT_VERSION, RESIDUALS_FORMAT)


def check_directory(directory: Path) -> None:
    """Refuse a local directory that is no adapter's, before anything is imported that could read one.

    Raises:
        InputError: names the file that is missing, or malformed.
    """
    for name in (SIDECAR, CONFIG):
        read_json(directory / name)
    for name in (WEIGHTS, VALUES):
        if not (directory / name).is_file():
            raise InputError(f"{directory / name} is missing")
