"""A state's weights: base + the active deltas in ledger order, recomposed and never subtracted.

The sum runs in double precision and is cast to the base's dtype once, at the end. Low-rank deltas are not expanded
one by one: the factors of consecutive adapters are concatenated and multiplied as one matrix product per module,
acc += cat(B) @ cat(A). Where one product ends and the next begins depends only on the list of active adapters:
at every multiple of `GROUP` adapters, where the concatenated rank would pass `MAX_RANK`, and before a dense delta.
A state is therefore a function of (base, active list) alone, whatever was composed before it, and this is what makes
a revert exact. Bit-equality holds on one machine with one thread count: matrix products of another library or
another number of threads may round the last bit differently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from seqedit.delta import Delta, LowRank
from seqedit.errors import InputError, NumericsError

GROUP = 64
MAX_RANK = 4096


class HasDeltas(Protocol):
    """What composition needs of an adapter."""

    @property
    def digest(self) -> str: ...
    @property
    def deltas(self) -> Mapping[str, Delta]: ...


class Composition:
    """The running sum of a state, to which adapters are added in ledger order.

    Args:
        base: Module name -> weight of the unedited model, (d_out, d_in) in canonical orientation. Never changed.
        count: How many adapters ``sums`` holds; a multiple of `GROUP`.
        sums: What `snapshot` returned after ``count`` adapters; it is copied.

    Raises:
        InputError: ``count`` is not a multiple of `GROUP`.
    """

    def __init__(self, base: Mapping[str, Tensor], count: int = 0, sums: Mapping[str, Tensor] | None = None) -> None:
        if count % GROUP:
            raise InputError(f"a composition resumes at a multiple of {GROUP} adapters, not at {count}")
        self.base = base
        self.count = count
        self._sums = {name: total.clone() for name, total in (sums or {}).items()}
        self._pending: dict[str, list[LowRank]] = {}

    def add(self, adapter: HasDeltas) -> None:
        """Add the next active adapter.

        Raises:
            InputError: a delta's module is not in the base, has another shape or holds values that are not finite;
                the message names adapter and module, and the sum is as before.
        """
        for name, delta in adapter.deltas.items():
            self._check(adapter.digest, name, delta)
        for name, delta in adapter.deltas.items():
            waiting = self._pending.setdefault(name, [])
            if isinstance(delta, LowRank):
                if waiting and sum(d.rank for d in waiting) + delta.rank > MAX_RANK:
                    self._flush(name)
                self._pending[name].append(delta)
            else:
                self._flush(name)
                self._sums[name] = self._sum(name) + delta.delta.to(self.base[name].device, torch.float64)
        self.count += 1
        if self.count % GROUP == 0:
            for name in list(self._pending):
                self._flush(name)

    def snapshot(self) -> dict[str, Tensor]:
        """A copy of the double-precision sums; with `count`, all that is needed to resume bit-exactly.

        Raises:
            InputError: the number of adapters is not a multiple of `GROUP`.
        """
        if self.count % GROUP:
            raise InputError(f"a snapshot is exact only at a multiple of {GROUP} adapters, not at {self.count}")
        return {name: total.clone() for name, total in self._sums.items()}

    def weights(self) -> dict[str, Tensor]:
        """The state's weights, in the base's dtypes. Untouched modules are the base's own tensors.

        Raises:
            NumericsError: a weight does not fit the base's dtype (float16 overflows at 65,504).
        """
        weights = dict(self.base)
        for name in {**self._sums, **self._pending}:
            total = self._sum(name)
            if self._pending.get(name):
                total = total + _product(self._pending[name], self.base[name].device)
            # A copy even in float64, where a plain cast would hand out the running sum itself.
            weights[name] = total.to(self.base[name].dtype, copy=True)
            if not bool(torch.isfinite(weights[name]).all()):
                raise NumericsError(f"module '{name}': the composed weight overflows {self.base[name].dtype}")
        return weights

    def _sum(self, name: str) -> Tensor:
        total = self._sums.get(name)
        return self.base[name].detach().to(torch.float64) if total is None else total

    def _flush(self, name: str) -> None:
        if self._pending[name]:
            self._sums[name] = self._sum(name) + _product(self._pending[name], self.base[name].device)
            self._pending[name] = []

    def _check(self, digest: str, name: str, delta: Delta) -> None:
        where = f"adapter {digest[:12]}, module '{name}'"
        if name not in self.base:
            raise InputError(f"{where}: the base model's weights hold no such module")
        if delta.shape != tuple(self.base[name].shape):
            raise InputError(f"{where}: the delta is {delta.shape}, the weight {tuple(self.base[name].shape)}")
        if isinstance(delta, LowRank) and delta.B.shape[1] != delta.A.shape[0]:
            raise InputError(f"{where}: the factors {tuple(delta.B.shape)} and {tuple(delta.A.shape)} do not fit")
        parts = (delta.B, delta.A) if isinstance(delta, LowRank) else (delta.delta,)
        if not all(bool(torch.isfinite(part).all()) for part in parts):
            raise InputError(f"{where}: the delta holds values that are not finite")


def _product(deltas: list[LowRank], device: torch.device) -> Tensor:
    left = torch.cat([d.B for d in deltas], dim=1).to(device, torch.float64)
    right = torch.cat([d.A for d in deltas], dim=0).to(device, torch.float64)
    return left @ right


def compose(base: Mapping[str, Tensor], adapters: Iterable[HasDeltas]) -> dict[str, Tensor]:
    """Weights of the state made of ``base`` and ``adapters`` in this order.

    Args:
        base: Module name -> (d_out, d_in) weight of the unedited model.
        adapters: The active adapters in ledger order; at most `GROUP` of them are held at a time.

    Returns:
        Every module of ``base``: a new tensor of the base's dtype where an adapter touches it, else the base's own.

    Raises:
        InputError: an adapter does not fit; the message names its digest and the module.
        NumericsError: a composed weight overflows the base's dtype.
    """
    composition = Composition(base)
    for adapter in adapters:
        composition.add(adapter)
    return composition.weights()
