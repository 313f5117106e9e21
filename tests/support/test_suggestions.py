"""What a name was probably meant to be."""

from __future__ import annotations

import re
from pathlib import Path

from seqedit.support.suggestions import closest, did_you_mean

ROOT = Path(__file__).parents[2]


def test_the_nearest_known_name_is_suggested_whatever_the_case() -> None:
    assert did_you_mean("memmit", ["emmet", "memit", "rome"]) == "; did you mean 'memit'?"
    assert did_you_mean("HAED", ["main", "HEAD"]) == "; did you mean 'HEAD'?"
    assert closest("ess", ["ES", "PS"]) == "ES"


def test_nothing_is_suggested_where_nothing_is_near_or_nothing_is_wrong() -> None:
    assert did_you_mean("xyz", ["emmet", "memit"]) == ""
    assert did_you_mean("memit", ["emmet", "memit"]) == ""
    assert did_you_mean("memit", []) == ""


def test_nearness_is_what_is_asked_for() -> None:
    assert closest("gpt2", ["demo-gpt2"], cutoff=0.8) is None
    assert closest("gpt2", ["demo-gpt2"]) == "demo-gpt2"


def test_names_are_suggested_by_this_helper_alone() -> None:
    """Subjects are looked up in the database, which has a search of its own (`ledger.queries.taught`)."""
    using = [
        path.relative_to(ROOT).as_posix()
        for package in ("seqedit", "ledger", "evals")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"get_close_matches", path.read_text("utf-8"))
    ]
    assert using == ["seqedit/support/suggestions.py"]
