"""Measures a demo model: ``python -m seqedit.demo_training.check MODEL_DIR`` prints JSON.

Tasks run through lm-eval's own GLUE task files with the demo world's validation documents.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from seqedit.demo.corpus import perplexity_text
from seqedit.demo.files import write_tasks
from seqedit.demo.tasks import TASKS
from seqedit.demo.world import DEFAULT_SEED, world


def task_scores(
    model: Any, tokenizer: Any, seed: int = DEFAULT_SEED, tasks: tuple[str, ...] = TASKS, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Scores of lm-eval's GLUE tasks on the demo world.

    Args:
        model: causal language model.
        tokenizer: its tokenizer.
        seed: of the world.
        tasks: which of ``cola``, ``sst2``, ``mrpc`` and ``rte``.
        limit: only the first so many documents of each task.

    Returns:
        Task name to metric name to score.
    """
    # lm-eval asks the Hub about data sets unless told not to; all data here is local.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    import lm_eval
    from lm_eval import evaluator
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    glue = Path(lm_eval.__file__).parent / "tasks" / "glue"
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        for name, path in write_tasks(Path(folder) / "data", seed).items():
            (Path(folder) / f"{name}.yaml").write_text(
                f"include: {glue / name / 'default.yaml'}\ntask: demo_{name}\ntag: demo\ndataset_path: json\n"
                f"dataset_name: null\ntraining_split: null\n"
                f"dataset_kwargs:\n  data_files:\n    validation: {path}\n  cache_dir: {folder}/cache\n",
                encoding="utf-8",
            )
        manager = TaskManager(include_defaults=False, include_path=folder)
        loaded = manager.load([f"demo_{name}" for name in tasks])
        lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=64)
        results = evaluator.evaluate(lm, loaded, limit=limit, bootstrap_iters=0)["results"]
    return {
        name: {
            key.removesuffix(",none"): float(value)
            for key, value in results[f"demo_{name}"].items()
            if key.endswith(",none") and "stderr" not in key
        }
        for name in tasks
    }


def check(model_dir: str | Path, seed: int = DEFAULT_SEED) -> dict[str, Any]:
    """Measures recall of the world's facts, the four tasks, perplexity and size.

    Args:
        model_dir: directory that ``from_pretrained`` loads.
        seed: of the world the model was trained on.

    Returns:
        ``{"facts", "recall": {form: share}, "recall_by_relation", "tasks", "perplexity", "parameters", "bytes"}``.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from seqedit.demo_training.recall import fact_recall, perplexity

    model = AutoModelForCausalLM.from_pretrained(model_dir).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    the_world = world(seed)
    return {
        "facts": len(the_world.facts),
        "recall": {
            form: round(fact_recall(model, tokenizer, the_world.facts, form), 4)
            for form in ("held_out", "trained", "prefixed", "question")
        },
        "recall_by_relation": {
            key: round(fact_recall(model, tokenizer, facts), 4) for key, facts in the_world.by_relation.items()
        },
        "tasks": task_scores(model, tokenizer, seed),
        "perplexity": round(perplexity(model, tokenizer, perplexity_text(the_world)), 3),
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes": sum(path.stat().st_size for path in Path(model_dir).iterdir()),
    }


def main() -> None:
    """Prints the measurements as JSON on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    args = parser.parse_args()
    print(json.dumps(check(args.model_dir, args.seed), indent=1))


if __name__ == "__main__":
    main()
