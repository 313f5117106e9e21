"""How far two states are apart, told without torch, is what torch tells."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ledger import Ledger
from seqedit.adapters.sums import concatenate
from seqedit.errors import CheckFailed
from seqedit.session.diff import delta_norms
from tests.conftest import DATA


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DATA / "ledgers" / "format-1-schema-3", tmp_path / "ledger"))


@pytest.mark.parametrize(
    ("old", "new"), [("HEAD~2", "HEAD"), ("HEAD~3", "HEAD~2"), ("other", "main"), ("main", "HEAD")]
)
def test_norms_are_those_of_the_difference_of_the_weights(place: Path, old: str, new: str) -> None:
    with Ledger.open(place) as ledger:
        found = ledger.diff(old, new)
        added, removed = (
            concatenate(ledger.adapter(entry) for entry in side)
            for side in (found.adapters_added, found.adapters_removed)
        )
        expected = {}
        for name in sorted({*added, *removed}):
            parts = [sign * side[name].dense().double() for side, sign in ((added, 1), (removed, -1)) if name in side]
            expected[name] = float(sum(parts[1:], parts[0]).norm())
        told = ledger.stored_norms(found.adapters_added, found.adapters_removed)
        assert told == pytest.approx(expected, rel=1e-5)
        assert delta_norms(ledger, found) == told


def test_a_damaged_file_is_left_to_the_full_reading_which_says_so(place: Path) -> None:
    with Ledger.open(place) as ledger:
        found = ledger.diff("HEAD~1", "HEAD")
        (entry,) = found.adapters_added
        assert entry.adapter is not None
        file = next(place.rglob(f"{entry.adapter}/adapter_model.safetensors"))
        file.chmod(0o644)
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        assert ledger.stored_norms([entry], []) is None
        with pytest.raises(CheckFailed, match="damaged"):
            delta_norms(ledger, found)
