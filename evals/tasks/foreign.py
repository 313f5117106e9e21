"""Where lm-eval runs what a task file says: its templates, its functions, its data set; a failure there is the file's.

A task file names functions of its own and of lm-eval, so that nothing can be said of what they raise. It is taken here,
and only around lm-eval's own calls, and told in one line with the task's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError, SeqeditError
from seqedit.support.suggestions import did_you_mean

_MODEL = "torch.nn.modules"
"""Whose frames a failure of the model itself has; a tokenizer or a generation that is given nonsense has none."""
_UNKNOWN = re.compile(r"got an unexpected keyword argument '([^']*)'")


@contextmanager
def task_errors(name: str | Callable[[BaseException], str], doing: str) -> Iterator[None]:
    """Turn what lm-eval raises into an error that names the task.

    Args:
        name: The task, or its file; or what tells it by the error.
        doing: What failed, as the end of "task ... ": ``cannot be loaded``.

    Raises:
        InputError: the task, its functions, templates or rows do not fit together.
        EnvironmentFailure: its data set cannot be had, or it needs a package that is not there.
    """
    try:
        yield
    except SeqeditError:
        raise
    except ImportError as error:
        raise EnvironmentFailure(
            f"task {_name(name, error)!r} needs a package that is not installed ({told(error)})"
        ) from error
    except OSError as error:
        raise EnvironmentFailure(
            f"data set of task {_name(name, error)!r} could not be loaded ({told(error)}); give a local file instead"
        ) from error
    except Exception as error:
        from seqedit.support.memory import is_out_of_memory  # which needs torch

        if is_out_of_memory(error) or of_model(error):
            raise
        raise InputError(f"task {_name(name, error)!r} {doing} ({told(error)})") from error


def told(error: BaseException) -> str:
    """What an error says, on one line and not too long; an unknown key with the one that was probably meant."""
    text = " ".join(str(error).split())[:300]
    unknown = _UNKNOWN.search(text)
    if unknown is not None and "TaskConfig" in text:
        from dataclasses import fields

        from lm_eval.api.task import TaskConfig

        return f"unknown key '{unknown[1]}'{did_you_mean(unknown[1], [field.name for field in fields(TaskConfig)])}"
    if isinstance(error, RecursionError):
        return "it includes or contains itself"
    kind = type(error).__name__
    return text if isinstance(error, OSError | ImportError) and text else f"{kind}: {text}" if text else kind


def of_model(error: BaseException) -> bool:
    """Whether an error was raised in a forward pass."""
    return any(str(frame.f_globals.get("__name__", "")).startswith(_MODEL) for frame in _frames(error.__traceback__))


def task_at_fault(error: BaseException, names: list[str]) -> str:
    """The task whose code an error passed through; all that were run where none tells."""
    from lm_eval.api.task import Task

    for frame in _frames(error.__traceback__):
        for part in ("self", "task"):
            found = frame.f_locals.get(part)
            if isinstance(found, Task) and isinstance(getattr(found.config, "task", None), str):
                return str(found.config.task)
    return ", ".join(names)


def _name(name: str | Callable[[BaseException], str], error: BaseException) -> str:
    return name if isinstance(name, str) else name(error)


def _frames(traceback: TracebackType | None) -> Iterator[Any]:
    while traceback is not None:
        yield traceback.tb_frame
        traceback = traceback.tb_next
