"""A state's weights: base + the active deltas in ledger order, recomposed and never subtracted.

The deltas are summed in double precision, then the base is added and the result cast to the base's dtype once, at the
end. Low-rank deltas are not expanded one by one: the factors of consecutive adapters are concatenated and multiplied
as one matrix product per module, sum += cat(B) @ cat(A). Where one product ends and the next begins depends only on
the list of active adapters: at every multiple of `GROUP` adapters, where the concatenated rank would pass `MAX_RANK`,
and before a dense delta. A state is therefore a function of (base, active list) alone, whatever was composed before
it, and this is what makes a revert exact. The sum of the deltas is a function of the list alone, so a snapshot of it
serves whatever base it is added to. Bit-equality holds on one machine with one thread count: matrix products of
another library or another number of threads may round the last bit differently.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from seqedit.adapters.delta import Delta, LowRank
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
    """The running sum of a state's deltas, to which adapters are added in ledger order.

    Args:
        base: Module name -> weight of the unedited model, (d_out, d_in) in canonical orientation. Never changed; it
            may be a mapping that fetches a weight when it is first asked for.
        count: How many adapters ``sums`` holds; a multiple of `GROUP`.
        sums: What `snapshot` returned after ``count`` adapters; it is not changed.

    Raises:
        InputError: ``count`` is not a multiple of `GROUP`, or a sum does not fit its module.
    """

    def __init__(self, base: Mapping[str, Tensor], count: int = 0, sums: Mapping[str, Tensor] | None = None) -> None:
        if count % GROUP:
            raise InputError(f"a composition resumes at a multiple of {GROUP} adapters, not at {count}")
        self.base = base
        self.count = count
        # Sums are replaced and never changed in place, so that they can be shared.
        self._sums: dict[str, Tensor] = {}
        self._pending: dict[str, list[LowRank]] = {}
        for name, total in (sums or {}).items():
            if name not in base or total.shape != base[name].shape:
                raise InputError(f"the sum of module '{name}' does not fit the base model")
            self._sums[name] = total.to(base[name].device, torch.float64)

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
                self._add(name, delta.delta.to(self.base[name].device, torch.float64))
        self.count += 1
        if self.count % GROUP == 0:
            for name in list(self._pending):
                self._flush(name)

    def snapshot(self) -> dict[str, Tensor]:
        """Module name -> double-precision sum of the deltas; with `count`, all that is needed to resume bit-exactly.

        The tensors must not be changed.

        Raises:
            InputError: the number of adapters is not a multiple of `GROUP`.
        """
        if self.count % GROUP:
            raise InputError(f"a snapshot is exact only at a multiple of {GROUP} adapters, not at {self.count}")
        return dict(self._sums)

    def changed(self) -> dict[str, Tensor]:
        """The weights of the modules that the adapters touch, in the base's dtypes.

        Raises:
            NumericsError: a weight does not fit the base's dtype (float16 overflows at 65,504).
        """
        weights = {}
        for name in {**self._sums, **self._pending}:
            base, total = self.base[name].detach(), self._sums.get(name)
            if self._pending.get(name):
                product = _product(self._pending[name], base.device)
                total = product if total is None else total + product
            if total is None:
                continue
            weights[name] = (base.to(torch.float64) + total).to(base.dtype)
            if not bool(torch.isfinite(weights[name]).all()):
                raise NumericsError(f"module '{name}': the composed weight overflows {base.dtype}")
        return weights

    def weights(self) -> dict[str, Tensor]:
        """The state's weights, in the base's dtypes. Untouched modules are the base's own tensors.

        Raises:
            NumericsError: as for `changed`.
        """
        return {**self.base, **self.changed()}

    def _add(self, name: str, delta: Tensor) -> None:
        total = self._sums.get(name)
        self._sums[name] = delta if total is None else total + delta

    def _flush(self, name: str) -> None:
        if self._pending[name]:
            self._add(name, _product(self._pending[name], self.base[name].device))
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
        if not all(_finite(part) for part in parts):
            raise InputError(f"{where}: the delta holds values that are not finite")


def _finite(part: Tensor) -> bool:
    # One pass instead of three: infinities and NaN survive a sum, and only a huge sum of finite values overflows.
    return math.isfinite(float(part.sum(dtype=torch.float64))) or bool(torch.isfinite(part).all())


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
