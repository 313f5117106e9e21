"""What the library does leaves the settings of the whole process as they were."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from transformers.utils import logging

from ledger import Ledger
from ledger.bundle import plan_bundle, write_bundle
from seqedit.edited_model import EditedModel
from seqedit.models import load_model
from tests.conftest import REFERENCE


@pytest.mark.parametrize("bars", [True, False])
@pytest.mark.parametrize("level", [logging.DEBUG, logging.CRITICAL])
def test_loading_a_model_leaves_transformers_messages_and_bars_as_they_were(bars: bool, level: int) -> None:
    before = logging.get_verbosity(), logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    try:
        logging.set_verbosity(level)
        (logging.enable_progress_bar if bars else logging.disable_progress_bar)()
        (enable_progress_bars if bars else disable_progress_bars)()
        load_model(str(REFERENCE / "model"))
        assert logging.get_verbosity() == level
        assert logging.is_progress_bar_enabled() is bars
        assert are_progress_bars_disabled() is not bars
    finally:
        logging.set_verbosity(before[0])
        (logging.enable_progress_bar if before[1] else logging.disable_progress_bar)()
        (disable_progress_bars if before[2] else enable_progress_bars)()


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_bundle_has_the_rights_that_the_umask_gives_and_the_umask_is_never_touched(
    mask: int, reference_model: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = EditedModel(*reference_model, name="reference").base_model
    before = os.umask(mask)
    set_umask = os.umask
    try:
        with Ledger.create(tmp_path / "ledger", base) as ledger:

            def refuse(value: int) -> int:
                raise AssertionError("the umask is the whole process's")

            monkeypatch.setattr(os, "umask", refuse)
            write_bundle(ledger, plan_bundle(ledger), tmp_path / "all.bundle")
    finally:
        set_umask(before)
    assert (tmp_path / "all.bundle").stat().st_mode & 0o777 == 0o666 & ~mask
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.bundle", "ledger"]
