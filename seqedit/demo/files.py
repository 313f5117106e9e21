"""Writes the demo world as files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from seqedit.demo.corpus import corpus, perplexity_text
from seqedit.demo.records.counterfact import records, reference_texts
from seqedit.demo.records.mquake import mquake_cases
from seqedit.demo.records.ripple import ripple_cases
from seqedit.demo.records.timeline import timeline
from seqedit.demo.records.zsre import zsre_records
from seqedit.demo.tasks import TASKS, task_documents
from seqedit.demo.world import DEFAULT_SEED, world


def _json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def write_tasks(out_dir: Path, seed: int = DEFAULT_SEED) -> dict[str, Path]:
    """Writes the validation documents of the four tasks as JSONL.

    Args:
        out_dir: directory to write into; created if absent.
        seed: of the world.

    Returns:
        Task name to file.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    the_world = world(seed)
    out = {}
    for name in TASKS:
        out[name] = out_dir / f"{name}.jsonl"
        _lines(out[name], (json.dumps(doc, ensure_ascii=False) for doc in task_documents(the_world, name)))
    return out


def write_world(out_dir: str | Path, seed: int = DEFAULT_SEED) -> Path:
    """Writes the whole world.

    Args:
        out_dir: directory to write into; created if absent, files of the same names are replaced.
        seed: of the world.

    Returns:
        ``out_dir``, now with ``corpus.txt`` (one document a line; line breaks of task prompts become spaces),
        ``counterfact.json``, ``zsre.json``, ``mquake.json``, ``ripple.json``, ``timeline.json``,
        ``reference_texts.json``, ``perplexity.txt`` and ``tasks/{cola,sst2,mrpc,rte}.jsonl`` (validation).
    """
    out = Path(out_dir)
    write_tasks(out / "tasks", seed)
    the_world = world(seed)
    _lines(out / "corpus.txt", (document.replace("\n", " ") for document in corpus(the_world)))
    _json(out / "counterfact.json", records(the_world))
    _json(out / "zsre.json", zsre_records(the_world))
    _json(out / "mquake.json", mquake_cases(the_world))
    _json(out / "ripple.json", ripple_cases(the_world))
    _json(out / "timeline.json", timeline(the_world))
    _json(out / "reference_texts.json", reference_texts(the_world))
    (out / "perplexity.txt").write_text(perplexity_text(the_world) + "\n", encoding="utf-8")
    return out
