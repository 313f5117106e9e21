"""Runs commands one after the other in a process that has no torch: as a program, the tests' other half.

``python -m tests.cli.without_torch FILE`` reads a list of argument lists and prints, for each, the exit code, stdout,
stderr, and which heavy packages were asked for; who asks for one gets an error.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

HEAVY = ("torch", "transformers", "peft", "datasets", "lm_eval", "matplotlib", "sklearn", "scipy")


class Refuse:
    """Finds none of the heavy packages, and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Nothing, or an error; `importlib.util.find_spec` alone imports nothing and may ask."""
        frames = traceback.extract_stack()
        if name in HEAVY and not any(frame.name == "find_spec" and "importlib" in frame.filename for frame in frames):
            self.asked.append(name)
            raise ModuleNotFoundError(f"{name} is not to be imported here", name=name)
        return None


def results(commands: list[list[str]]) -> list[dict[str, Any]]:
    """What each command came to."""
    refuse = Refuse()
    sys.meta_path.insert(0, refuse)  # type: ignore[arg-type]
    from seqedit.cli.main import run

    found = []
    for arguments in commands:
        refuse.asked.clear()
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                code: int | str = run(arguments)
            except BaseException:  # of the command; the others are still to be run
                code = traceback.format_exc()
        loaded = [name for name in HEAVY if name in sys.modules]
        found.append({"code": code, "out": out.getvalue(), "err": err.getvalue(), "heavy": [*refuse.asked, *loaded]})
    return found


if __name__ == "__main__":
    print(json.dumps(results(json.loads(Path(sys.argv[1]).read_text("utf-8")))))
