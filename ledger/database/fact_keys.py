"""What the facts of a ledger are looked up by: short keys of texts that may be long.

A PostgreSQL b-tree takes no value of more than about 2,700 bytes, and subjects and prompts may be longer.
"""

from __future__ import annotations

import hashlib
import unicodedata

from seqedit.facts.identity import canonical
from seqedit.support.digests import json_digest

FOLDED_CHARACTERS = 64
"""How many characters `folded` keeps."""


def subject_digest(subject: str) -> str:
    """SHA-256 (hex) of the UTF-8 of a subject's canonical spelling."""
    return hashlib.sha256(canonical(subject).encode()).hexdigest()


def fact_digest(subject: str, relation: str) -> str:
    """SHA-256 (hex) of the canonical JSON of ``[subject, relation]``, both in their canonical spelling."""
    return json_digest([canonical(subject), canonical(relation)])


def folded(subject: str) -> str:
    """The start of a subject without its case, by which similar subjects are found.

    It must never change, because verification compares it with what was stored. Unicode promises that the folding of
    a character stays what it was once the character exists, so only those that exist in Unicode 3.2, of which every
    Python carries the tables, are folded.
    """
    start = subject[:FOLDED_CHARACTERS]
    if start.isascii():
        return start.lower()
    known = unicodedata.ucd_3_2_0.category
    return "".join(c if known(c) == "Cn" else c.casefold() for c in start)[:FOLDED_CHARACTERS]
