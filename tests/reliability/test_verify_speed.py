"""Row 16: verify reads all data, fast. Row 18: old ledgers."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ledger import Ledger
from seqedit.adapters.adapter import Adapter
from seqedit.adapters.delta import LowRank
from seqedit.facts.requests import Request
from seqedit.support.digests import tensors_digest
from tests.conftest import DATA
from tests.ledger.helpers import MODEL, build_adapter

MEGABYTES_PER_SECOND = 500
MIB = 1 << 20


def _large(seed: int, size: int) -> Adapter:
    random = torch.Generator().manual_seed(seed)
    rows, rank = 1024, 64
    columns = size // 4 // rank - rows
    delta = LowRank(torch.randn(rows, rank, generator=random), torch.randn(rank, columns, generator=random))
    return Adapter({"h.0.mlp": delta}, (Request(f"s{seed}", "{} is", "x"),), {"name": "memit"}, MODEL)


@pytest.mark.slow
@pytest.mark.promise(16)
def test_verify_reads_500_megabytes_per_second(memory_path, figure):
    with Ledger.create(memory_path / "ledger", MODEL) as ledger:
        for seed in range(12):
            ledger.append(_large(seed, 64 * MIB))
        size = sum(path.stat().st_size for path in (memory_path / "ledger" / "objects").rglob("*") if path.is_file())
        best = 0.0
        for _ in range(3):
            # The processor's time of this process: other programs on the machine do not count.
            begun, wall = time.process_time(), time.perf_counter()
            assert ledger.verify() == []
            seconds, wall = time.process_time() - begun, time.perf_counter() - wall
            best = max(best, size / 1e6 / seconds)
    clock = size / 1e6 / wall
    figure(f"{size / 1e6:,.0f} MB in 12 objects: {best:,.0f} MB/s of processor time ({clock:,.0f} MB/s by the clock)")
    assert best >= MEGABYTES_PER_SECOND


@pytest.mark.slow
@pytest.mark.promise(16)
def test_a_thousand_entries_are_verified_in_a_second_without_data(memory_path, figure):
    with Ledger.create(memory_path / "ledger", MODEL) as ledger:
        for seed in range(1000):
            ledger.append(build_adapter(seed))
        best = best_wall = float("inf")
        for _ in range(5):
            begun, wall = time.process_time(), time.perf_counter()
            assert ledger.verify(deep=False) == []
            best, best_wall = min(best, time.process_time() - begun), min(best_wall, time.perf_counter() - wall)
    figure(f"1,000 entries without data: {best:.2f} s of processor time ({best_wall:.2f} s by the clock)")
    assert best < 1


@pytest.mark.slow
@pytest.mark.promise(18)
def test_every_released_format_is_read_and_verified(tmp_path, figure):
    golden = sorted(path.parent for path in (DATA / "ledgers").glob("*/expected.json"))
    assert golden
    for path in golden:
        copy = Path(shutil.copytree(path, tmp_path / path.name))
        with Ledger.open(copy) as ledger:
            assert ledger.verify() == []
            assert len(tensors_digest(ledger.compose(load_file(copy / "base.safetensors")))) == 64
    figure(f"{len(golden)} of {len(golden)} released formats ({', '.join(path.name for path in golden)})")
