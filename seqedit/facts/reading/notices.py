"""What is said of a fact file beside its records: fields that are not scored, new answers that are true already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from seqedit.facts.checks import label
from seqedit.facts.published.probes import PROBE_FIELDS
from seqedit.facts.published.table import published_layout
from seqedit.facts.requests import ORIGIN, Record

_IDS = ("id", "idx", "case_id", "case_name", "pararel_idx", "relation_id", "known_id")
_READ: Mapping[str, tuple[str, ...]] = {
    # No published score is made of attribute_prompts, which every record of CounterFact has.
    "CounterFact": ("requested_rewrite", "paraphrase_prompts", "neighborhood_prompts", "generation_prompts",
                    "reference_texts", "probes", "attribute_prompts"),
    # cond says the edit once more.
    "zsRE": ("subject", "src", "alt", "answers", "pred", "rephrase", "loc", "loc_ans", "cond", *PROBE_FIELDS),
    "EasyEdit": ("subject", "prompt", "target_new", "ground_truth", "rephrase_prompt", "rephrase", *PROBE_FIELDS),
}  # fmt: skip
"""Layout of `seqedit.facts.layouts` -> its fields that are read, or tell nothing beside those."""
_MOST = 12


def not_scored(rows: Iterable[tuple[Any, str | None]]) -> str | None:
    """One sentence naming each layout's fields that are not scored; None where there are none.

    Args:
        rows: Rows, each with the name of its layout. A layout that is neither published nor among CounterFact, zsRE
            and EasyEdit may have whatever fields it likes.
    """
    found: dict[str, dict[str, None]] = {}
    for row, name in rows:
        if not isinstance(row, Mapping):
            continue
        row = {field: value for field, value in row.items() if value is not None}
        layout = published_layout(row)
        if layout is not None:
            if layout.read:
                found.setdefault(layout.name, {}).update(dict.fromkeys(layout.unread(row)))
        elif name is not None and name in _READ:
            known = {*_READ[name], *_IDS, *ORIGIN}
            # An empty text or list has nothing that could be scored.
            left = (label(field) for field, value in row.items() if field not in known and value not in ("", [], {}))
            found.setdefault(name, {}).update(dict.fromkeys(left))
    told = [
        f"fields {', '.join(_first(list(fields)))} of the layout {name}" for name, fields in found.items() if fields
    ]
    return f"{'; '.join(told)} are not scored" if told else None


def true_already(records: Sequence[Record], numbers: Sequence[int], source: str) -> str | None:
    """One sentence about records whose new answer is the true one; None where there are none.

    Args:
        records: The records.
        numbers: Their numbers in the source.
        source: What they come from.
    """
    found = [
        number for record, number in zip(records, numbers, strict=True)
        if record.request.target_new == record.request.target_true
    ]  # fmt: skip
    if not found:
        return None
    places = f"record {found[0]}" if len(found) == 1 else f"records {', '.join(map(str, found[:5]))}"
    places += f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"{source}: {len(found)} of {len(records)} records have a target_new that equals their target_true ({places}): "
        "ES and PS count them as failures, as neither answer is the likelier one"
    )


def _first(fields: list[str]) -> list[str]:
    return fields if len(fields) <= _MOST else [*fields[:_MOST], f"and {len(fields) - _MOST} more"]
