"""Second moments C0 = E[k k^T] of the keys over plain text, for all edited layers in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn

from seqedit.errors import EnvironmentFailure, InputError, ModelError
from seqedit.forward.access import input_device
from seqedit.forward.batching import pass_tokens
from seqedit.forward.fused_gelu import fused_activations
from seqedit.forward.hooks import StopForward, hooks, inference_state
from seqedit.forward.protocols import CausalLM, Tokenizer
from seqedit.models.anatomy import Projection
from seqedit.moments.second_moments import _NO_TOKENS, SecondMoments
from seqedit.moments.sums import TOKENS, MomentSum
from seqedit.support.memory import is_out_of_memory, release_cached
from seqedit.support.progress import progress_bar
from seqedit.text.rows import packed_rows

__all__ = ["MEASURE_VERSION", "compute_second_moments", "packed_rows"]

MEASURE_VERSION = 1
"""Raised when the arithmetic below changes: second moments in the cache are then measured anew."""


def compute_second_moments(
    model: CausalLM,
    tokenizer: Tokenizer,
    projections: Sequence[Projection],
    texts: Iterable[str],
    *,
    max_tokens: int = 100_000,
    sequence_length: int = 64,
    rows_per_batch: int | None = None,
    share: tuple[int, int] = (0, 1),
    key_dtype: torch.dtype | None = None,
) -> SecondMoments:
    """Second moments of some modules' inputs over plain text, uncentred, in one pass.

    The forward pass ends before the last module. Where memory runs out, it is repeated with half as many rows.

    Args:
        model: The causal LM, unedited.
        tokenizer: Its tokenizer.
        projections: Modules to measure, in the order of their layers.
        texts: Plain texts.
        max_tokens: Stop after about this many tokens.
        sequence_length: Tokens of one row.
        rows_per_batch: Rows of one forward pass; None for what suits the device.
        share: (rank, size): of the blocks of rows that are multiplied together only every size-th is measured, from
            rank on, so that each is what one process would have computed. `SecondMoments.merged` makes one of all
            ranks' results, which are in float64 for it; a share without rows is zero.
        key_dtype: Round the keys to this type before they are multiplied (`seqedit.moments.sums`); None keeps them as
            the model has them. What came from 16 bits is multiplied exactly by the fast units of a GPU.

    Raises:
        InputError: the texts hold no tokens, or an argument is out of range.
        EnvironmentFailure: there is not enough memory for a single row.
    """
    rank, size = share
    if not 0 <= rank < size:
        raise InputError(f"a share is (rank, size) with 0 <= rank < size, got {share}")
    for name, value in (("max_tokens", max_tokens), ("sequence_length", sequence_length)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    device = input_device(model)
    rows = rows_per_batch or max(1, pass_tokens(device) // sequence_length)
    sums = {p.name: MomentSum(rows * sequence_length, key_dtype) for p in projections}
    counted = 0
    block = rows * max(1, TOKENS // (rows * sequence_length))  # rows that fill the buffer of a `MomentSum`
    waiting: Iterator[list[int]] = (
        row
        for number, row in enumerate(packed_rows(tokenizer, texts, sequence_length, max_tokens))
        if number // block % size == rank
    )
    with _watched(model, projections, sums), progress_bar("second moments", max_tokens / size) as bar:
        while batch := list(islice(waiting, rows)):
            ids = torch.tensor(batch)
            failure = _try_pass(model, sums.values(), ids.to(device))
            if failure is None:
                counted += ids.numel()
                bar.advance(ids.numel())
                continue
            release_cached(device)
            if len(batch) == 1:
                raise EnvironmentFailure(
                    f"out of memory while one row of {ids.numel()} tokens was run for the second moments ({failure}); "
                    "measure fewer layers at a time or take a shorter sequence length"
                )
            rows, waiting = len(batch) // 2, chain(batch, waiting)
        return _averages(projections, sums, counted, size)


def _watched(model: CausalLM, projections: Sequence[Projection], sums: Mapping[str, MomentSum]) -> ExitStack:
    """A model that stages the projections' inputs when it is run, and stops at the last one."""
    last = projections[-1].module

    def stage(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            sums[name].stage(args[0].detach().reshape(-1, args[0].shape[-1]))
            if module is last:
                raise StopForward

        return hook

    stack = ExitStack()
    stack.enter_context(torch.no_grad())
    stack.enter_context(inference_state(model))
    stack.enter_context(fused_activations(model))
    stack.enter_context(hooks(pre={p.module: stage(p.name) for p in projections}))
    return stack


def _try_pass(model: CausalLM, sums: Iterable[MomentSum], ids: Tensor) -> str | None:
    """Add the keys of some rows to the sums, or leave the sums as they are and say that memory ran out."""
    sums = list(sums)
    for held in sums:
        if held.room < ids.numel():
            held.flush()
    try:
        with suppress(StopForward):
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Only the text: the exception's frames hold the activations.
        return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    for held in sums:
        if held.staged != ids.numel():
            raise ModelError(f"a layer saw {held.staged} of {ids.numel()} tokens; its keys cannot be averaged")
        held.commit()
    return None


def _averages(
    projections: Sequence[Projection], sums: Mapping[str, MomentSum], counted: int, size: int
) -> SecondMoments:
    if not counted and size == 1:
        raise InputError(_NO_TOKENS)
    # A share keeps float64, so that what is merged from shares is rounded once.
    dtype = torch.float32 if size == 1 else torch.float64
    matrices = {}
    for projection in projections:
        total = sums[projection.name].total()
        if total is None:
            d_in = projection.matrix().shape[1]
            total = torch.zeros(d_in, d_in, dtype=torch.float64)
        matrices[projection.name] = total.div_(max(counted, 1)).to("cpu", dtype)
    return SecondMoments(matrices, counted)
