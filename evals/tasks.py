"""lm-eval tasks on a model in memory: loaded once per run, then the same documents at every step."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from evals.task_loading import TaskFinder, check_task, is_paired
from evals.task_outcomes import Outcome, TaskResult, TaskResults
from evals.teacher_forcing import Scorer
from seqedit.errors import InputError

GLUE_TASKS = ("cola", "sst2", "mrpc", "rte")
"""The tasks that tell an intact model from a damaged one, as in the papers on sequential editing."""

_FEWSHOT_SEED = 1234
"""lm-eval's own default."""

_LOG = logging.getLogger(__name__)


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
        names: Names of lm-eval's own tasks (a group or tag gives all its tasks) or of the shipped ones
            (`evals.task_library`), or paths of task YAML files.
        data_files: For some of the names a local file (JSONL, or JSON with a list) with the documents to
            evaluate on, columns named as in the data set; for tasks of facts records in any layout. Prompts and
            metrics stay those of the task; neither the network nor a cache is touched. The other tasks take their
            data set from the Hub or its cache.
        limit: Only the first so many documents.

    Raises:
        InputError: an unknown task, one whose results cannot be compared document by document (the message says
            why), a name in ``data_files`` that is not among ``names``, an unreadable file.
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
    finder = TaskFinder()
    with quiet():
        for name in names:
            if name in files:
                loaded[name] = finder.load_on(name, Path(files[name]))
            else:
                loaded.update(finder.load(name))
    for name, task in loaded.items():
        left_out = check_task(name, task)
        if left_out:
            _LOG.warning("task %r: %s not kept, it is no mean over documents", name, ", ".join(left_out))
    return LoadedTasks(loaded, limit)


def evaluate_tasks(
    model: Any,
    tokenizer: Any,
    tasks: LoadedTasks,
    *,
    batch_size: int = 16,
    max_tokens_per_batch: int = 16_384,
    scorer: Scorer | None = None,
) -> TaskResults:
    """Evaluate a model on loaded tasks.

    Args:
        model: A causal language model; left as it was.
        tokenizer: Its tokenizer; left as it was.
        tasks: From `load_tasks`.
        batch_size: Texts per batch where a task generates text.
        max_tokens_per_batch: Most tokens per forward pass where a task compares choices.
        scorer: What finds the likelihoods there; `evals.teacher_forcing.score_continuations` by default.

    Returns:
        Per task the metrics and one outcome per document. A metric that some documents do not tell is left out, with
        a line in the log.

    Raises:
        InputError: a task generates longer texts than the model has positions for, an answer has no tokens, or no
            metric of a task is left.
    """
    from lm_eval import evaluator

    from evals.fact_tasks import FactTask
    from evals.finite import finite_logits
    from evals.model_access import evaluating
    from evals.task_model import InMemoryModel, quiet, seeded

    if not tasks.tasks:
        return {}
    for task in tasks.tasks.values():
        # Drawn anew at every call: without this, other examples would stand before the documents at every step.
        task.set_fewshot_seed(_FEWSHOT_SEED)
        if isinstance(task, FactTask):
            task.tokenizer = tokenizer
    with quiet(), evaluating(model), seeded(model), finite_logits(model):
        lm = InMemoryModel(
            model, tokenizer, batch_size=batch_size, max_tokens_per_batch=max_tokens_per_batch, scorer=scorer
        )
        # Bootstrapped standard errors cost minutes and do not serve paired comparison (see evals.statistics).
        results = evaluator.evaluate(
            lm, {"tasks": dict(tasks.tasks)}, limit=tasks.limit, bootstrap_iters=0, log_samples=True
        )
    return {
        name: _result(name, task, results["results"][name], results["samples"][name])
        for name, task in tasks.tasks.items()
    }


def _result(name: str, task: Any, results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> TaskResult:
    """A task's metrics, in the order of its own list, and outcomes, of the first of its answer filters."""
    chosen = samples[0]["filter"]
    outcomes = tuple(
        _outcome(task, sample)
        for sample in sorted((s for s in samples if s["filter"] == chosen), key=lambda s: s["doc_id"])
    )
    metrics = {}
    for metric in task.aggregation():
        if f"{metric},{chosen}" not in results or not is_paired(task, metric):
            continue
        silent = sum(metric not in o.values and o.gold is None for o in outcomes)
        if silent:
            # Averages over other documents at every step could not be compared.
            _LOG.warning("task %r: %s not kept, %d documents do not tell it", name, metric, silent)
        else:
            metrics[metric] = float(results[f"{metric},{chosen}"])
    if not metrics:
        raise InputError(f"task {name!r} has no metric that every one of its documents tells")
    return TaskResult(name, metrics, outcomes)


def _outcome(task: Any, sample: Mapping[str, Any]) -> Outcome:
    gold: int | None = None
    prediction: int | None = None
    likelihoods: tuple[float, ...] = ()
    text: str | None = None
    answers = sample["filtered_resps"]
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(sample["doc"])
        # A task may also ask for the choices without their context; those answers come after.
        likelihoods = tuple(float(answer[0]) for answer in answers[: len(choices)])
        prediction = max(range(len(likelihoods)), key=likelihoods.__getitem__)
        # Where the choices are contexts before one continuation, the right one is told by the text.
        target = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
        if isinstance(target, str):
            target = choices.index(target) if target in choices else None
        gold = target if isinstance(target, int) else None
    elif task.OUTPUT_TYPE == "loglikelihood":
        likelihoods = tuple(float(answer[0]) for answer in answers)
    elif task.OUTPUT_TYPE == "generate_until":
        text = str(answers[0])
    return Outcome(
        doc_id=int(sample["doc_id"]),
        doc_hash=sample["doc_hash"],
        gold=gold,
        prediction=prediction,
        correct=None if gold is None else prediction == gold,
        log_likelihoods=likelihoods,
        values={m: float(sample[m]) for m in sample["metrics"] if isinstance(sample[m], Real)},
        text=text,
    )
