"""Token sequences that begin alike as one row: a prefix is run once, however many sequences share it.

A row holds the prefix tree of some sequences, node after node in depth-first order. With an attention mask that shows
each node its ancestors alone, and with a node's depth as its position, every sequence is computed as if it stood by
itself. Both targets of a record, the paraphrases and neighbours of a relation, and the choices of a task share the
most of what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from seqedit.forward.access import input_device
from seqedit.forward.hooks import inference_state
from seqedit.forward.protocols import CausalLM
from seqedit.forward.trials import fits_window, lost, trial

SHARING = "running what sequences begin alike with once"
WIDTH = 64
"""Nodes of a row, about: each node attends to all nodes of its row, masked, so more would cost more than they share."""


@dataclass
class PackedRow:
    """A prefix tree.

    Attributes:
        ids: Token of each node, in depth-first order.
        depth: How many ancestors each node has: its position.
        end: The node after the last descendant of each node.
    """

    ids: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)

    @property
    def chain(self) -> bool:
        """Whether the row is a single sequence, for which plain causal attention is right."""
        return not self.depth or self.depth[-1] == len(self.depth) - 1


@dataclass(frozen=True)
class Packed:
    """Sequences in rows.

    Attributes:
        rows: The rows.
        row_of: For each sequence its row.
        nodes: For each sequence the nodes of its tokens.
    """

    rows: list[PackedRow]
    row_of: list[int]
    nodes: list[tuple[int, ...]]


def pack(sequences: Sequence[tuple[int, ...]], width: int) -> Packed:
    """Prefix trees of sequences.

    Args:
        sequences: Token ids, none empty.
        width: Nodes of a row, about; 0 for one sequence a row, and what it begins with.
    """
    rows: list[PackedRow] = []
    row_of, nodes = [0] * len(sequences), [()] * len(sequences)  # type: list[int], list[tuple[int, ...]]
    path: list[int] = []  # nodes of the sequence before
    before: tuple[int, ...] = ()
    # Backwards, a sequence comes right after one that begins with it, if there is one: it then needs no node.
    for index in sorted(range(len(sequences)), key=lambda i: sequences[i], reverse=True):
        sequence = sequences[index]
        shared = _common(before, sequence)
        new = len(sequence) - shared
        if not rows or (new and _full(len(rows[-1].ids), new, shared, width)):
            _close(rows, path, 0)
            rows.append(PackedRow())
            path, shared, before = [], 0, ()
        row = rows[-1]
        if len(sequence) > shared:
            _close(rows, path, shared)
            del path[shared:]
            for depth in range(shared, len(sequence)):
                path.append(len(row.ids))
                row.ids.append(sequence[depth])
                row.depth.append(depth)
                row.end.append(0)
            before = sequence
        row_of[index], nodes[index] = len(rows) - 1, tuple(path[: len(sequence)])
    _close(rows, path, 0)
    return Packed(rows, row_of, nodes)


def _full(held: int, new: int, shared: int, width: int) -> bool:
    """Whether a sequence begins a row of its own: not where more would be run twice than is new (up to a size)."""
    return held + new > width and (shared <= new or held + new > 4 * width)


def _close(rows: Sequence[PackedRow], path: Sequence[int], depth: int) -> None:
    for node in path[depth:]:
        rows[-1].end[node] = len(rows[-1].ids)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def forward_arguments(rows: Sequence[PackedRow], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Keyword arguments of a model's forward for some rows, padded on the right.

    Where every row is a single sequence these are ids and a padding mask; else there is a position for each node and a
    mask (rows, 1, t, t) that is added to the attention scores.
    """
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
    if all(row.chain for row in rows):
        lengths = torch.tensor([len(row.ids) for row in rows])
        mask = (torch.arange(width) < lengths.unsqueeze(1)).long()
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
    # Padding attends to itself, so that no softmax is over nothing.
    ends = torch.tensor([row.end + list(range(len(row.end) + 1, width + 1)) for row in rows])
    depth = torch.tensor([row.depth + [0] * (width - len(row.depth)) for row in rows])
    node = torch.arange(width)
    seen = (node <= node.unsqueeze(1)) & (node.unsqueeze(1) < ends.unsqueeze(1))
    mask = torch.zeros(len(rows), 1, width, width, dtype=dtype)
    mask.masked_fill_(~seen.unsqueeze(1), torch.finfo(dtype).min)
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device), "position_ids": depth.to(device)}


def pack_width(model: CausalLM, sequences: Sequence[tuple[int, ...]], *, trees: bool | None = None) -> int:
    """How wide rows should be for a model; 0 where it cannot be given its own positions and masks.

    Args:
        model: The causal LM.
        sequences: What will be packed.
        trees: Whether the model can take them, where that is known; None finds out by trying.
    """
    longest = max(map(len, sequences))
    if not fits_window(model, longest):
        lost(model, SHARING, "its attention window is shorter than a sequence")
        return 0
    return max(WIDTH, longest) if (takes_trees(model) if trees is None else trees) else 0


def takes_trees(model: CausalLM) -> bool:
    """Whether a model gives the same logits for sequences in one row as for each in a row of its own."""
    random = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().weight.shape[0]
    a, b, c, d, e, f = torch.randint(0, vocabulary, (6,), generator=random).tolist()
    sequences = [(a, b, c, d), (a, b, e), (f, a, b)]
    packed = pack(sequences, WIDTH)
    if len(packed.rows) > 1 or not fits_window(model, len(packed.rows[0].ids)):
        lost(model, SHARING, "its attention window is too short to try it")  # or the tokens happen to be equal
        return False
    device = input_device(model)

    def attempt() -> tuple[Tensor, Tensor]:
        plain = [model(input_ids=torch.tensor([s], device=device), use_cache=False).logits[0] for s in sequences]
        arguments = forward_arguments(packed.rows, device, plain[0].dtype)
        found = model(**arguments, use_cache=False).logits[0]
        return torch.cat([found[list(nodes)] for nodes in packed.nodes]), torch.cat(plain)

    with torch.no_grad(), inference_state(model):
        return trial(model, SHARING, attempt)
