"""The unedited model's task outcomes at a ledger's root: each holds for one definition of its task.

A definition (`evals.tasks.definition`) is the task's documents, prompts, metrics and examples. A task of the same name
with another definition is measured anew; if runs of the ledger have steps with the first one, both are kept.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from evals.statistics.outcomes import TaskResult
from evals.tasks.tasks import LoadedTasks
from ledger.ledger import Ledger
from seqedit.errors import InputError
from seqedit.scoring.evaluator import StepScores
from seqedit.scoring.kinds import KIND_OUTCOMES, KIND_TASKS


def known_outcomes(ledger: Ledger, tasks: LoadedTasks | None) -> dict[str, Any]:
    """Task name -> outcomes of the unedited model, of those tasks that it was measured with as they are now."""
    stored = ledger.scores(ledger.root(), KIND_OUTCOMES).get(KIND_OUTCOMES, {})
    found = {}
    for name, definition in ({} if tasks is None else tasks.definitions).items():
        for key in (name, _apart(name, definition)):
            if key in stored and _holds(tasks, name, stored[key]):
                found[name] = stored[key]
    return found


def keep_apart(ledger: Ledger, scores: StepScores) -> None:
    """Give a newly measured baseline a key of its own where steps of the ledger belong to another definition.

    Args:
        ledger: The ledger.
        scores: Scores of the unedited model, about to be recorded at the root; changed in place.
    """
    stored = ledger.scores(ledger.root(), KIND_OUTCOMES).get(KIND_OUTCOMES, {})
    for name in list(scores.outcomes):
        definition = (scores.outcomes[name].get("about") or {}).get("definition")
        other = (stored.get(name, {}).get("about") or {}).get("definition")
        if other is None or other == definition or not _has_steps(ledger, name):
            continue
        scores.outcomes[_apart(name, str(definition))] = scores.outcomes.pop(name)
        scores.tasks.pop(name, None)


def check_same_tasks(ledger: Ledger, tasks: LoadedTasks | None) -> None:
    """Refuse to continue a ledger's runs with other tasks of the same names.

    Raises:
        InputError: a task changed since steps were measured with it; names it.
    """
    stored = ledger.scores(ledger.root(), KIND_OUTCOMES).get(KIND_OUTCOMES, {})
    for name, definition in ({} if tasks is None else tasks.definitions).items():
        other = (stored.get(name, {}).get("about") or {}).get("definition")
        if other is not None and other != definition and _has_steps(ledger, name):
            raise InputError(
                f"task '{name}' is not the one that this ledger's steps were measured with: its documents, prompt, "
                "metric or examples changed; restore them, give the task another name, or use another ledger"
            )


def _has_steps(ledger: Ledger, name: str) -> bool:
    """Whether any state but the unedited model was measured with a task of this name."""
    root = ledger.root()
    entries = {entry.id for branch in ledger.branches() for entry in ledger.log(branch) if entry.id != root}
    return any(name in ledger.scores(entry, KIND_TASKS).get(KIND_TASKS, {}) for entry in entries)


def _holds(tasks: LoadedTasks | None, name: str, data: Any) -> bool:
    """Whether stored outcomes are of the task as it is; those of older versions go by their documents."""
    assert tasks is not None
    result = TaskResult.from_dict(name, data)
    if result.definition is not None:
        return result.definition == tasks.definitions[name]
    task = tasks.tasks[name]
    documents = [_lm_eval_hash(doc) for _, doc in task.doc_iterator(limit=tasks.limit)]
    return documents == [outcome.doc_hash for outcome in result.outcomes] and set(task.aggregation()) == set(
        result.metrics
    )


def _lm_eval_hash(doc: Any) -> str:
    """lm-eval's own hash of a document."""
    from lm_eval.utils import handle_non_serializable

    text = json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _apart(name: str, definition: str) -> str:
    return f"{name}@{definition[:12]}"
