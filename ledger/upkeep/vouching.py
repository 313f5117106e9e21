"""Signers that a ledger is asked to hold to: kept in it as a reminder, and asked of a state before it is used.

The keys kept in the ledger stand in its database, so whoever can write that can change them. They are there so that
nobody forgets to ask; where it matters, a signers file from elsewhere is given, which then counts instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from sqlalchemy import Connection, delete, insert, select

from ledger.database import rows
from ledger.database.schema import Meta, Signatures
from ledger.upkeep.signers import ancestors
from ledger.upkeep.signing import Signature, stored
from ledger.upkeep.verify import check_entries
from seqedit.adapters.base import BaseModel
from seqedit.errors import CheckFailed, InputError
from seqedit.support.digests import canonical_json

_ROW = "signers"
_KEY = re.compile(r"[0-9a-f]{64}")


def kept_signers(connection: Connection) -> dict[str, str] | None:
    """The public keys that the ledger keeps (key -> name), or None.

    Raises:
        CheckFailed: the row is malformed; nothing is then trusted instead.
    """
    text = connection.execute(select(Meta.value).where(Meta.key == _ROW)).scalar_one_or_none()
    if text is None:
        return None
    try:
        found = json.loads(text)
        good = isinstance(found, dict) and bool(found) and all(isinstance(name, str) for name in found.values())
    except (ValueError, RecursionError):
        good = False
    if not good or not all(_KEY.fullmatch(key) for key in found):
        raise CheckFailed("the signers that the ledger keeps are malformed; set them anew with `seqedit signers --set`")
    return dict(found)


def keep_signers(connection: Connection, signers: Mapping[str, str] | None) -> None:
    """Keep public keys in the ledger, or none any more.

    Raises:
        InputError: a key is none, or there is none.
    """
    if signers is not None and (not signers or not all(_KEY.fullmatch(key) for key in signers)):
        raise InputError("the signers to keep are public keys of 64 hex digits, at least one")
    connection.execute(delete(Meta).where(Meta.key == _ROW))
    if signers is not None:
        connection.execute(insert(Meta), [{"key": _ROW, "value": canonical_json(dict(signers))}])


def is_signed(connection: Connection) -> bool:
    """Whether anybody signed an entry, or signers are kept: then states are composed from checked adapters only."""
    if connection.execute(select(Meta.key).where(Meta.key == _ROW)).first() is not None:
        return True
    return connection.execute(select(Signatures.entry).limit(1)).first() is not None


def known_signatures(connection: Connection, ids: Iterable[str]) -> list[Signature]:
    """The stored signatures of some entries; malformed ones, which verification names, are left out."""
    found = []
    for row in stored(connection, ids):
        with suppress(InputError):
            found.append(Signature(**row))
    return found


def trusted(signatures: Iterable[Signature], signers: Collection[str]) -> set[str]:
    """Entries that one of the signers signed.

    Raises:
        InputError: the package that checks signatures is missing.
    """
    return {one.entry for one in signatures if one.key in signers and one.holds()}


def check_state(
    connection: Connection,
    identifier: str,
    base_model: BaseModel,
    signers: Collection[str] | None,
    nodes: Mapping[str, rows.EntryNode] | None = None,
) -> None:
    """Refuse a state whose rows do not say what its entries say, or that none of the signers vouches for.

    Args:
        connection: An open transaction.
        identifier: Id of the entry whose state it is.
        base_model: The ledger's.
        signers: Public keys; None asks for no signature.
        nodes: All entries by id, where they have been read.

    Raises:
        CheckFailed: names the entry.
    """
    nodes = rows.load_nodes(connection) if nodes is None else nodes
    before = ancestors(nodes, [identifier])
    missing = {identifier, *(parent for i in before for parent in nodes[i].parents)} - before
    if missing:
        raise CheckFailed(f"entry {min(missing)[:12]} in the history of {identifier[:12]} is missing; run verify")
    own = {i: nodes[i] for i in nodes if i in before}
    for problem in check_entries(connection, own, base_model, "the database"):
        raise CheckFailed(f"{problem.path}: {problem.detail}; run verify")
    if signers is None:
        return
    signed = trusted(known_signatures(connection, nodes), signers)
    if identifier not in ancestors(nodes, signed):
        raise CheckFailed(
            f"none of the {len(signers)} signers vouches for entry {identifier[:12]}: they signed neither it nor an "
            "entry after it; sign it with `seqedit sign`, or ask for another state"
        )
    # What is after it must be honest too: its content is what makes it an ancestor.
    later = {i: nodes[i] for i in nodes if i in ancestors(nodes, signed) and i not in before}
    for problem in check_entries(connection, later, base_model, "the database"):
        raise CheckFailed(f"{problem.path}: {problem.detail}; run verify")
