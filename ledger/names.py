"""The only names that may become paths: digests and plain file names."""

from __future__ import annotations

import re

from seqedit.errors import InputError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def is_digest(text: object) -> bool:
    """Whether a value is a SHA-256 in lower-case hex."""
    # fullmatch, because $ also matches before a trailing newline.
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def check_digest(text: object) -> str:
    """A digest, unchanged.

    Raises:
        InputError: it is not 64 lower-case hex digits, so it must not become part of a path.
    """
    if not is_digest(text):
        raise InputError(f"{text!r} is not a digest (64 lower-case hex digits)")
    return str(text)


def is_file_name(text: object) -> bool:
    """Whether a value is a plain file name: ASCII letters, digits, ``.``, ``_``, ``-``, no leading dot."""
    return isinstance(text, str) and _FILE.fullmatch(text) is not None


def check_file_name(text: object) -> str:
    """A file name, unchanged.

    Raises:
        InputError: it is not plain, so it could name something outside its directory.
    """
    if not is_file_name(text):
        raise InputError(f"{text!r} is not a plain file name")
    return str(text)
