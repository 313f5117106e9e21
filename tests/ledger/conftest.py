"""Small ledgers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ledger import Ledger
from tests.ledger.helpers import MODEL, TIME, build_adapter, build_base


@pytest.fixture
def base() -> dict[str, torch.Tensor]:
    return build_base()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(place: Path) -> Iterator[Ledger]:
    """An empty ledger: the root only."""
    with Ledger.create(place, MODEL, time=TIME) as made:
        yield made


@pytest.fixture
def filled(ledger: Ledger) -> Ledger:
    """Three edits after the root."""
    for seed in range(3):
        ledger.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
    return ledger
