"""What is secret in a URL of a database or object store, and texts without it: one place for every message.

Passwords stand before the host, in the query (``?password=``, ``?sslpassword=``), and, where somebody did not escape
them or left the host out, wherever a parser then takes them for. So a URL is read generously: rather is too much
hidden than a password shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

HIDDEN = "***"

_SHOWN = frozenset({
    "host", "hostaddr", "port", "dbname", "sslmode", "sslrootcert", "connect_timeout", "application_name", "options",
    "target_session_attrs", "client_encoding", "keepalives", "keepalives_idle", "channel_binding", "gssencmode",
    "timeout", "mode", "uri", "cache", "immutable", "anon", "region",
})  # fmt: skip
"""Fields of a query that hold no secret; any other might."""
_SHORT = 4
"""Secrets of fewer characters are hidden as words only: within others they would make a message unreadable."""


@dataclass(frozen=True)
class _Read:
    """A place as it is shown, and what is not."""

    shown: str
    secrets: frozenset[str]


def is_url(place: str) -> bool:
    """Whether a place is a URL rather than a directory."""
    return "://" in place


def without_password(place: object) -> str:
    """A place as messages show it: of a URL, who enters with what password or key is left out."""
    return _read(_text(place)).shown


def without_secrets(text: str, *places: object) -> str:
    """A text, such as a driver's error, in which no secret of some places stands any more."""
    for place in places:
        read = _read(_text(place))
        text = _hide(text.replace(_text(place), read.shown), read.secrets)
    return text


def _hide(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        word = re.escape(secret)
        text = re.sub(word if len(secret) >= _SHORT else rf"(?<!\w){word}(?!\w)", HIDDEN, text)
    return text


def _text(place: object) -> str:
    render = getattr(place, "render_as_string", None)  # SQLAlchemy's URL hides passwords, and only those, from str()
    return str(place) if render is None else str(render(hide_password=False))


def _read(place: str) -> _Read:
    scheme, separator, rest = place.partition("://")
    if not separator:
        return _Read(place, frozenset())
    secrets: set[str] = set()
    # To the last @: a password may hold an @ that should have been escaped, and a / or ? too.
    user, at, address = rest.rpartition("@")
    if at and "/" in user and ":" not in user:  # an @ in a path or query; nobody enters
        user, at, address = "", "", rest
    if at:
        name, colon, password = user.partition(":")
        secrets |= _ways_to_write(password if colon else name)
    path, question, query = address.partition("?")
    host, slash, path = path.partition("/")
    left, colon, port = host.rpartition(":")
    if colon and port and not port.isdigit() and not port.endswith("]"):  # a password without its @
        secrets |= _ways_to_write(port)
        host = f"{left}:{HIDDEN}"
    fields = "".join(_field(part, secrets) for part in re.split("([&;])", query))
    shown = f"{scheme}://{HIDDEN + '@' if at else ''}{host}{slash}{_hide(path, secrets)}{question}{fields}"
    return _Read(shown, frozenset(secrets))


def _field(part: str, secrets: set[str]) -> str:
    """One field of a query as it is shown."""
    name, equals, value = part.partition("=")
    if part in ("", "&", ";") or (equals and unquote(name).lower() in _SHOWN):
        return part
    secrets |= _ways_to_write(value if equals else name)
    return f"{name}={HIDDEN}" if equals else HIDDEN


def _ways_to_write(secret: str) -> set[str]:
    """A secret as it stands, decoded, and the pieces that a parser may have made of it."""
    whole = {secret, unquote(secret), unquote_plus(secret)}
    pieces = {piece for text in whole for piece in re.split("[@/?#:&;]", text)}
    return {text.strip() for text in whole | pieces if text.strip() and text.strip() != HIDDEN}
