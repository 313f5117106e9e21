"""Examples before the documents of a task on local rows: from a file of their own, never the document under test."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqedit.errors import InputError

SPLIT = "examples"
"""Name of the split that the examples' rows become."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskRows:
    """Local rows of a task.

    Attributes:
        file: The documents to evaluate on.
        num_fewshot: How many examples stand before every document; None for as many as the task says.
        fewshot_file: Where the examples are drawn from, with the columns of ``file``; None for a task without examples,
            or with some of its own.
        same_examples: Whether the first of the file stand before every document (lm-eval's ``first_n``), rather than
            some that are drawn for each. Then all documents begin alike, and that is computed once.

    Raises:
        InputError: the number is negative, or there is no file whose first examples could be taken.
    """

    file: str | Path
    num_fewshot: int | None = None
    fewshot_file: str | Path | None = None
    same_examples: bool = False

    def __post_init__(self) -> None:
        if self.num_fewshot is not None and (isinstance(self.num_fewshot, bool) or self.num_fewshot < 0):
            raise InputError(f"num_fewshot must be a number of examples, 0 or more, got {self.num_fewshot!r}")
        if self.same_examples and self.fewshot_file is None:
            raise InputError(f"same_examples: {self.file} has no file of examples whose first ones could be taken")

    @classmethod
    def of(cls, value: str | Path | TaskRows) -> TaskRows:
        """A file on its own stands for its rows, with the task's own number of examples."""
        return value if isinstance(value, TaskRows) else cls(value)


def set_examples(config: dict[str, Any], name: str, rows: TaskRows) -> int:
    """Write into a task's configuration where its examples come from.

    Args:
        config: lm-eval's configuration of the task; changed in place. A split `SPLIT` will hold the examples' rows.
        name: The task.
        rows: Its local rows.

    Returns:
        How many examples stand before every document.

    Raises:
        InputError: examples are asked for and there is no file of them, or the reverse.
    """
    own = config.get("fewshot_config")
    own = dict(own) if isinstance(own, Mapping) else {}
    number = rows.num_fewshot if rows.num_fewshot is not None else int(config.get("num_fewshot") or 0)
    if rows.fewshot_file is None and number and not own.get("samples"):
        raise InputError(
            f"task {name!r} puts {number} examples of its training split before every document, which a local file "
            "does not hold; name a file of examples (fewshot_file, --fewshot), or say num_fewshot: 0, or leave the "
            "file out"
        )
    if rows.fewshot_file is not None and not number:
        raise InputError(f"task {name!r} has no examples before its documents: a fewshot_file needs num_fewshot too")
    config["num_fewshot"] = number
    config.pop("fewshot_split", None)
    elsewhere = {"split"}  # its data set's own
    if rows.fewshot_file is not None:
        config["fewshot_split"] = SPLIT
        elsewhere |= {"samples", "fewshot_indices"}
    kept = {k: v for k, v in own.items() if k not in elsewhere}
    config["fewshot_config"] = {**kept, **({"sampler": "first_n"} if rows.same_examples else {})} or None
    return number


def leave_tested_out(task: Any, name: str, rows: TaskRows) -> None:
    """Take the documents under test out of the examples: one before itself would tell the answer.

    Args:
        task: lm-eval's task object.
        name: The task.
        rows: Its local rows, with a file of examples.

    Raises:
        InputError: too few examples are left.
    """
    tested = {_question(task, doc) for doc in task.eval_docs}
    given: Sequence[Any] = list(task.sampler.df)
    kept = [doc for doc in given if _question(task, doc) not in tested]
    if len(kept) < len(given):
        _LOG.warning(
            "task %r: %d of %d examples in %s are documents under test and left out",
            name, len(given) - len(kept), len(given), rows.fewshot_file,
        )  # fmt: skip
    if len(kept) < task.config.num_fewshot:
        raise InputError(
            f"file of examples {rows.fewshot_file}: task {name!r} needs {task.config.num_fewshot} before every "
            f"document, and {len(kept)} of its {len(given)} rows are not documents under test"
        )
    task.sampler.replace_df(kept)


def _question(task: Any, doc: Any) -> str:
    """What a document asks, whatever its number in the data set."""
    if task.multiple_input:
        return json.dumps(task.doc_to_choice(doc))
    return str(task.doc_to_text(doc))
