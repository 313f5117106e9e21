"""Second moments C0 = E[k k^T] of the keys over plain text, for all edited layers in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.anatomy import Projection
from seqedit.digests import tensors_digest
from seqedit.errors import InputError
from seqedit.progress import progress_bar
from seqedit.tracing import inference_state, input_device, run_until


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
            d_in = projection.matrix().shape[1]
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


def shrink(C0: Tensor, shrinkage: float) -> Tensor:
    """``(1 - s) C0 + s mean(diag C0) I``, (d_in, d_in)."""
    if shrinkage == 0:
        return C0
    eye = torch.eye(C0.shape[0], dtype=C0.dtype, device=C0.device)
    return (1 - shrinkage) * C0 + shrinkage * C0.diagonal().mean() * eye


def packed_rows(tokenizer: Any, texts: Iterable[str], length: int, max_tokens: int) -> Iterator[list[int]]:
    """Texts as rows of exactly ``length`` tokens, end-of-text between texts, until ``max_tokens`` are out.

    The length is the caller's, never the model's maximum: that is 131,072 for recent models, and the usual way to
    run out of memory here.
    """
    separator = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    buffer: list[int] = []
    given = 0
    for text in texts:
        if not text.strip():
            continue
        ids = list(tokenizer(text, truncation=False, verbose=False)["input_ids"])
        if separator and ids[-1:] != separator:
            ids += separator
        buffer += ids
        while len(buffer) >= length:
            yield buffer[:length]
            buffer = buffer[length:]
            given += length
            if given >= max_tokens:
                return
    if buffer and given == 0:
        yield buffer


def compute_second_moments(
    model: Any,
    tokenizer: Any,
    projections: Sequence[Projection],
    texts: Iterable[str],
    *,
    max_tokens: int = 100_000,
    sequence_length: int = 64,
    rows_per_batch: int = 64,
) -> SecondMoments:
    """Second moments of some modules' inputs over plain text, uncentred, in one pass.

    Args:
        model: The causal LM, unedited.
        tokenizer: Its tokenizer.
        projections: Modules to measure, in the order of their layers.
        texts: Plain texts.
        max_tokens: Stop after about this many tokens.
        sequence_length: Tokens of one row.
        rows_per_batch: Rows of one forward pass.

    Raises:
        InputError: if the texts hold no tokens.
    """
    sums: dict[str, Tensor] = {}
    counted = 0

    def accumulate(projection: Projection) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            keys = args[0].detach().reshape(-1, args[0].shape[-1]).float()
            # The product of one batch fits float32; the sum over batches would drift in it.
            product = (keys.T @ keys).double()
            held = sums.get(projection.name)
            sums[projection.name] = product if held is None else held.add_(product)

        return hook

    handles = [p.module.register_forward_pre_hook(accumulate(p)) for p in projections]
    rows = packed_rows(tokenizer, texts, sequence_length, max_tokens)
    try:
        with torch.no_grad(), inference_state(model), progress_bar("second moments", total=max_tokens) as bar:
            while True:
                batch = [row for _, row in zip(range(rows_per_batch), rows, strict=False)]
                if not batch:
                    break
                ids = torch.tensor(batch, device=input_device(model))
                run_until(model, projections[-1].module, ids, torch.ones_like(ids))
                counted += ids.numel()
                bar.advance(ids.numel())
    finally:
        for handle in handles:
            handle.remove()
    if not counted:
        raise InputError("the texts for the second moments hold no tokens; give a text file with content")
    return SecondMoments({name: (total / counted).float().cpu() for name, total in sums.items()}, counted)
