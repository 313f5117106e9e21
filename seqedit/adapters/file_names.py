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
"""Of an adapter that says no more than the first version's: what every version reads."""
FRAMED_FORMAT = 2
"""Of one with requests whose joint or chat template is named, which older versions do not know."""
RESIDUALS_FORMAT = 2
"""Of one that holds residuals or statistics, which older versions cannot read."""
FORMATS = (FORMAT_VERSION, FRAMED_FORMAT)


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
