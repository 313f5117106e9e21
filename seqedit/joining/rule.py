"""What stands between a prompt and its answer: the one rule for editing, scoring, generating and searching.

``space`` puts one space between them, as CounterFact's published evaluation does. ``none`` puts nothing. ``auto``, the
default, puts the space that the text itself would have there: none after white space, after an opening quote or
bracket, after a mark of a chat template, before closing punctuation, and where the script writes none between words.
Of English prompts that end in a word it makes exactly what ``space`` makes.
"""

from __future__ import annotations

import re
import unicodedata

from seqedit.errors import InputError
from seqedit.joining.scripts import unspaced
from seqedit.support.suggestions import did_you_mean

AUTO, SPACE, NONE = "auto", "space", "none"
JOINS = (AUTO, SPACE, NONE)

_MARK = re.compile(r"(?:<[|｜][^<>\n]{1,60}[|｜]>|<[A-Za-z_][\w.:-]{0,40}>|</(?:s|think)>)\Z")
"""A special token written as text, as chat templates end with: <|assistant|>, <start_of_turn>, </think>."""
_CLOSING = re.compile(r"[,.;:!?%)\]}…،؛؟۔।]+(?=\s|\Z)|[、。〉》」』】〕〗〞〟！），．：；？］｝｠｡｣､]")
"""Closing punctuation at the beginning of an answer; ".NET" and "(x" do not begin with any."""
_NO_WIDTH = "\u200b\u2060\ufeff"
"""Zero-width space, which Khmer and Thai put between words, and its kin."""


def check_join(rule: str, what: str = "join") -> str:
    """A rule, or an error that names the known ones."""
    if not isinstance(rule, str) or rule not in JOINS:
        hint = did_you_mean(str(rule), JOINS)
        raise InputError(f"{what} must be {', '.join(JOINS[:-1])} or {JOINS[-1]}, got {str(rule)[:60]!r}{hint}")
    return rule


def joint(prompt: str, target: str, rule: str = AUTO) -> tuple[str, str]:
    """A prompt and what follows it, so that the two together are the whole text.

    Spaces at the end of a prompt go over to what follows: tokenizers keep a space with the word after it.

    Args:
        prompt: The prompt.
        target: The answer; white space around it does not count.
        rule: One of `JOINS`.

    Returns:
        (prompt without spaces at its end, answer with what stands before it).
    """
    head, answer = prompt.rstrip(" "), target.strip()
    if rule == SPACE:
        return head, f" {answer}"
    if rule == NONE:
        return head, prompt[len(head) :] + answer
    return head, between(prompt, answer) + answer


def between(prompt: str, target: str) -> str:
    """What ``auto`` puts between a prompt and its answer: one space or nothing."""
    head, answer = prompt.rstrip(" "), target.strip()
    if not head or not answer or _plain(head[-1], answer[0]):
        return " "
    last, first = head[-1], answer[0]
    if last.isspace() or last in _NO_WIDTH:
        return ""
    if len(head) < len(prompt):  # whoever wrote the space wants it
        return " "
    if _opens(head) or _MARK.search(head) or _CLOSING.match(answer):
        return ""
    if unspaced(last):
        return ""
    before = _last_letter(head)
    if unspaced(before):  # past a closing quote, a colon, ...
        return ""
    # A foreign name at the end of a Chinese sentence; but of an English one a Chinese answer is a word.
    return "" if unspaced(first) and last == before and any(map(unspaced, head)) else " "


def makes_a_difference(prompt: str, target: str) -> bool:
    """Whether ``auto`` and ``space`` make different texts of a prompt and its answer."""
    return between(prompt, target) != " "


def _plain(last: str, first: str) -> bool:
    """Both are letters or digits of the Latin alphabet's first block: nearly every English fact."""
    return last.isascii() and last.isalnum() and first.isascii() and first.isalnum()


def _opens(head: str) -> bool:
    """Whether a text ends in an opening quote or bracket."""
    last, before = head[-1], head[-2:-1]
    if unicodedata.category(last) in ("Ps", "Pi") or last in "¿¡":
        return True
    if last not in "\"'`":
        return False
    if not before or before.isspace() or before in "-–—/=" or unicodedata.category(before) in ("Ps", "Pi"):
        return True
    # A straight quote closes what it opened before; an inch sign and an apostrophe follow a letter or digit.
    return last == '"' and head.count(last) % 2 == 1 and (unspaced(before) or not before.isalnum())


def _last_letter(text: str) -> str:
    """The last letter or digit, or the last character where there is none."""
    return next((c for c in reversed(text) if c.isalnum()), text[-1])
