"""One small layer in numbers: a weight, second moments, keys and what is asked at them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqedit.filters.originals import Originals
from seqedit.methods import get_method
from seqedit.methods.config import ClosedFormConfig
from seqedit.methods.interface import LayerUpdate, Workbench
from seqedit.methods.one_layer import alone, dense, filter_of, in_sequence
from seqedit.models.projection import Projection
from seqedit.solver.preconditioners import CholeskyPreconditioner, Preconditioner, protect
from seqedit.solver.sequence import Held
from seqedit.support.cholesky import cholesky

D_IN, D_OUT = 24, 9
EYE = torch.eye(D_IN, dtype=torch.float64)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


W = random(D_OUT, D_IN, seed=3) * torch.logspace(0, -1.5, D_IN, dtype=torch.float64)
C = (lambda root: root @ root.T / 72 + 0.05 * EYE)(random(D_IN, 72, seed=1))
NAME = "layer"


def cov() -> Preconditioner:
    return CholeskyPreconditioner(cholesky(C))


def config(**settings: Any) -> ClosedFormConfig:
    found = get_method("memit").config.from_dict({"layers": [0], **settings})
    assert isinstance(found, ClosedFormConfig)
    return found


def projection(weight: Tensor = W) -> Projection:
    module = nn.Linear(D_IN, D_OUT, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(weight)
    return Projection(NAME, module)


def bench(original: Tensor = W) -> Workbench:
    unused: Any = None
    return Workbench(unused, unused, unused, (), unused, originals=Originals({NAME: original}))


def edit(K: Tensor, R: Tensor, *, weight: Tensor = W, a: float = 1.0, **settings: Any) -> LayerUpdate:
    """The update of a batch, keys as rows, residuals as columns."""
    chosen, place = config(**settings), projection(weight)
    applied = filter_of(bench(), place, K, chosen)
    return alone(place, cov(), K, R, a, applied=applied, inside=chosen.solved_inside)


def next_of(held: Held | None, K: Tensor, asked: Tensor, *, a: float = 1.0, **settings: Any) -> LayerUpdate:
    """The update of a batch in a joint sequence; asked (n, d_out) relative to the first weights."""
    S = torch.zeros_like(W) if held is None else sum_of(held)
    chosen, place = config(sequence="joint", **settings), projection(W + S)
    applied = filter_of(bench(), place, K, chosen)
    inverse = cov() if held is None else protect(cov(), held.weighed_keys(a).T)
    share = asked.T - S @ K.T
    return in_sequence(place, inverse, held, K, share, a, applied=applied, inside=chosen.solved_inside)


def sum_of(held: Held) -> Tensor:
    return sum((dense(part).double() for part in held.written), torch.zeros_like(W))


def free(K: Tensor, R: Tensor, a: float = 1.0) -> Tensor:
    """The least squares |Delta K - R|^2 + a tr(Delta C Delta^T) by its normal equations, for keys as rows."""
    return R @ K @ torch.linalg.inv(a * C + K.T @ K)
