"""Second moments C0 of some modules, and what shrinks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from seqedit.errors import InputError
from seqedit.models.anatomy import Projection, features
from seqedit.support.digests import tensors_digest


@dataclass(frozen=True, eq=False)
class SecondMoments:
    """Second moments by module name.

    Attributes:
        matrices: Module name -> (d_in, d_in), float32 or float64.
        tokens: How many tokens they were averaged over, 0 if unknown.
    """

    matrices: Mapping[str, Tensor]
    tokens: int = 0

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the matrices."""
        return tensors_digest(self.matrices)

    def require(self, projections: Sequence[Projection]) -> None:
        """Check that every module is there with the right size.

        Raises:
            InputError: names the module that is missing or has another size.
        """
        for projection in projections:
            d_in = features(projection.module)[0]  # of a model without weights too
            matrix = self.matrices.get(projection.name)
            if matrix is None:
                raise InputError(
                    f"the second moments hold no matrix for '{projection.name}' (they have "
                    f"{', '.join(sorted(self.matrices)) or 'none'}); recompute them for the edited layers"
                )
            if tuple(matrix.shape) != (d_in, d_in):
                raise InputError(
                    f"the second moment of '{projection.name}' has shape {tuple(matrix.shape)}, "
                    f"the model needs {(d_in, d_in)}"
                )

    @staticmethod
    def identity(projections: Sequence[Projection]) -> SecondMoments:
        """The identity for every module, for settings under which C0 does not enter."""
        return SecondMoments({p.name: torch.eye(features(p.module)[0]) for p in projections})

    @staticmethod
    def merged(parts: Sequence[SecondMoments]) -> SecondMoments:
        """Second moments over all the texts that some were measured over, weighted by their tokens, in float32.

        Args:
            parts: Of the same modules, over different texts or shares of one text (`compute_second_moments`).

        Raises:
            InputError: there are none, they are of different modules, or it is not known over how many tokens one was
                measured.
        """
        if not parts:
            raise InputError("no second moments to merge were given")
        shapes = [{name: tuple(matrix.shape) for name, matrix in part.matrices.items()} for part in parts]
        if any(other != shapes[0] for other in shapes):
            raise InputError("second moments of different modules or sizes cannot be merged")
        for number, part in enumerate(parts, 1):
            # A share without a single row is all zeros; it adds nothing and is in order.
            if part.tokens <= 0 and any(bool(matrix.any()) for matrix in part.matrices.values()):
                raise InputError(f"part {number} of the second moments does not say how many tokens it has seen")
        tokens = sum(part.tokens for part in parts)
        if not tokens:
            raise InputError(_NO_TOKENS)
        matrices = {}
        for name in shapes[0]:
            total = parts[0].matrices[name].double() * parts[0].tokens
            for part in parts[1:]:
                total.add_(part.matrices[name].to(total.device, torch.float64), alpha=part.tokens)
            matrices[name] = (total / tokens).float()
        return SecondMoments(matrices, tokens)


_NO_TOKENS = "the texts for the second moments hold no tokens; give a text file with content"


def shrink(C0: Tensor, shrinkage: float) -> Tensor:
    """``(1 - s) C0 + s mean(diag C0) I``, (d_in, d_in)."""
    if shrinkage == 0:
        return C0
    return shrink_(C0.clone(), shrinkage)


def shrink_(C0: Tensor, shrinkage: float) -> Tensor:
    """As `shrink`, in place."""
    if shrinkage:
        mean = C0.diagonal().mean()
        C0.mul_(1 - shrinkage).diagonal().add_(shrinkage * mean)
    return C0


def sample_size(projections: Sequence[Projection], per_dimension: float) -> int:
    """Tokens that give every input dimension of the widest module ``per_dimension`` samples."""
    if per_dimension <= 0:
        raise InputError(f"tokens per dimension must be positive, got {per_dimension:g}")
    return round(per_dimension * max(projection.matrix().shape[1] for projection in projections))
