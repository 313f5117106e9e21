"""Which requests the target-value optimisation runs together: alike in length, so that little is padding."""

from __future__ import annotations

from collections.abc import Sequence

from seqedit.models.anatomy import Anatomy, features
from seqedit.text.lookup import Prompt

PASS_TOKENS = 128
"""What a further group costs, in tokens run at every step: launching a forward and a backward pass. Measured on the
demo models it is 30 to 60; on an accelerator more."""


def group_units(
    prompts: Sequence[Sequence[Prompt]], units: Sequence[list[int]], max_tokens: int
) -> list[list[list[int]]]:
    """Units in groups of similar shape that fit ``max_tokens`` when padded; a function of the requests alone.

    At every step the tokens from the lookup token on are run, so groups are made of rows alike in these: the cut that
    needs the fewest padded tokens, each further group counted as `PASS_TOKENS`.

    Args:
        prompts: For each request its prompts.
        units: The requests that share a target value.
        max_tokens: Padded tokens, those before the lookup token included, of one group (or it is one unit).
    """
    rows = [[p for i in unit for p in prompts[i]] for unit in units]
    after = [max(len(p.ids) - p.lookup for p in unit) for unit in rows]
    longest = [max(len(p.ids) for p in unit) for unit in rows]
    order = sorted(range(len(units)), key=lambda u: (after[u], longest[u], units[u]))
    groups = []
    for first, last in _cheapest_cuts([after[u] for u in order], [len(rows[u]) for u in order]):
        groups += _fitting(order[first:last], longest, [len(unit) for unit in rows], max_tokens)
    return [[units[u] for u in group] for group in groups]


def _cheapest_cuts(widths: Sequence[int], rows: Sequence[int]) -> list[tuple[int, int]]:
    """Ranges of an ascending sequence that cost least in all, each PASS_TOKENS + its rows * its greatest width."""
    # Only between unequal widths can a cut pay.
    ends = [i + 1 for i in range(len(widths)) if i + 1 == len(widths) or widths[i] != widths[i + 1]]
    starts = [0, *ends[:-1]]
    total = [sum(rows[a:b]) for a, b in zip(starts, ends, strict=True)]
    best, came_from = [0.0], [0]
    for last, end in enumerate(ends, 1):
        width = widths[end - 1]
        options = [best[first] + PASS_TOKENS + width * sum(total[first:last]) for first in range(last)]
        came_from.append(min(range(last), key=lambda first: options[first]))
        best.append(options[came_from[-1]])
    ranges, last = [], len(ends)
    while last:
        first = came_from[last]
        ranges.append((starts[first], ends[last - 1]))
        last = first
    return ranges[::-1]


def _fitting(order: Sequence[int], longest: Sequence[int], rows: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Units in order, in as few groups as fit, of about the same size."""
    groups: list[list[int]] = []
    for limit in (max_tokens, None):
        if limit is None:
            count = len(groups)
            # As many groups, but none of them a small rest.
            limit = min(max_tokens, max(1, -(-sum(rows[u] for u in order) * max(longest[u] for u in order) // count)))
        groups = [[]]
        held = widest = 0
        for u in order:
            held, widest = held + rows[u], max(widest, longest[u])
            if groups[-1] and held * widest > limit:
                groups.append([])
                held, widest = rows[u], longest[u]
            groups[-1].append(u)
    return groups


def bytes_needed(parts: Anatomy, layer: int, prompts: Sequence[Prompt]) -> int:
    """About how many bytes the optimisation of some prompts at a layer takes, the graph of a backward pass included.

    Counted per token that is run: eight vectors of the hidden size and four of the feed-forward size for each layer
    above; per earlier token its key and value; per target token its logits three times, in float32.
    """
    width, inner = parts.hidden_size, features(parts.projections[layer].module)[0]
    above = len(parts.layers) - layer
    run = sum(len(p.ids) - p.lookup for p in prompts)
    held = sum(p.lookup for p in prompts)
    logits = sum(len(p.target_ids) or 1 for p in prompts) * parts.lm_head.weight.shape[0]  # type: ignore[union-attr,index]
    size = parts.projections[layer].weight.element_size()
    return above * size * (run * (8 * width + 4 * inner) + held * 2 * width) + 3 * 4 * int(logits)
