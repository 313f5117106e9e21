"""Work in a process of its own, so that its peak of memory is its own: ``python -m benchmarks.children``."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.timing import peak_bytes


def in_child(function: str, **arguments: Any) -> dict[str, Any]:
    """Call a function in a new process.

    Args:
        function: ``module:name`` of a function that returns a JSON object.
        arguments: Its arguments, as JSON types.

    Returns:
        What it returned, with ``peak_bytes`` of its process where it names none itself.

    Raises:
        RuntimeError: the process failed; what it wrote to stderr says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks.children", function, json.dumps(arguments), str(file)]
        # What it prints is for people (descriptor 2): stdout is for the figures.
        code = subprocess.run(command, stdout=2, check=False).returncode
        if code:
            raise RuntimeError(f"{function} {arguments} failed in a process of its own, exit code {code}")
        answer: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return answer


def main(function: str, arguments: str, file: str) -> None:
    """Call the function and write what it returned."""
    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    Path(file).write_text(json.dumps({"peak_bytes": peak_bytes(), **result}), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
