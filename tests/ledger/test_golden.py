"""Ledgers as earlier versions wrote them read as they read then, and can be carried on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from ledger import Ledger
from ledger.database.schema import SCHEMA_VERSION
from seqedit.support.digests import tensors_digest
from tests.conftest import DATA
from tests.data.ledgers.make import MODEL, adapter
from tests.ledger.helpers import TIME

GOLDEN = sorted(path.parent for path in (DATA / "ledgers").glob("*/expected.json"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a golden ledger; opening one of an older schema changes it."""
    return Path(shutil.copytree(request.param, tmp_path / "ledger"))


def states(ledger: Ledger, place: Path) -> dict[str, Any]:
    base = load_file(place / "base.safetensors")
    return {
        revision: {
            "log": ledger.log_rows(revision),
            "active": [entry.id for entry in ledger.active(revision)],
            "live": {key: list(value) for key, value in ledger.live_requests(revision).items()},
            "requests": {e.id: [request.to_dict() for request in e.requests] for e in ledger.log(revision)},
            "weights": tensors_digest(ledger.compose(base, revision)),
        }
        for revision in ("main", "other", "main~2")
    }


def test_there_is_one_of_every_schema() -> None:
    assert [path.name for path in GOLDEN] == [f"format-1-schema-{n}" for n in range(1, SCHEMA_VERSION + 1)]


def test_it_reads_as_the_version_that_made_it_read_it(golden: Path) -> None:
    expected = json.loads((golden / "expected.json").read_text())
    with Ledger.open(golden, MODEL) as ledger:
        assert ledger.verify() == []
        assert states(ledger, golden) == expected["states"]
        assert (ledger.branches(), ledger.head()) == (expected["branches"], expected["head"])


def test_it_can_be_carried_on(golden: Path) -> None:
    with Ledger.open(golden) as ledger:
        before = tensors_digest(ledger.compose(load_file(golden / "base.safetensors")))
        fourth = ledger.entry("HEAD")
        ledger.revert(fourth.id, time=TIME)
        added = ledger.append(adapter(4), time=TIME, scores={"counterfact": {"ES": 1.0}})
        ledger.revert(added.id, time=TIME)
        ledger.revert("HEAD~2", time=TIME)
        assert ledger.verify() == []
    with Ledger.open(golden) as ledger:
        assert tensors_digest(ledger.compose(load_file(golden / "base.safetensors"))) == before
        assert ledger.scores(added.id) == {"counterfact": {"ES": 1.0}}
        assert ledger.verify() == []
