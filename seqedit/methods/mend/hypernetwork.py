"""MEND's networks: from the rank-one terms of a gradient to those of an edit (arXiv 2110.11309, section 3).

The gradient of a linear map's weight is a sum of outer products, one per token: sum_t delta_t u_t^T, with u_t the
map's input and delta_t the gradient of the loss at its output (section 3.1). MEND maps every pair (u_t, delta_t) to
another pair, so what it learns is small although it writes whole matrices.

Two things differ from the public code, and both make the identity initialisation plain gradient descent:
the networks' *change* of the normalised input is scaled back to the input's own units and added to the input itself
(the public code hands on the normalised values), and alpha is learnt as its logarithm, so it stays positive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

_FLOOR = 0.01
"""A feature's standard deviation counts as at least this share of the mean one: a dead one must not blow up."""


class EditBlock(nn.Module):
    """One residual block: z + relu(s_l * (U V z + b) + o_l) (section 3.2); the identity when it is new.

    Args:
        width: Features of z, d_in + d_out.
        rank: Rank of U V.
        layers: How many layers share the block; each has a scale s_l and a shift o_l of its own.
        generator: Of the initial V.
    """

    def __init__(self, width: int, rank: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.U = nn.Parameter(torch.zeros(width, rank))
        self.V = nn.Parameter(torch.randn(rank, width, generator=generator) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(layers, width))
        self.shift = nn.Parameter(torch.zeros(layers, width))

    def forward(self, z: Tensor, index: int) -> Tensor:
        """(T, width) to (T, width), for the layer at ``index`` of those that share the block."""
        change = self.scale[index] * (z @ self.V.T @ self.U.T + self.bias) + self.shift[index]
        # Not relu: everything is 0 at first, where relu's derivative is 0 and nothing would ever be learnt.
        return z + change.clamp(min=0)


class GradientTransform(nn.Module):
    """The network that all projections of one shape share: g of section 3.2, with the normalisation before it.

    Args:
        d_in: Features of u.
        d_out: Features of delta.
        layers: How many layers share it.
        rank: Rank of its blocks.
        generator: Of its initial weights.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, d_in: int, d_out: int, layers: int, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.d_in, self.d_out = d_in, d_out
        width = d_in + d_out
        self.blocks = nn.ModuleList(EditBlock(width, rank, layers, generator) for _ in range(2))
        # Of each layer's own inputs, whose scales differ.
        self.register_buffer("count", torch.zeros(layers, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(layers, width, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(layers, width, dtype=torch.float64))

    @torch.no_grad()
    def observe(self, u: Tensor, delta: Tensor, index: int) -> None:
        """Add (T, d_in) and (T, d_out) to the running mean and variance of a layer's inputs."""
        if not len(u):
            return
        z = torch.cat([u, delta], dim=1).to(self.mean)
        before, more = float(self.count[index]), len(z)
        mean = z.mean(0)
        shift, total = mean - self.mean[index], before + more
        # Two samples' moments merged (Chan et al. 1979), so the batching of the tokens does not matter.
        self.squares[index] += ((z - mean) ** 2).sum(0) + shift**2 * (before * more / total)
        self.mean[index] += shift * (more / total)
        self.count[index] = total

    def moments(self, index: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (width,) of a layer's inputs; 0 and 1 before there are any."""
        if self.count[index] < 2:
            return torch.zeros_like(self.mean[index]), torch.ones_like(self.mean[index])
        std = (self.squares[index] / (self.count[index] - 1)).sqrt()
        parts = [part.clamp(min=_FLOOR * float(part.mean()) or 1.0) for part in std.split([self.d_in, self.d_out])]
        return self.mean[index], torch.cat(parts)

    def forward(self, u: Tensor, delta: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """(T, d_in) inputs and (T, d_out) gradients to those of the edit, of the same shapes."""
        mean, std = (moment.to(u) for moment in self.moments(index))
        normal = (torch.cat([u, delta], dim=1) - mean) / std
        z = normal
        for block in self.blocks:
            z = block(z, index)
        change_u, change_delta = ((z - normal) * std).split([self.d_in, self.d_out], dim=1)
        return u + change_u, delta + change_delta


class Hypernetwork(nn.Module):
    """All networks of one model: one per shape of the edited projections, and alpha of every layer.

    Args:
        shapes: Layer -> (d_in, d_out) of its FFN output projection.
        rank: Rank of the blocks.
        rate: Initial alpha.
        seed: Of the initial weights.
    """

    def __init__(self, shapes: Mapping[int, tuple[int, int]], rank: int, *, rate: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.shapes = {layer: shapes[layer] for layer in sorted(shapes)}
        self.rank = rank
        generator = torch.Generator().manual_seed(seed)
        self._sharing: dict[str, list[int]] = {}
        for layer, shape in self.shapes.items():
            self._sharing.setdefault(_name(shape), []).append(layer)
        self.transforms = nn.ModuleDict(
            {
                name: GradientTransform(*self.shapes[layers[0]], len(layers), rank, generator)
                for name, layers in self._sharing.items()
            }
        )
        self.log_rates = nn.Parameter(torch.full((len(self.shapes),), math.log(rate)))

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers it edits, in order."""
        return tuple(self.shapes)

    def rate(self, layer: int) -> Tensor:
        """Alpha of a layer, a scalar."""
        return self.log_rates[self.layers.index(layer)].exp()

    def observe(self, layer: int, u: Tensor, delta: Tensor) -> None:
        """Add a layer's (T, d_in) inputs and (T, d_out) gradients to the statistics they are normalised with."""
        transform, index = self._of(layer)
        transform.observe(u, delta, index)

    def factors(self, layer: int, u: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """The edit Delta_W = B A = -alpha * sum_t delta~_t u~_t^T of a layer (section 3.2).

        Args:
            layer: One of `layers`.
            u: (T, d_in) inputs of the projection.
            delta: (T, d_out) gradients of the loss at its output.

        Returns:
            B (d_out, T) and A (T, d_in), in the networks' dtype and with a graph to their parameters.
        """
        transform, index = self._of(layer)
        u, delta = transform(u.to(self.log_rates), delta.to(self.log_rates), index)
        return -self.rate(layer) * delta.T, u

    def _of(self, layer: int) -> tuple[GradientTransform, int]:
        name = _name(self.shapes[layer])
        transform = self.transforms[name]
        assert isinstance(transform, GradientTransform)
        return transform, self._sharing[name].index(layer)


def _name(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"
