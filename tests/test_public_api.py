"""The public names of seqedit: complete, typed, and as they were promised."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import seqedit
from tests.public_names import described

SNAPSHOT = Path(__file__).parent / "data" / "public_names.txt"
WANTED = {"Session", "Ledger", "EditedModel", "Adapter", "Request", "Record", "RunConfig", "run", "Callback"}


def test_the_public_names_and_their_signatures_are_those_of_the_snapshot() -> None:
    assert described() == SNAPSHOT.read_text("utf-8"), (
        "the public API changed; if that is meant, say so in the changelog and run "
        "`python -m tests.public_names > tests/data/public_names.txt`"
    )


def test_the_names_that_editors_see_are_those_that_are_loaded() -> None:
    tree = ast.parse(Path(seqedit.__file__).read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == seqedit._HOMES
    assert set(seqedit.__all__) == {"__version__", *typed}
    assert set(typed) >= WANTED


@pytest.mark.parametrize("name", sorted(seqedit.__all__))
def test_every_public_name_is_documented(name: str) -> None:
    thing = getattr(seqedit, name)
    assert isinstance(thing, str) or (thing.__doc__ or "").strip()
