"""Methods, layouts and trackers of another distribution, which is made here and put on the path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seqedit.distribution.plugins import plugins
from seqedit.errors import EnvironmentFailure, InputError
from seqedit.facts.layouts import to_record
from seqedit.methods import get_method, method_names, registry
from seqedit.runs.trackers import make_sinks

MODULE = '''
from seqedit.facts.requests import Record, Request
from seqedit.methods.config import EditConfig
from seqedit.methods.registry import register
from seqedit.runs.callbacks import Callback

@register("plugged", EditConfig, None)
def compute(bench, requests, config):
    """A method of another distribution."""

def to_record(row):
    return Record(Request(row["plugged_subject"], "{} is", row["target_new"]))

class Sink(Callback):
    def __init__(self, place):
        self.place = place
'''
ENTRIES = """
[seqedit.methods]
plugged = plugged_module
[seqedit.layouts]
plugged_subject = plugged_module:to_record
[seqedit.trackers]
plugged = plugged_module:Sink
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.delitem(__import__("sys").modules, "plugged_module", raising=False)

    def put(module: str = MODULE, entries: str = ENTRIES) -> None:
        info = tmp_path / "plugged-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entries)
        (tmp_path / "plugged_module.py").write_text(module)
        plugins.cache_clear()

    yield put
    plugins.cache_clear()


def test_a_method_of_another_distribution_is_found_by_its_name(install: Any) -> None:
    install()
    assert get_method("plugged").summary == "A method of another distribution."
    assert "plugged" in method_names()


def test_a_layout_of_another_distribution_reads_its_rows_and_no_others(install: Any) -> None:
    install()
    row = {"plugged_subject": "Ada", "prompt": "x", "target_new": "here"}
    assert to_record(row, "row").request.subject == "Ada"
    plain = {"subject": "Bob", "prompt": "{} is", "target_new": "there"}
    assert to_record(plain, "row").request.subject == "Bob"


def test_a_tracker_of_another_distribution_is_made_with_its_place(install: Any) -> None:
    install()
    (sink,) = make_sinks(["plugged:here"])
    assert sink.place == "here"  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=r"unknown sink 'none' .*plugged"):
        make_sinks(["none"])


def test_one_that_cannot_be_loaded_is_named_with_its_distribution(install: Any) -> None:
    install(module="raise RuntimeError('broken')")
    with pytest.raises(EnvironmentFailure, match=r"'plugged' of seqedit\.methods, from plugged, cannot be loaded"):
        get_method("nothing")
