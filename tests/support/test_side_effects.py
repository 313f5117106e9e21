"""Library code leaves the process as it was, takes no failure for a lack of support, and says what it gives up."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.utils as hub
import pytest
import torch
from transformers.utils import logging as transformers_logging

from ledger import Ledger
from ledger.bundles.read import Bundle
from ledger.bundles.write import plan_bundle, write_bundle
from seqedit.adapters.adapter import Adapter
from seqedit.cli.main import run
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError, SeqeditError
from seqedit.forward.fixed_past import continues
from seqedit.forward.prefix_trees import takes_trees
from seqedit.models import loading as models
from seqedit.models.loading import load_model
from seqedit.parallel.messages import error_message, raise_error
from seqedit.session import merging
from seqedit.support.random_state import seeded
from tests.conftest import REFERENCE
from tests.ledger.helpers import MODEL, build_adapter
from tests.models.architectures import build

BROKEN = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
          RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
          RuntimeError("CUDA error: device-side assert triggered"), KeyboardInterrupt()]  # fmt: skip
UNSUPPORTED = [TypeError("forward() got an unexpected keyword argument 'position_ids'"), NotImplementedError(),
               RuntimeError("The size of tensor a (4) must match the size of tensor b (6)")]  # fmt: skip


@pytest.fixture(params=["trees", "past"])
def trial(request: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], bool]:
    """Tries a fast path on a model whose second pass raises an error."""

    def attempt(error: BaseException | None) -> bool:
        model = build("Llama", torch.float32)
        passes = []

        def fail(module: Any, arguments: Any, keywords: Any) -> None:
            passes.append(1)
            if error is not None and len(passes) > 1:
                raise error

        model.register_forward_pre_hook(fail, with_kwargs=True)
        if request.param == "trees":
            return takes_trees(model)
        return continues(model, model.model.layers[-1], trees=False)

    return attempt


@pytest.mark.parametrize("error", BROKEN, ids=repr)
def test_a_trial_does_not_take_what_broke_for_what_is_not_supported(error: BaseException, trial: Any) -> None:
    with pytest.raises(type(error)) as raised:
        trial(error)
    assert raised.value is error


@pytest.mark.parametrize("error", UNSUPPORTED, ids=repr)
def test_a_fast_path_that_is_not_supported_is_given_up_aloud(
    error: BaseException, trial: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "seqedit"):
        assert not trial(error)
    assert len(caplog.records) == 1
    assert type(error).__name__ in caplog.text
    assert "slower" in caplog.text


def test_a_fast_path_that_works_says_nothing(trial: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert trial(None)
    assert not caplog.records


def test_memory_that_runs_out_while_a_bundle_is_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.create(tmp_path / "ledger", MODEL) as ledger:
        ledger.append(build_adapter(1))
        write_bundle(ledger, plan_bundle(ledger), tmp_path / "b.zip")

    def full(*_: Any, **__: Any) -> Adapter:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Adapter, "from_pretrained", full)
    with Bundle(tmp_path / "b.zip") as bundle, pytest.raises(RuntimeError, match="allocate") as raised:
        bundle.verify()
    assert not isinstance(raised.value, SeqeditError)


def test_memory_that_runs_out_ends_a_command_with_exit_code_3_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(models, "load_model", full)
    assert run(["init", "--model", "demo-llama", "--ledger", "nowhere"]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING, logging.CRITICAL])
@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("hub_bars", [True, False])
@pytest.mark.parametrize("name", [str(REFERENCE / "model"), "nowhere/at-all"])
def test_loading_a_model_leaves_verbosity_and_progress_bars_as_the_caller_had_them(
    level: int, bars: bool, hub_bars: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    hidden = hub.are_progress_bars_disabled()
    try:
        transformers_logging.set_verbosity(level)
        (transformers_logging.enable_progress_bar if bars else transformers_logging.disable_progress_bar)()
        (hub.enable_progress_bars if hub_bars else hub.disable_progress_bars)()
        try:
            load_model(name)
        except EnvironmentFailure:
            assert name.startswith("nowhere")
        assert transformers_logging.get_verbosity() == level
        assert transformers_logging.is_progress_bar_enabled() == bars
        assert hub.are_progress_bars_disabled() != hub_bars
    finally:
        transformers_logging.set_verbosity(before[0])
        (transformers_logging.enable_progress_bar if before[1] else transformers_logging.disable_progress_bar)()
        (hub.disable_progress_bars if hidden else hub.enable_progress_bars)()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_bundle_has_the_rights_of_any_new_file_and_the_umask_is_never_changed(
    mask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.create(tmp_path / "ledger", MODEL) as ledger:
        plan = plan_bundle(ledger)
        before = os.umask(mask)

        def forbidden(_: int) -> int:
            raise AssertionError("the umask belongs to the whole process")

        try:
            with monkeypatch.context() as patch:
                patch.setattr(os, "umask", forbidden)
                write_bundle(ledger, plan, tmp_path / "b.zip")
        finally:
            os.umask(before)
    assert stat.S_IMODE((tmp_path / "b.zip").stat().st_mode) == 0o666 & ~mask
    assert {path.name for path in tmp_path.iterdir()} == {"ledger", "b.zip"}


def test_seeds_are_set_on_the_devices_that_are_used_alone_and_the_callers_numbers_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    def forbidden(*_: Any) -> None:
        raise AssertionError("a seed for all devices, which nothing puts back")

    monkeypatch.setattr(torch, "manual_seed", forbidden)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", forbidden)
    with seeded(1):
        one = torch.rand(3)
    with seeded(1):
        assert torch.equal(torch.rand(3), one)
    parts = [build_adapter(number) for number in range(2)]
    merging._by_peft(parts, "dare", 0.5, 0)
    assert torch.equal(torch.rand(3), expected)


class Custom(SeqeditError):
    """Takes other arguments than it keeps."""

    def __init__(self, step: int, *, entry: str) -> None:
        self.step, self.entry = step, entry
        super().__init__(f"step {step} of {entry} failed")


class Several(CheckFailed):
    """Keeps several arguments, and makes its text of them."""

    def __str__(self) -> str:
        return f"{self.args[0]} is not {self.args[1]}"


class Odd(InputError):
    """Its text is made of what cannot be sent."""

    def __init__(self, thing: object) -> None:
        super().__init__(thing)
        self.thing = thing

    def __str__(self) -> str:
        return f"odd: {type(self.thing).__name__}"


@pytest.mark.parametrize(
    "error",
    [
        Custom(3, entry="abc"), Several("a", 2), EnvironmentFailure(28, "No space left on device", "file"),
        InputError("one"), InputError("one", 2), InputError(), CheckFailed({"a": 1}),
    ],
    ids=repr,
)  # fmt: skip
def test_an_error_of_another_rank_arrives_as_it_was(error: SeqeditError) -> None:
    with pytest.raises(type(error)) as raised:
        raise_error(error_message(error), 1)
    assert type(raised.value) is type(error)
    assert str(raised.value) == str(error)
    assert raised.value.args == error.args
    assert vars(raised.value) == vars(error)
    assert raised.value.exit_code == error.exit_code


def test_an_error_whose_text_cannot_travel_keeps_kind_and_text() -> None:
    with pytest.raises(InputError) as raised:
        raise_error(error_message(Odd(object())), 1)
    assert str(raised.value) == "odd: object"


def test_the_ledgers_conflict_arrives_from_another_rank() -> None:
    from ledger.errors import Conflict

    with pytest.raises(Conflict) as raised:
        raise_error(error_message(Conflict("main", "a" * 64, None)), 1)
    assert raised.value.ref == "main"
    assert raised.value.found is None
