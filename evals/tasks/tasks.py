"""lm-eval tasks on a model in memory: loaded once per run, then the same documents at every step."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from evals.likelihood.teacher_forcing import Scorer
from evals.statistics.measures import Aggregation
from evals.statistics.outcomes import TaskResults
from evals.tasks.definition import task_definition
from evals.tasks.examples import TaskRows
from evals.tasks.foreign import task_at_fault, task_errors
from evals.tasks.groups import on_folders
from evals.tasks.loading import TaskFinder, check_task
from evals.tasks.results import aggregation_of, task_result
from seqedit.distribution.extras import need
from seqedit.errors import InputError
from seqedit.forward.protocols import CausalLM, Tokenizer

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
        definitions: Task name -> digest of all that its numbers depend on beside the model; made if not given.
    """

    tasks: Mapping[str, Any]
    limit: int | None = None
    definitions: Mapping[str, str] = field(default_factory=dict, repr=False)
    told: set[str] = field(default_factory=set, repr=False, compare=False)
    """What was said of them already: the same documents are evaluated at every step."""

    def __post_init__(self) -> None:
        missing = {}
        for name, task in self.tasks.items():
            if name not in self.definitions:
                with task_errors(name, "has documents that cannot be made"):
                    missing[name] = task_definition(task, self.limit)
        object.__setattr__(self, "definitions", {**self.definitions, **missing})

    def aggregation(self, task: str, metric: str) -> Aggregation:
        """How a task makes a metric of what it notes of the documents."""
        return aggregation_of(self.tasks[task], metric)


def load_tasks(
    names: Iterable[str] = GLUE_TASKS,
    data_files: Mapping[str, str | Path | TaskRows] | None = None,
    *,
    limit: int | None = None,
) -> LoadedTasks:
    """Load tasks and their documents, once per run.

    Args:
        names: Names of lm-eval's own tasks (a group or tag gives all its tasks) or of the shipped ones
            (`evals.tasks.library`), or paths of task YAML files.
        data_files: For some of the names a local file (JSONL, or JSON with a list) with the documents to
            evaluate on, columns named as in the data set; for tasks of facts records in any layout. Prompts and
            metrics stay those of the task; neither the network nor a cache is touched. `TaskRows` puts examples of a
            further file before them. For a group or tag a folder: all its tasks whose rows lie there as ``NAME.jsonl``
            (`evals.tasks.groups`). The other tasks take their data set from the Hub or its cache.
        limit: Only the first so many documents.

    Raises:
        InputError: an unknown task, one whose results cannot be compared document by document (the message says
            why), a name in ``data_files`` that is not among ``names``, an unreadable file.
        EnvironmentFailure: the data set of a task without a local file could not be had.
    """
    need("lm_eval", "lm-eval", "evaluating tasks")
    from evals.tasks.model import quiet

    names = list(names)
    files = dict(data_files or {})
    for name in files:
        if name not in names:
            raise InputError(f"data file for task {name!r}, which is not among the tasks {', '.join(names)}")
    if limit is not None and limit < 1:
        raise InputError("limit must be at least 1 document")
    loaded: dict[str, Any] = {}
    finder = TaskFinder()
    given = on_folders({name: files.get(name) for name in names}, finder)
    with quiet():
        for name, file in given.items():
            if file is not None:
                loaded[name] = finder.load_on(name, file)
            else:
                loaded.update(finder.load(name))
    for name, task in loaded.items():
        with task_errors(name, "has metrics that cannot be used"):
            left_out = check_task(name, task)
        if left_out:
            _LOG.warning("task %r: %s not kept, it is no number of the documents", name, ", ".join(left_out))
    return LoadedTasks(loaded, limit)


def evaluate_tasks(
    model: CausalLM,
    tokenizer: Tokenizer,
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
        scorer: What finds the likelihoods there; `evals.likelihood.teacher_forcing.score_continuations` by default.

    Returns:
        Per task the metrics and one outcome per document. A metric without a value for all documents is named, with
        the reason, under "unpaired".

    Raises:
        InputError: a task generates longer texts than the model has positions for, an answer has no tokens, or no
            metric of a task is left.
    """
    from lm_eval import evaluator

    from evals.tasks.facts import FactTask
    from evals.tasks.model import InMemoryModel, quiet, seeded
    from seqedit.forward.access import evaluating
    from seqedit.forward.finite import finite_logits

    if not tasks.tasks:
        return {}
    for task in tasks.tasks.values():
        # Drawn anew at every call: without this, other examples would stand before the documents at every step.
        task.set_fewshot_seed(_FEWSHOT_SEED)
        if isinstance(task, FactTask):
            task.tokenizer = tokenizer
    aggregating = _aggregating_nothing(tasks.tasks.values())
    with quiet(), evaluating(model), seeded(model), finite_logits(model), aggregating:
        lm = InMemoryModel(
            model, tokenizer, batch_size=batch_size, max_tokens_per_batch=max_tokens_per_batch, scorer=scorer
        )
        # Bootstrapped standard errors cost minutes and do not serve paired comparison (see evals.statistics).
        with task_errors(partial(task_at_fault, names=list(tasks.tasks)), "cannot be evaluated"):
            results = evaluator.evaluate(
                lm, {"tasks": dict(tasks.tasks)}, limit=tasks.limit, bootstrap_iters=0, log_samples=True
            )
    if lm.cut:
        _say_once(
            tasks, f"{len(lm.cut)} texts of the tasks {', '.join(tasks.tasks)} have more tokens than the model's "
            f"{lm.max_length} positions and lose their beginning, examples first; take fewer examples (num_fewshot)"
        )  # fmt: skip
    found = {}
    with quiet():
        for name, task in tasks.tasks.items():
            with task_errors(name, "notes of its documents what cannot be kept"):
                found[name] = task_result(name, task, results["samples"][name], tasks.definitions[name])
    return found


def _say_once(tasks: LoadedTasks, text: str) -> None:
    if text not in tasks.told:
        tasks.told.add(text)
        _LOG.warning("%s", text)


@contextmanager
def _aggregating_nothing(tasks: Iterable[Any]) -> Iterator[None]:
    """lm-eval notes every document and leaves the aggregation to `task_result`.

    An aggregation that has no value (a perplexity that overflows, a correlation of constants) would end the evaluation
    of all tasks there.
    """
    with ExitStack() as stack:
        for task in tasks:
            nothing = dict.fromkeys(task.aggregation(), _nothing)
            stack.enter_context(mock.patch.object(task, "aggregation", partial(defaultdict, lambda: _nothing, nothing)))
        yield


def _nothing(_: Sequence[Any]) -> float:
    return 0.0
