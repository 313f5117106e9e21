"""A trial of a fast path loses it only where the model cannot be run so, and says that it is lost."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from seqedit import packing, past
from seqedit.anatomy import anatomy


def _trees(model: Any) -> bool:
    return packing.takes_trees(model)


def _continues(model: Any) -> bool:
    return past.continues(model, anatomy(model).layers[-1], trees=False)


TRIALS = {"prefix trees": _trees, "fixed keys and values": _continues}


def _failing(model: Any, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(model, "forward", forward)


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
    ids=["device", "host"],
)
def test_running_out_of_memory_in_a_trial_is_raised_and_says_nothing_about_the_model(
    trial: Any, error: Exception, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing(llama[0], error, monkeypatch)
    with pytest.raises(type(error)):
        trial(llama[0])


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_a_fast_path_that_a_model_cannot_take_is_lost_with_a_word(
    trial: Any, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _failing(llama[0], TypeError("unexpected argument 'position_ids'"), monkeypatch)
    with caplog.at_level(logging.WARNING, "seqedit"):
        assert trial(llama[0]) is False
    assert "is run without" in caplog.text
    assert "unexpected argument" in caplog.text


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_a_fast_path_that_a_model_takes_is_not_talked_about(
    trial: Any, llama: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "seqedit"):
        assert trial(llama[0]) is True
    assert not caplog.records
