"""Parts of model cards: the header that the Hub reads, and text that Markdown leaves as it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from seqedit.facts.requests import Request
from seqedit.support.printable import escape, one_line

_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+-]+")
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")


def is_hub_id(name: str) -> bool:
    """Whether a model's name can be the id of a Hub repository: no path, at most one slash."""
    return _HUB_ID.fullmatch(name) is not None and ".." not in name and "--" not in name and len(name) <= 96


def header(fields: Mapping[str, Any]) -> list[str]:
    """YAML front matter; fields that are None are left out."""
    lines = [f"{key}: {_yaml(value)}" for key, value in fields.items() if value is not None]
    return ["---", *lines, "---"]


def _yaml(value: Any) -> str:
    # A YAML reader takes JSON as it stands, but for the surrogate pairs of ASCII-only JSON and unprintable characters.
    return one_line(json.dumps(value, ensure_ascii=False))


def code(text: str) -> str:
    """A name in a code span; one that could end the span, or a table's cell, as escaped text instead."""
    return f"`{text}`" if _PLAIN.fullmatch(text) else escape(text)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; the cells are Markdown already."""
    lines = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def facts_table(requests: Sequence[Request], *, limit: int, rest: str) -> list[str]:
    """The facts of some requests; of a long list the beginning, and how many were left out.

    Args:
        requests: What was edited.
        limit: Most rows.
        rest: Where the others are, for the line below the table.
    """
    rows = [[escape(part) for part in (r.subject, r.prompt, r.target_new)] for r in requests[:limit]]
    left = len(requests) - len(rows)
    more = ["", f"... and {left:,} more; {rest}."] if left > 0 else []
    return [*table(("subject", "prompt", "new answer"), rows), *more, *_framing(requests)]


def _framing(requests: Sequence[Request]) -> list[str]:
    """How the facts were put to the model, where that is named."""
    named = [r for r in requests if r.framed]
    if not named:
        return []
    joins = ", ".join(sorted({r.join for r in named}))
    chats = sorted({r.chat_template for r in named if r.chat_template is not None})
    lines = [f"Answers were joined to their prompts by the rule `{joins}`."]
    if chats:
        lines.append(f"Prompts were the user's turn of the chat template `{', '.join(c[:12] for c in chats)}`.")
    return ["", " ".join(lines)]
