"""Factorizations of the second moments, made once for a whole run."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from seqedit.errors import NumericsError
from seqedit.models.anatomy import Projection
from seqedit.moments.second_moments import SecondMoments, shrink_
from seqedit.solver.evolving_null_space import EvolvingKeys, EvolvingNullSpace, keys_in_force
from seqedit.solver.preconditioners import CholeskyPreconditioner, NullSpacePreconditioner
from seqedit.solver.protected_keys import Preconditioner, ProtectedKeys
from seqedit.support.cholesky import cholesky_
from seqedit.support.memory import free_bytes

Made = TypeVar("Made", bound=Preconditioner)


class Factorizations:
    """Factorizations of the second moments, made once for a whole run and reused by every batch.

    Each is made on the device of its layer if it fits there, else on the host, and is used where it was made. Where
    free memory is short, those used longest ago are dropped and made again when they are needed.

    Args:
        moments: C0 of every layer that will be edited.
    """

    def __init__(self, moments: SecondMoments) -> None:
        self.moments = moments
        self._made: dict[tuple[str | float, ...], Preconditioner] = {}
        self._protected: dict[str, ProtectedKeys | EvolvingKeys] = {}

    def cholesky(
        self, projection: Projection, *, weight: float, shrinkage: float, ridge: float = 0.0
    ) -> CholeskyPreconditioner:
        """C = weight * ((1 - s) C0 + s mean(diag C0) I) + ridge I, factored.

        Shrinkage s towards the scaled identity keeps C invertible where little text was seen or keys are few (Ledoit
        and Wolf, 2004); s = 0 takes C0 as it is. A ridge is the weight of |Delta|^2 in the least-squares objective.

        Raises:
            NumericsError: C is not positive definite, or too near to singular.
        """
        key = ("cholesky", projection.name, weight, shrinkage, ridge)
        held = self._used(key)
        if not isinstance(held, CholeskyPreconditioner):
            C = shrink_(self._matrix(projection, matrices=1), shrinkage).mul_(weight)
            C.diagonal().add_(ridge)
            held = self._keep(key, CholeskyPreconditioner(cholesky_(C, f"'{projection.name}'")))
        return held

    def null_space(self, projection: Projection, *, threshold: float, l2: float) -> NullSpacePreconditioner:
        """The eigenvectors of C0 with eigenvalues below ``threshold``.

        Raises:
            NumericsError: there are none.
        """
        key = ("null space", projection.name, threshold, l2)
        held = self._used(key)
        if not isinstance(held, NullSpacePreconditioner):
            values, vectors = torch.linalg.eigh(self._matrix(projection, matrices=4))
            basis = vectors[:, values < threshold]
            if basis.shape[1] == 0:
                raise NumericsError(
                    f"no eigenvalue of the second moment of '{projection.name}' is below nullspace_threshold "
                    f"{threshold:g} (the smallest is {float(values[0]):.3g}); raise it"
                )
            held = self._keep(key, NullSpacePreconditioner(basis, l2))
        return held

    def evolving_null_space(
        self, projection: Projection, *, threshold: float, l2: float, drop: float
    ) -> EvolvingNullSpace:
        """The same null space, from which the keys of earlier edits take their directions (`protected`).

        Raises:
            NumericsError: as `null_space`.
        """
        key = ("evolving null space", projection.name, threshold, l2, drop)
        held = self._used(key)
        if not isinstance(held, EvolvingNullSpace):
            basis = self.null_space(projection, threshold=threshold, l2=l2).basis
            held = self._keep(
                key, EvolvingNullSpace(projection.name, basis, l2, drop, basis.new_empty(len(basis.T), 0))
            )
        return held

    def protected(self, projection: Projection, inner: Preconditioner, keys: Tensor | None) -> Preconditioner:
        """C^-1 with the keys of earlier edits in it, kept from batch to batch.

        They are added to C (`seqedit.solver.protected_keys`), or leave an evolving null space
        (`seqedit.solver.evolving_null_space`).

        Args:
            projection: The layer.
            inner: C^-1, as `cholesky`, `null_space` or `evolving_null_space` gave it.
            keys: (N, d_in) keys of earlier edits, oldest first; None for none.
        """
        if keys is None or len(keys) == 0:
            self._protected.pop(projection.name, None)
            return inner
        held = self._protected.get(projection.name)
        if held is None or held.inner is not inner:
            held = self._protected[projection.name] = keys_in_force(inner)
        return held.protect(keys.to(_float64_device(projection)))

    def _used(self, key: tuple[str | float, ...]) -> Preconditioner | None:
        """What was made, now the last used."""
        held = self._made.pop(key, None)
        if held is not None:
            self._made[key] = held
        return held

    def _keep(self, key: tuple[str | float, ...], made: Made) -> Made:
        self._made[key] = made
        return made

    def _matrix(self, projection: Projection, *, matrices: int) -> Tensor:
        """A float64 copy of C0, on a device with room for so many matrices of its size."""
        self.moments.require([projection])
        C0 = self.moments.matrices[projection.name]
        needed = C0.numel() * (8 * matrices + 4)
        device = _float64_device(projection)
        if device.type != "cpu" and _short(device, needed):
            device = torch.device("cpu")
        if device.type == "cpu":
            self._make_room(needed)
        return C0.to(device).to(torch.float64, copy=True)

    def _make_room(self, needed: int) -> None:
        """Drop what was used longest ago until so many bytes are free; if they never are, the allocation says so."""
        while self._made and _short(torch.device("cpu"), needed):
            oldest = self._made.pop(next(iter(self._made)))
            self._protected = {name: held for name, held in self._protected.items() if held.inner is not oldest}
            del oldest


def _short(device: torch.device, needed: int) -> bool:
    free = free_bytes(device)
    return free is not None and free < needed


def _float64_device(projection: Projection) -> torch.device:
    """The device of a layer, or the host where that knows no float64 (Apple's GPUs)."""
    device = projection.weight.device
    return torch.device("cpu") if device.type == "mps" else device
