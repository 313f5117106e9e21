"""MEND's training loss, on the model as it would be after the edits (arXiv 2110.11309, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqedit.forward.access import input_device
from seqedit.forward.batching import pad_right
from seqedit.forward.hooks import hooks
from seqedit.forward.protocols import CausalLM
from seqedit.methods.mend.examples import Case
from seqedit.methods.mend.gradients import TokenTerms, token_terms
from seqedit.methods.mend.hypernetwork import Hypernetwork
from seqedit.models.anatomy import Anatomy

Factors = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class EditLosses:
    """Summed over the edits of some groups.

    Attributes:
        edit: Each edit's mean NLL of the new target, over its answers and their tokens; a scalar.
        locality: Each edit's mean KL(base || edited) of the next token after its neighbours; a scalar.
        edits: How many edits.
    """

    edit: Tensor
    locality: Tensor
    edits: int


def edit_losses(
    model: CausalLM,
    parts: Anatomy,
    network: Hypernetwork,
    groups: Sequence[Sequence[Case]],
    *,
    observe: bool = False,
    scale: float = 1.0,
    max_tokens: int = 8192,
) -> EditLosses:
    """Losses of groups of edits, each group on a model that holds its edits and no others.

    The edits are not written to the model: every projection's output gets Delta u added, for the rows of each group
    its own Delta, from the factors of which no product is ever formed. Gradients flow to the hypernetwork only.

    Args:
        model: The causal LM, in `inference_state`.
        parts: Its anatomy.
        network: The hypernetwork.
        groups: Cases whose edits are applied together.
        observe: Add the gradients to the statistics that normalise them first.
        scale: Factor on the edits; 0 measures the unedited model.
        max_tokens: Padded tokens of one pass for the gradients.
    """
    terms, _ = token_terms(
        model, parts, [case.prompt for cases in groups for case in cases], network.layers, max_tokens=max_tokens
    )
    if observe:
        for layer, term in terms.items():
            network.observe(layer, term.u, term.delta)
    sizes = [len(cases) for cases in groups]
    edits = {
        parts.projections[layer].module: _by_group(network.factors(layer, term.u, term.delta), term, sizes, scale)
        for layer, term in terms.items()
    }
    answers = [[answer for case in cases for answer in case.answers] for cases in groups]
    neighbors = [[ids for case in cases for ids in case.neighbors] for cases in groups]
    with torch.no_grad():
        flat = [ids for some in neighbors for ids in some]
        base = _logits(model, parts, flat, [(row, len(ids) - 1) for row, ids in enumerate(flat)]) if flat else None
    sequences: list[Sequence[int]] = []
    scored: list[tuple[int, int]] = []
    kept: list[tuple[int, int]] = []
    for some, others in zip(answers, neighbors, strict=True):
        for answer in some:
            scored += [(len(sequences), answer.target_start + i) for i in range(len(answer.target_ids))]
            sequences.append(answer.ids)
        for ids in others:
            kept.append((len(sequences), len(ids) - 1))
            sequences.append(ids)
    rows = [len(a) + len(n) for a, n in zip(answers, neighbors, strict=True)]
    with _adding(edits, rows):
        logits = _logits(model, parts, sequences, scored + kept)
    cases = [case for some in groups for case in some]
    targets = torch.tensor([t for c in cases for a in c.answers for t in a.target_ids], device=logits.device)
    weights = [1 / len(c.answers) / len(a.target_ids) for c in cases for a in c.answers for _ in a.target_ids]
    nll = F.cross_entropy(logits[: len(scored)], targets, reduction="none")
    edit = (nll * torch.tensor(weights, dtype=nll.dtype, device=nll.device)).sum()
    if base is None:
        return EditLosses(edit, torch.zeros_like(edit), len(cases))
    after = torch.log_softmax(logits[len(scored) :], dim=-1)
    kl = F.kl_div(after, torch.log_softmax(base, dim=-1), reduction="none", log_target=True).sum(-1)
    shares = [1 / len(c.neighbors) for c in cases for _ in c.neighbors]
    return EditLosses(edit, (kl * torch.tensor(shares, dtype=kl.dtype, device=kl.device)).sum(), len(cases))


def chunks(groups: Sequence[Sequence[Case]], max_tokens: int) -> Iterator[list[Sequence[Case]]]:
    """Groups in chunks whose padded rows stay within ``max_tokens`` (or one group each)."""
    chunk: list[Sequence[Case]] = []
    rows = longest = 0
    for cases in groups:
        lengths = [len(a.ids) for c in cases for a in c.answers] + [len(ids) for c in cases for ids in c.neighbors]
        if chunk and (rows + len(lengths)) * max(longest, *lengths) > max_tokens:
            yield chunk
            chunk, rows, longest = [], 0, 0
        chunk.append(cases)
        rows, longest = rows + len(lengths), max(longest, *lengths)
    if chunk:
        yield chunk


def _by_group(factors: Factors, terms: TokenTerms, sizes: Sequence[int], scale: float) -> list[Factors]:
    """The tokens' terms handed out to the groups their requests are in."""
    B, A = factors
    per_request = torch.bincount(terms.owners, minlength=sum(sizes)).cpu().split(list(sizes))
    counts = [int(some.sum()) for some in per_request]
    return [(scale * b, a) for b, a in zip(B.split(counts, dim=1), A.split(counts), strict=True)]


@contextmanager
def _adding(edits: Mapping[nn.Module, Sequence[Factors]], rows: Sequence[int]) -> Iterator[None]:
    """Add Delta u to the projections' outputs; ``rows`` says how many rows of the batch each group has."""

    def add(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        inputs = args[0].reshape(sum(rows), -1, args[0].shape[-1])  # some families run all tokens in one row
        added = [
            (u.to(A.dtype) @ A.to(u.device).T) @ B.to(u.device).T
            for u, (B, A) in zip(inputs.split(list(rows)), edits[module], strict=True)
        ]
        return output + torch.cat(added).reshape(output.shape).to(output)

    with hooks(post=dict.fromkeys(edits, add)):
        yield


def _logits(
    model: CausalLM, parts: Anatomy, sequences: Sequence[Sequence[int]], places: Sequence[tuple[int, int]]
) -> Tensor:
    """Logits (m, vocabulary) at m (row, token) places, float32 or wider; only those go through the LM head."""
    ids, mask = pad_right(sequences, input_device(model))
    rows, columns = torch.tensor(places, device=ids.device).T

    def select(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        states = args[0]
        return (states[rows.to(states.device), columns.to(states.device)].unsqueeze(0), *args[1:])

    with hooks(pre={parts.lm_head: select}):
        logits: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[0]
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
