"""Row 13: identical content has an identical id. Row 14: a revert is exact."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ledger import Ledger
from tests.ledger.helpers import MODEL, TIME, build_adapter, build_base
from tests.reliability.processes import in_child

PROGRAM = """
import sys
from pathlib import Path
from ledger import Ledger
from tests.ledger.helpers import MODEL, TIME, build_adapter
from tests.reliability.test_kills import content
place = Path(sys.argv[1])
with Ledger.create(place, MODEL, time=TIME) as ledger:
    for seed in range(3):
        # A set, and a dictionary in the order of a set: what PYTHONHASHSEED shuffles.
        adapter = build_adapter(seed)
        order = list({"target", "layers", "spread", "a", "b", "c"})
        object.__setattr__(adapter, "method", {**adapter.method, **{name: 1 for name in order}})
        ledger.append(adapter, time=TIME, scores={"counterfact": {name: 1 for name in order}})
    ledger.revert("HEAD~1", time=TIME)
    print(ledger.head(), ledger.entry("HEAD~1").adapter, content(place / "objects"), hash("x"))
"""


@pytest.mark.promise(13)
@pytest.mark.parametrize("seeds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_the_same_steps_give_the_same_ids_and_files_under_every_hash_seed(tmp_path, figure, seeds):
    said = set()
    shuffled = set()
    for seed in range(seeds):
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / str(seed))],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        *ids, hashed = result.stdout.split()
        said.add(tuple(ids))
        shuffled.add(hashed)
    assert len(said) == 1
    assert len(shuffled) == seeds, "the hash seeds had no effect"
    figure(f"{seeds} hash seeds: one head id, one adapter digest, identical object files")


@pytest.mark.promise(14)
@pytest.mark.parametrize("histories", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_reverting_gives_the_bits_of_a_history_without_the_entry(memory_path, figure, histories):
    compared = 0
    for number in range(histories):
        chance = random.Random(number)
        seeds = list(range(chance.randrange(2, 9)))
        gone = chance.sample(seeds, chance.randrange(1, len(seeds)))
        bases = [build_base(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16)]
        with (
            Ledger.create(memory_path / f"with-{number}", MODEL) as ledger,
            Ledger.create(memory_path / f"without-{number}", MODEL) as without,
        ):
            entries = {}
            for seed in seeds:
                adapter = build_adapter(seed, dense=chance.random() < 0.3)
                entries[seed] = ledger.append(adapter, time=TIME).id
                if seed not in gone:
                    without.append(adapter, time=TIME)
            before = [ledger.compose(base) for base in bases]
            reverts = [ledger.revert(entries[seed]).id for seed in gone]
            for base, old in zip(bases, before, strict=True):
                reverted, expected = ledger.compose(base), without.compose(base)
                assert all(torch.equal(reverted[name], expected[name]) for name in base)
                assert not all(torch.equal(reverted[name], old[name]) for name in base)
                compared += len(base)
            for revert in reversed(reverts):
                ledger.revert(revert)
            for base, old in zip(bases, before, strict=True):
                again = ledger.compose(base)
                assert all(torch.equal(again[name], old[name]) for name in base)
                compared += len(base)
    figure(f"{histories} histories in 3 dtypes: {compared:,} weights bit-equal after reverts and reverts of reverts")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_another_process_composes_the_same_bits(filled, place, tmp_path):
    filled.revert("HEAD~1")
    mine = filled.compose(build_base())

    def compose() -> None:
        with Ledger.open(place) as ledger:
            theirs = ledger.compose(build_base())
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)

    assert in_child(compose) == 0
