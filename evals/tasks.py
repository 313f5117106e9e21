"""lm-eval tasks on a model in memory: loaded once per run, then the same documents at every step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.task_outcomes import Outcome, TaskResult, TaskResults
from seqedit.errors import EnvironmentFailure, InputError

GLUE_TASKS = ("cola", "sst2", "mrpc", "rte")
"""The tasks that tell an intact model from a damaged one, as in the papers on sequential editing."""


@dataclass(frozen=True)
class LoadedTasks:
    """lm-eval task objects with their documents.

    Attributes:
        tasks: Task by name.
        limit: Only the first so many documents count; None for all.
    """

    tasks: Mapping[str, Any]
    limit: int | None = None


def load_tasks(
    names: Iterable[str] = GLUE_TASKS,
    data_files: Mapping[str, str | Path] | None = None,
    *,
    limit: int | None = None,
) -> LoadedTasks:
    """Load tasks and their documents, once per run.

    Args:
        names: Names of lm-eval's own tasks, or paths of task YAML files.
        data_files: For some of the names a local file (JSONL, or JSON with a list) with the documents to
            evaluate on, columns named as in the data set. Prompts and metrics stay those of the task; neither
            the network nor a cache is touched. The other tasks take their data set from the Hub or its cache.
        limit: Only the first so many documents.

    Raises:
        InputError: an unknown task, a name in ``data_files`` that is not among ``names``, an unreadable file.
        EnvironmentFailure: the data set of a task without a local file could not be had.
    """
    from evals.task_model import quiet

    names = list(names)
    files = dict(data_files or {})
    for name in files:
        if name not in names:
            raise InputError(f"data file for task {name!r}, which is not among the tasks {', '.join(names)}")
    if limit is not None and limit < 1:
        raise InputError("limit must be at least 1 document")
    loaded: dict[str, Any] = {}
    with quiet():
        for name in names:
            path = _task_yaml(name)
            if name in files:
                loaded[name] = _task_on_rows(path, name, _read_rows(Path(files[name])))
            else:
                loaded.update(_task_as_packaged(path))
    return LoadedTasks(loaded, limit)


def evaluate_tasks(
    model: Any,
    tokenizer: Any,
    tasks: LoadedTasks,
    *,
    batch_size: int = 16,
    max_tokens_per_batch: int = 4096,
) -> TaskResults:
    """Evaluate a model on loaded tasks.

    Args:
        model: A causal language model; left as it was.
        tokenizer: Its tokenizer; left as it was.
        tasks: From `load_tasks`.
        batch_size: Texts per batch where a task generates text.
        max_tokens_per_batch: Most tokens per forward pass where a task compares choices.

    Returns:
        Per task the metrics and one outcome per document.
    """
    from lm_eval import evaluator

    from evals.model_access import evaluating
    from evals.task_model import InMemoryModel, quiet

    if not tasks.tasks:
        return {}
    with quiet(), evaluating(model):
        lm = InMemoryModel(model, tokenizer, batch_size=batch_size, max_tokens_per_batch=max_tokens_per_batch)
        # Bootstrapped standard errors cost minutes and do not serve paired comparison (see evals.statistics).
        results = evaluator.evaluate(
            lm, {"tasks": dict(tasks.tasks)}, limit=tasks.limit, bootstrap_iters=0, log_samples=True
        )
    return {
        name: TaskResult(
            name,
            _metrics(task, results["results"][name]),
            tuple(_outcome(task, sample) for sample in _first_filter(results["samples"][name])),
        )
        for name, task in tasks.tasks.items()
    }


def _task_yaml(name: str) -> Path:
    """The YAML file of a task: a path as it is, a packaged task by name."""
    import lm_eval.tasks

    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise InputError(f"task file {name} does not exist")
        return Path(name).resolve()
    root = Path(lm_eval.tasks.__file__).parent
    # lm-eval's own index reads some 10,000 files (10 s); the GLUE tasks are where their names say.
    glue = root / "glue" / name / "default.yaml"
    if glue.is_file():
        return glue
    entry = lm_eval.tasks.TaskManager().task_index.get(name)
    if entry is None or entry.yaml_path is None:
        raise InputError(f"unknown lm-eval task {name!r}; `lm-eval ls tasks` lists them")
    return Path(entry.yaml_path)


def _task_as_packaged(path: Path) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    try:
        tasks: dict[str, Any] = TaskManager(include_defaults=False).load([str(path)])["tasks"]
    except (OSError, ConnectionError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EnvironmentFailure(
            f"data set of task {path.parent.name!r} could not be loaded ({reason}); give a local file instead"
        ) from error
    return tasks


def _task_on_rows(path: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """The packaged task over rows held in memory."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    config = dict(load_yaml(path, recursive=True))
    split = config.get("test_split") or config.get("validation_split") or "validation"
    documents = {split: Dataset.from_list([dict(row) for row in rows])}
    # Few-shot examples would have to come from a training split that is not there.
    for field in ("training_split", "fewshot_split", "dataset_kwargs", "tag"):
        config.pop(field, None)
    config |= {"task": name, "num_fewshot": 0, "custom_dataset": lambda **_: documents}
    if not config.get("test_split"):
        config["validation_split"] = split
    return ConfigurableTask(config=config)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file, or of a JSON file that holds a list."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"data file {path} cannot be read: {error.strerror}") from error
    try:
        rows = (
            json.loads(text)
            if text.lstrip().startswith("[")
            else [json.loads(line) for line in text.splitlines() if line.strip()]
        )
    except json.JSONDecodeError as error:
        raise InputError(f"data file {path} is neither JSONL nor JSON: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"data file {path} must hold at least one row, every row an object")
    return list(rows)


def _metrics(task: Any, results: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of one task in the order of its own list; lm-eval names them "metric,filter"."""
    values: dict[str, float] = {}
    for name in task._metric_fn_list:
        for key, value in results.items():
            if key.split(",")[0] == name and isinstance(value, (int, float)):
                values.setdefault(name, float(value))
    return values


def _first_filter(samples: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted((s for s in samples if s["filter"] == samples[0]["filter"]), key=lambda s: s["doc_id"])


def _outcome(task: Any, sample: Mapping[str, Any]) -> Outcome:
    gold: int | None = None
    prediction: int | None = None
    likelihoods: tuple[float, ...] = ()
    if task.OUTPUT_TYPE == "multiple_choice":
        likelihoods = tuple(float(response[0]) for response in sample["filtered_resps"])
        prediction = max(range(len(likelihoods)), key=likelihoods.__getitem__)
        target = sample["target"]
        if isinstance(target, str):
            choices = task.doc_to_choice(sample["doc"])
            target = choices.index(target) if target in choices else None
        gold = target if isinstance(target, int) else None
    return Outcome(
        doc_id=int(sample["doc_id"]),
        doc_hash=sample["doc_hash"],
        gold=gold,
        prediction=prediction,
        correct=None if gold is None else prediction == gold,
        log_likelihoods=likelihoods,
        values={m: float(sample[m]) for m in sample["metrics"] if isinstance(sample[m], (int, float))},
    )
