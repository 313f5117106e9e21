"""When two ways of writing a text are the same: the identity of facts, in batches and in ledgers alike.

Two texts are one where no reader could tell them apart: canonically equivalent Unicode (NFC and NFD of an accented
letter, Hangul by syllable or by letter), and any white space for a single space, none of it at the ends. Everything
else tells facts apart: case (``apple`` and ``Apple``), compatibility forms (a ligature, full-width letters,
superscripts), characters of no width, and look-alikes of other scripts. The texts themselves are kept, tokenized and
shown as written.
"""

from __future__ import annotations

import re
import unicodedata

# Listed, because what counts as white space has changed between versions of Unicode.
_SPACE = re.compile(r"[\t\n\v\f\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def canonical(text: str) -> str:
    """The one spelling of a text by which facts are told apart.

    It must never change, because ledgers hold digests of it. Unicode promises that the composition of a character
    stays what it was once the character exists, so the tables of Unicode 3.2, which every Python carries, are used.
    """
    spaced = _SPACE.sub(" ", text).strip(" ")
    return spaced if spaced.isascii() else unicodedata.ucd_3_2_0.normalize("NFC", spaced)
