from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import pytest

from ledger.history.entries import Entry, root_entry
from seqedit.adapters.adapter import BaseModel
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from tests.ledger.helpers import MODEL, TIME

PARENT, ADAPTER = "a" * 64, "b" * 64


def edit(**changes) -> Entry:
    fields = {
        "base_model": MODEL,
        "operation": "edit",
        "time": TIME,
        "parents": (PARENT,),
        "adapter": ADAPTER,
        "method": {"name": "memit", "layers": [1, 2], "lr": 0.1},
        "requests": (Request("Zoë", "{} is in", "Łódź", case_id=3),),
        "author": "me",
        "message": "text",
    }
    return Entry(**{**fields, **changes})


PROGRAM = """
from ledger.history.entries import Entry
from seqedit.adapters.adapter import BaseModel
from seqedit.facts.requests import Request
method = {k: 1 for k in {"name", "layers", "lr", "seed", "clamp"}}
print(Entry(BaseModel("m", "f" * 64), "edit", "2026-01-31T12:00:00Z", ("a" * 64,), "b" * 64, method=method,
            requests=(Request("s", "{}", "t", relation="P1"),)).id)
"""


def test_equal_content_has_one_id_over_hash_seeds():
    ids = set()
    for seed in ("0", "1", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        ids.add(done.stdout)
    assert len(ids) == 1


def test_the_id_of_a_known_entry_never_changes():
    """A released format: a change here makes every ledger in the world unreadable."""
    assert (
        root_entry(MODEL, author="", time=TIME, message="base model").id
        == "244b229ca6b39d9673a7f2b57475047019798b4558841ac58f123c85252a15d4"
    )
    assert edit().id == "e213eec37096d40c2944ccbaafda2bbbf7424910371bbf8b8726df9752aa004e"


@pytest.mark.parametrize(
    "change",
    [
        {"base_model": BaseModel("other", "f" * 64)},
        {"base_model": BaseModel("tiny", "e" * 64)},
        {"parents": ("c" * 64,)},
        {"adapter": "c" * 64},
        {"method": {"name": "emmet"}},
        {"requests": ()},
        {"requests": (Request("Zoë", "{} is in", "Łódź", case_id="3"),)},
        {"author": "you"},
        {"time": "2026-01-31T12:00:01Z"},
        {"message": ""},
    ],
)
def test_every_field_is_part_of_the_id(change):
    assert edit(**change).id != edit().id


def test_content_reads_back_as_the_same_entry():
    entry = edit(method={"name": "memit", "layers": (1, 2)})
    again = Entry.from_content(entry.content)
    assert dataclasses.asdict(again) == dataclasses.asdict(entry)
    assert again.method == {"name": "memit", "layers": [1, 2]}


def test_changing_the_callers_configuration_later_changes_no_entry():
    method = {"name": "memit", "layers": [1]}
    entry = edit(method=method)
    method["layers"].append(2)
    assert entry.method == {"name": "memit", "layers": [1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operation": "sorcery"}, "unknown operation 'sorcery'; known: root, edit, revert"),
        ({"adapter": None}, "'edit' needs an adapter"),
        ({"parents": ()}, "cannot have 0 parents"),
        ({"targets": (PARENT,)}, "cannot have 1 target"),
        ({"operation": "revert", "adapter": None}, "'revert' cannot have 0 target"),
        ({"operation": "root", "parents": (), "requests": ()}, "'root' cannot have an adapter"),
        ({"adapter": "../../etc"}, "not a digest"),
        ({"adapter": "B" * 64}, "not a digest"),
        ({"adapter": "b" * 64 + "\n"}, "not a digest"),
        ({"time": "2026-01-31 12:00:00"}, "not ISO 8601"),
        ({"time": "2026-01-31T12:00:00+00:00"}, "not ISO 8601"),
        ({"time": "2026-02-30T12:00:00Z"}, "not ISO 8601"),
        ({"message": "a\0b"}, "message holds a NUL"),
        ({"author": "\ud800"}, "author is not valid Unicode"),
        ({"requests": (Request("a", "{}", "b"), Request("a\0", "{}", "b"))}, "request 1: field 'subject' holds a NUL"),
        ({"method": {"lr": float("nan")}}, "plain JSON"),
        ({"method": {"model": object()}}, "plain JSON"),
    ],
)
def test_what_cannot_be_an_entry_is_refused_by_name(change, message):
    with pytest.raises(InputError, match=message):
        edit(**change)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format":1}', '{"format":2}', '{"format":1,"base_model":3}'])
def test_malformed_content_is_an_input_error(content):
    with pytest.raises(InputError):
        Entry.from_content(content)


def test_a_revert_names_what_it_reverts_and_other_operations_nothing():
    revert = edit(operation="revert", adapter=None, targets=(PARENT,), requests=(), method={})
    assert revert.reverts == PARENT
    assert edit().reverts is None
