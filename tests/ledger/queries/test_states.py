"""The id of a state is that of its active adapters in order, whatever history led to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.queries.states import state_id
from tests.ledger.helpers import MODEL, build_adapter


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with Ledger.create(tmp_path / "ledger", MODEL) as made:
        yield made


def test_every_entrys_state_id_is_that_of_its_active_adapters(ledger: Ledger) -> None:
    first = ledger.append(build_adapter(1))
    second = ledger.append(build_adapter(2))
    ledger.append(build_adapter(3, subject="subject 1"), operation="swap", targets=[first.id])
    ledger.revert(second.id)
    ledger.append(build_adapter(4))
    ledger.start_branch("other", first.id)
    ledger.append(build_adapter(5), branch="other")
    found = ledger.state_ids()
    assert len(found) == 7
    for entry, state in found.items():
        assert state == state_id(MODEL.fingerprint, [str(e.adapter) for e in ledger.active(entry)])


def test_a_state_is_the_same_after_a_detour_and_another_in_another_order(ledger: Ledger) -> None:
    a, b = build_adapter(1), build_adapter(2)
    first = ledger.append(a)
    there = ledger.append(b)
    gone = ledger.revert(there.id)
    back = ledger.revert(gone.id)
    ledger.start_branch("swapped", ledger.root())
    ledger.append(b, branch="swapped")
    turned = ledger.append(a, branch="swapped")
    states = ledger.state_ids()
    assert states[gone.id] == states[first.id]
    assert states[back.id] == states[there.id] != states[turned.id]
    assert state_id("a" * 64, []) != state_id("b" * 64, [])


def test_scores_are_found_from_every_entry_that_leads_to_the_state_and_from_no_other(ledger: Ledger) -> None:
    first = ledger.append(build_adapter(1))
    second = ledger.append(build_adapter(2))
    gone = ledger.revert(second.id)
    ledger.add_scores(first.id, "fixed", {"ES:x": 1.0, "PS:x": 2.0})
    ledger.add_scores(second.id, "fixed", {"ES:x": 3.0})
    ledger.add_scores(gone.id, "fixed", {"PS:x": 4.0})
    assert ledger.state_scores(gone.id, "fixed") == {"ES:x": 1.0, "PS:x": 4.0}  # its own value counts first
    assert ledger.state_scores(first.id, "fixed") == {"ES:x": 1.0, "PS:x": 2.0}
    assert ledger.state_scores(second.id, "fixed") == {"ES:x": 3.0}
    assert ledger.state_scores(ledger.root(), "fixed") == {}
    ledger.revert(first.id)
    ledger.add_scores(ledger.root(), "fixed", {"ES:x": 0.0})
    assert ledger.state_scores("HEAD", "fixed") == {"ES:x": 0.0}
