"""Who is trusted to sign, and what of a history nobody trusted vouches for."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from sqlalchemy import Connection, select

from ledger.database import rows
from ledger.database.schema import Refs
from ledger.problems import Code, Problem
from ledger.upkeep.signing import Signature, stored
from seqedit.errors import InputError

_KEY = re.compile(r"[0-9a-f]{64}")
_SSH = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"


def read_signers(path: str | Path) -> dict[str, str]:
    """Public keys that are trusted: key -> name.

    One per line: 64 hex digits, or ``ssh-ed25519 <base64>`` as OpenSSH writes it, each with an optional name behind
    it; empty lines and lines that start with ``#`` are read over.

    Raises:
        InputError: names the line that is none of these, or the file has no key.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"signers file {path} cannot be read: {error}") from error
    signers = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        ssh = words[0] == "ssh-ed25519"
        key = _ssh_key(words[1]) if ssh and len(words) > 1 else words[0].lower()
        if not _KEY.fullmatch(key):
            raise InputError(f"{path}, line {number}: neither 64 hex digits nor ssh-ed25519 and a key")
        signers[key] = " ".join(words[2 if ssh else 1 :]) or key[:12]
    if not signers:
        raise InputError(f"signers file {path} names no key")
    return signers


def check_signers(
    connection: Connection, nodes: Mapping[str, rows.EntryNode], signers: Collection[str]
) -> Iterator[Problem]:
    """What no trusted key vouches for.

    Every entry that a branch leads to must be signed by one of the signers, or be an ancestor of such an entry.

    Args:
        connection: An open transaction.
        nodes: All entries by id.
        signers: Public keys.
    """
    signed: set[str] = set()
    strangers: dict[str, str] = {}
    for row in stored(connection, nodes):
        try:
            signature = Signature(**row)
        except InputError:
            continue  # `check_signatures` names it
        if signature.key not in signers:
            strangers[signature.entry] = signature.key
        elif signature.holds():
            signed.add(signature.entry)
        else:
            where = f"entries/{signature.entry}"
            yield Problem(Code.INVALID_SIGNATURE, where, f"the signature of key {signature.key[:12]} does not hold")
    vouched = ancestors(nodes, signed)
    tips = [str(tip) for tip in connection.execute(select(Refs.entry).where(Refs.entry.is_not(None))).scalars()]
    for identifier in sorted(ancestors(nodes, tips) - vouched):
        if identifier in strangers:
            detail = f"signed by key {strangers[identifier][:12]} only, which is not among the signers"
            yield Problem(Code.UNKNOWN_SIGNER, f"entries/{identifier}", detail)
        else:
            yield Problem(Code.UNSIGNED_ENTRY, f"entries/{identifier}", "no signer vouches for this entry")


def check_signatures(connection: Connection, nodes: Mapping[str, rows.EntryNode]) -> Iterator[Problem]:
    """Stored signatures that cannot be any."""
    for row in stored(connection):
        try:
            signature = Signature(**row)
        except InputError as error:
            yield Problem(Code.INVALID_SIGNATURE, f"entries/{row['entry']}", str(error))
            continue
        if signature.entry not in nodes:
            yield Problem(Code.INVALID_SIGNATURE, f"entries/{signature.entry}", "a signature of a missing entry")


def has_entry(ids: Collection[str], known: str) -> bool:
    """Whether a known entry is among some.

    Args:
        ids: Full ids.
        known: A full id, or at least its first 12 digits: shorter ones can be made to fit.

    Raises:
        InputError: it is neither.
    """
    if not re.fullmatch(r"[0-9a-f]{12,64}", known):
        raise InputError(f"'{known[:70]}' is no id of an entry; give at least its first 12 digits")
    return any(identifier.startswith(known) for identifier in ids)


def ancestors(nodes: Mapping[str, rows.EntryNode], tips: Iterable[str]) -> set[str]:
    """Entries that some lead to through any parent, themselves included; missing ones are left out."""
    found: set[str] = set()
    waiting = list(tips)
    while waiting:
        identifier = waiting.pop()
        if identifier in nodes and identifier not in found:
            found.add(identifier)
            waiting += nodes[identifier].parents
    return found


def _ssh_key(text: str) -> str:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return ""
    return data[len(_SSH) :].hex() if data.startswith(_SSH) else ""
