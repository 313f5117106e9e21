"""Branches: several histories of one base model in one ledger."""

from __future__ import annotations

import pytest
import torch

from ledger import Ledger
from seqedit.errors import InputError
from tests.ledger.helpers import TIME, build_adapter


def test_a_branch_grows_alone_and_the_other_stays_as_it_was(filled: Ledger, base: dict[str, torch.Tensor]) -> None:
    main = filled.head()
    before = filled.compose(base, "main")
    filled.start_branch("other", filled.root())
    filled.switch("other")
    assert filled.branch() == "other"
    made = filled.append(build_adapter(9), time=TIME)
    assert filled.branches() == {"main": main, "other": made.id}
    assert [e.id for e in filled.log()] == [made.id, filled.root()]
    after = filled.compose(base, "main")
    assert all(torch.equal(before[name], after[name]) for name in base)
    assert filled.verify() == []


def test_the_same_edit_can_be_on_two_branches(filled: Ledger) -> None:
    filled.start_branch("other", filled.root())
    filled.switch("other")
    filled.append(build_adapter(1), message="again", time=TIME)
    assert filled.verify() == []


def test_a_branch_starts_at_head_unless_told_otherwise(filled: Ledger) -> None:
    filled.start_branch("copy")
    filled.start_branch("older", "HEAD~2")
    assert filled.branches()["copy"] == filled.head()
    assert filled.branches()["older"] == filled.resolve("HEAD~2")
    assert filled.branch() == "main", "starting a branch does not move HEAD"


@pytest.mark.parametrize("name", ["HEAD", "abcd", "0123abcd", "a~1", "", "-x", "a b", "../x", "x" * 101, "a\0"])
def test_names_that_could_be_something_else_are_refused(name: str, ledger: Ledger) -> None:
    with pytest.raises(InputError, match="cannot name a branch"):
        ledger.start_branch(name)


def test_a_taken_name_and_a_missing_branch_are_named(ledger: Ledger) -> None:
    with pytest.raises(InputError, match="'main' is there already"):
        ledger.start_branch("main")
    with pytest.raises(InputError, match=r"no branch 'mian' \(there are: main\); did you mean 'main'\?"):
        ledger.switch("mian")


def test_check_revert_refuses_what_revert_refuses_and_changes_nothing(filled: Ledger) -> None:
    head = filled.head()
    assert filled.check_revert("HEAD~1").id == filled.resolve("HEAD~1")
    with pytest.raises(InputError):
        filled.check_revert(filled.root())
    assert filled.head() == head
