"""The package itself: cheap to import, complete, and below the rest of the project."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

import evals

HEAVY = ("torch", "lm_eval", "matplotlib", "transformers", "sklearn", "jinja2")


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, evals; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", evals.__all__)
def test_every_name_is_there(name: str) -> None:
    import_module(evals._HOMES[name])
    # A submodule of the same name would shadow the function as soon as it is imported.
    assert not isinstance(getattr(evals, name), ModuleType)
    assert name in dir(evals)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_thing"):
        evals.no_such_thing  # noqa: B018
