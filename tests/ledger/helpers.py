"""Small adapters and base weights for tests of the ledger."""

from __future__ import annotations

import torch

from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.delta import Dense, LowRank
from seqedit.facts.requests import Request

MODEL = BaseModel("tiny", "f" * 64)
TIME = "2026-01-31T12:00:00Z"
SHAPES = {"h.0.mlp": (5, 7), "h.1.mlp": (5, 7)}


def build_adapter(
    seed: int, *, base_model: BaseModel = MODEL, subject: str | None = None, target: str = "x", dense: bool = False
) -> Adapter:
    """An adapter that differs from those of other seeds; one fact, about ``subject``."""
    random = torch.Generator().manual_seed(seed)
    deltas = {}
    for name, (rows, columns) in SHAPES.items():
        if dense:
            deltas[name] = Dense(torch.randn(rows, columns, generator=random))
        else:
            deltas[name] = LowRank(torch.randn(rows, 2, generator=random), torch.randn(2, columns, generator=random))
    request = Request(subject or f"subject {seed}", "{} is a", target, relation="P31")
    return Adapter(deltas, (request,), {"name": "memit", "seed": seed}, base_model)


def build_base(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Base weights, one module more than the adapters touch."""
    random = torch.Generator().manual_seed(99)
    shapes = {**SHAPES, "h.2.mlp": (3, 3)}
    return {name: torch.randn(*shape, generator=random).to(dtype) for name, shape in shapes.items()}
