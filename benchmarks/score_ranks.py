"""Scoring in one process or, started by torchrun, in several: seconds of scoring alone, written to a file.

``torchrun --standalone --nproc_per_node 2 -m benchmarks.score_ranks demo-llama 512 3 FILE``
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.world import records
from evals.scores.counterfact import score_records, score_tokenized, tokenize_records
from seqedit.cli.parallel import run_in_ranks
from seqedit.parallel.ranks import Ranks
from seqedit.scoring.split import SplitScoring


def work(ranks: Ranks, model: str, count: int, repeats: int) -> dict[str, float]:
    """Score on all ranks, some times; starting, loading and a small first pass are not counted.

    Returns:
        ``seconds`` of scoring tokenized records, as every step of a run does, and of ``tokenizing`` them, which a run
        does once and the leader does alone.
    """
    loaded, tokenizer = ranks.load_model(model, device="cpu")
    facts = records(count)
    scorer = SplitScoring(ranks).scorer
    score_records(loaded, tokenizer, facts[:8], scorer=scorer)
    seconds, tokenizing = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        tokenized = tokenize_records(tokenizer, facts)
        begin = time.perf_counter()
        scores = score_tokenized(loaded, tokenized, scorer=scorer)
        seconds.append(time.perf_counter() - begin)
        tokenizing.append(begin - start)
    return {
        "seconds": min(seconds), "tokenizing": min(tokenizing), "S": scores["S"] or 0.0,
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def main(model: str, count: str, repeats: str, file: str) -> int:
    """Score and, in the leading process, write what it took as JSON."""

    def command(ranks: Ranks | None) -> int:
        result = work(ranks or Ranks(), model, int(count), int(repeats))
        Path(file).write_text(json.dumps(result), "utf-8")
        return 0

    return run_in_ranks(command)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
