"""Errors that a process sends are raised as they were, whatever their constructors take."""

from __future__ import annotations

import pytest

from ledger import Conflict
from ledger.errors import BranchMoved
from seqedit.errors import EnvironmentFailure, SeqeditError
from seqedit.parallel.messages import Message, error_message, raise_error


def _sent(error: Exception) -> Message:
    message = error_message(error)
    found = Message.empty(message.head())
    assert found.fields == message.fields  # JSON all through
    return found


def _kinds(kind: type[SeqeditError]) -> list[type[SeqeditError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _kinds(child))]


def test_errors_whose_constructors_take_several_arguments_arrive_whole() -> None:
    for error in (Conflict("main", "a" * 64, "b" * 64), BranchMoved("main", "a" * 64, None)):
        with pytest.raises(type(error)) as raised:
            raise_error(_sent(error), rank=1)
        assert type(raised.value) is type(error)
        assert str(raised.value) == str(error)
        assert raised.value.exit_code == error.exit_code
        assert vars(raised.value) == vars(error)


def _is_plain(kind: type[SeqeditError]) -> bool:
    return not any("__init__" in vars(k) for k in kind.__mro__ if issubclass(k, SeqeditError))


# Of the package alone: other tests define kinds of their own, with texts of their own.
PLAIN = [kind for kind in _kinds(SeqeditError) if _is_plain(kind) and not kind.__module__.startswith("tests.")]


@pytest.mark.parametrize("kind", PLAIN, ids=lambda kind: kind.__name__)
def test_every_kind_of_error_arrives_as_itself(kind: type[SeqeditError]) -> None:
    with pytest.raises(kind) as raised:
        raise_error(_sent(kind("what happened")), rank=1)
    assert type(raised.value) is kind
    assert str(raised.value) == "what happened"


def test_an_error_of_the_system_is_the_environments_and_any_other_keeps_its_traceback() -> None:
    with pytest.raises(EnvironmentFailure, match=r"rank 2: .*no such"):
        raise_error(_sent(FileNotFoundError(2, "no such file", "x")), rank=2)
    with pytest.raises(RuntimeError, match="rank 2 failed"):
        raise_error(_sent(KeyError("x")), rank=2)
