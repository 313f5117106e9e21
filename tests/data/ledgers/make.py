"""Makes a golden ledger with whatever version of the package is imported: `python make.py DIRECTORY`.

The tests read the checked-in ones, which stay as the version of their schema wrote them; a new one is made when a
schema or format is released. ``format-1-schema-1`` was made by commit 2adefbd:

    git worktree add /tmp/old 2adefbd && PYTHONPATH=/tmp/old python make.py format-1-schema-1

Facts have a date, a source and a note since schema 4.

All values are small integers, so that every sum is exact and the weights' digest is the same on every machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from ledger import Ledger
from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.delta import Dense, LowRank
from seqedit.facts.requests import Request
from seqedit.support.digests import tensors_digest

MODEL = BaseModel("golden", "0123456789abcdef" * 4)
SHAPES = {"h.0.mlp": (3, 5), "h.1.mlp": (3, 5)}
TIMES = [f"2026-01-{day:02}T12:00:00Z" for day in range(1, 32)]
ORIGIN = {"date": "2026-01-07", "source": "the registry", "note": "since schema 4"}
REQUESTS = [
    (Request("Rome", "{} is the capital of", "France", target_true="Italy", relation="P36", case_id=7),),
    (Request("Łódź 東京", "{} lies in", "Peru", case_id="x/1"), Request("rome", "{} is a", "river", relation="P31")),
    (Request("Rome", "{} is the capital of", "Spain", relation="P36"),),
    (Request("S" * 4000, "{} is a", "long name", relation="P31"),),
    (Request("Elsewhere", "{} is a", "branch", relation="P31", **ORIGIN),),
]


def integers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


def adapter(number: int) -> Adapter:
    deltas: dict[str, Dense | LowRank] = {}
    for place, (name, (rows, columns)) in enumerate(SHAPES.items()):
        seed = 10 * number + place
        if number == 2:
            deltas[name] = Dense(integers(seed, rows, columns))
        else:
            deltas[name] = LowRank(integers(seed, rows, 2), integers(seed + 100, 2, columns))
    return Adapter(deltas, REQUESTS[number], {"name": "memit", "layers": [0, 1], "lambda": 0.5, "seed": None}, MODEL)


def make(place: Path) -> None:
    base = {name: integers(1000 + i, *shape) for i, (name, shape) in enumerate(SHAPES.items())}
    with Ledger.create(place, MODEL, time=TIMES[0], author="golden") as ledger:
        ledger.add_scores("HEAD", "counterfact", {"ES": 12.5})
        first = ledger.append(adapter(0), message="first", author="one", time=TIMES[1])
        ledger.append(adapter(1), message="second, naïve\n2", time=TIMES[2], scores={"counterfact": {"ES": 99.5}})
        ledger.append(adapter(2), message="third", time=TIMES[3])
        ledger.revert(first.id, time=TIMES[4])
        ledger.start_branch("other", "HEAD~1")
        ledger.append(adapter(3), message="fourth", time=TIMES[5])
        ledger.switch("other")
        ledger.append(adapter(4), message="on another branch", time=TIMES[6])
        ledger.add_scores("HEAD", "tasks", {"cola": {"mcc": 0.5, "ci": [0.25, None]}})
        ledger.switch("main")
        assert ledger.verify() == []
        expected = {
            revision: {
                "log": ledger.log_rows(revision),
                "active": [entry.id for entry in ledger.active(revision)],
                "live": {key: list(value) for key, value in ledger.live_requests(revision).items()},
                "requests": {e.id: [request.to_dict() for request in e.requests] for e in ledger.log(revision)},
                "weights": tensors_digest(ledger.compose(base, revision)),
            }
            for revision in ("main", "other", "main~2")
        }
        expected = {"branches": ledger.branches(), "head": ledger.head(), "states": expected}
    save_file(base, place / "base.safetensors")
    (place / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
