"""What a state holds of a joint sequence, read from the ledger: the facts, and the solution that was written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from seqedit.editing.editor import held_of
from seqedit.errors import InputError
from seqedit.history.joint_state import JointState, joint_solves
from tests.session.test_sequence import NAME, close, joint, requests, session, written

__all__ = ["requests", "session"]  # fixtures


def solution(session: Any, state: JointState, left_out: Any = ()) -> torch.Tensor:
    method, config = state.settings()
    (solve,) = joint_solves(session.editor, state, method, config, state.held(left_out))
    B, A = solve.factors()
    return B @ A


@pytest.mark.parametrize("method", ["memit", "emmet", "pmet", "alphaedit"])
def test_the_joint_solution_of_a_state_is_what_its_entries_wrote(method: str, session: Any, requests: Any) -> None:
    settings = {"nullspace_threshold": 0.5} if method == "alphaedit" else {}
    for first in range(0, 6, 2):
        session.edit(requests[first : first + 2], method, joint(method, **settings))
    state = JointState.read(session.ledger)
    close(solution(session, state), written(session))
    assert state.modules == (NAME,)
    assert state.facts(NAME) == [(e.id, i) for e in state.entries for i in (0, 1)]


def test_facts_are_held_as_the_editor_holds_them(session: Any, requests: Any) -> None:
    session.edit(requests[:3], "memit", joint())
    session.edit([replace(requests[1], target_new=requests[4].target_new)], "memit", joint())
    state = JointState.read(session.ledger)
    ours, theirs = state.held()[NAME], held_of(list(session.ledger.adapters()))[NAME]
    torch.testing.assert_close(ours.keys, theirs.keys, rtol=0, atol=0)
    torch.testing.assert_close(ours.residuals, theirs.residuals, rtol=0, atol=0)
    assert state.live() == [[0, 2], [0]]
    first, second = (e.id for e in state.entries)
    # What a fact that is left out had superseded is in force again.
    assert state.live([(second, 0)]) == [[0, 1, 2], []]
    assert state.facts(NAME, [(second, 0), (first, 1)]) == [(first, 0), (first, 2)]
    assert len(state.held(unwritten={first})[NAME].written) == 1


def test_keys_of_other_methods_are_protected_where_the_settings_ask_for_it(session: Any, requests: Any) -> None:
    session.edit(requests[:2], "memit", joint(sequence="separate"))
    for start in (2, 4):
        session.edit(requests[start : start + 2], "memit", joint(protect_earlier=True))
    state = JointState.read(session.ledger)
    assert (len(state.outside), len(state.sequence)) == (1, 2)
    first, second = (one.deltas[NAME].dense() for one in state.adapters if one.residuals)
    apart = first + second
    close(solution(session, state), apart)
    alone = solution(session, replace(state, adapters=state.adapters[1:], entries=state.entries[1:]))
    assert float((apart - alone).norm() / apart.norm()) > 1e-4


def test_a_state_without_a_joint_sequence_says_so(session: Any, requests: Any) -> None:
    session.edit(requests[:2], "memit", joint(sequence="separate"))
    with pytest.raises(InputError, match="sequence: joint"):
        JointState.read(session.ledger).settings()
