"""Signatures of entries: who vouches for a history.

Ids chain entries together, so an accident anywhere below a known id is found. Someone who rewrites database and
objects together can compute new ids; that only a signature by a key they do not have tells apart. An entry's id covers
its content, its parents' ids and its adapter's digest, so a signed entry vouches for everything before it.

What is signed is the text ``seqedit entry 1 <id>`` with ed25519. Needs the package ``cryptography``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, insert, select

from ledger.database.schema import Signatures
from ledger.errors import failures
from ledger.history.entries import utc_now
from ledger.names import check_digest
from seqedit.errors import EnvironmentFailure, InputError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ADVICE = 'signatures need the package cryptography; install it with: pip install "seqedit[sign]"'
_DOMAIN = "seqedit entry 1 "  # so that a signature made for anything else is none of an entry
_KEY = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_CHUNK = 500


@dataclass(frozen=True, order=True)
class Signature:
    """A signature as it is stored; whether it holds is another question.

    Attributes:
        entry: Id of the entry.
        key: Public key, 64 hex digits.
        signature: 128 hex digits.
        time: When it was made, as the signer says; not part of what is signed.
    """

    entry: str
    key: str
    signature: str
    time: str

    def __post_init__(self) -> None:
        check_digest(self.entry)
        for name, pattern in (("key", _KEY), ("signature", _SIGNATURE)):
            value = getattr(self, name)
            if not isinstance(value, str) or not pattern.fullmatch(value):
                raise InputError(f"signature of entry {self.entry[:12]}: its {name} is malformed ({str(value)[:40]!r})")
        if not isinstance(self.time, str) or not 0 < len(self.time) <= 20 or not self.time.isprintable():
            raise InputError(f"signature of entry {self.entry[:12]}: its time is malformed")

    def holds(self) -> bool:
        """Whether the key signed the entry."""
        with _library():
            from cryptography.exceptions import InvalidSignature
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.key))
            key.verify(bytes.fromhex(self.signature), _message(self.entry))
        except (InvalidSignature, ValueError):
            return False
        return True


def check_new_key(path: str | Path) -> None:
    """Refuse what `new_key` would refuse, and make no key.

    Raises:
        InputError: the file exists, or the package is missing.
        EnvironmentFailure: there is no folder to write it in.
    """
    with _library():
        import cryptography  # noqa: F401
    if os.path.lexists(path):
        raise InputError(f"{path} exists; a key is never overwritten")
    if not Path(path).absolute().parent.is_dir():
        raise EnvironmentFailure(f"{path}: there is no folder {Path(path).absolute().parent}")


def new_key(path: str | Path) -> str:
    """Make a private key file that only its owner can read.

    Args:
        path: The file, which must not be there yet.

    Returns:
        The public key, 64 hex digits.

    Raises:
        InputError: the file exists, or the package is missing.
        EnvironmentFailure: it cannot be written.
    """
    with _library():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with failures(str(path)):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise InputError(f"{path} exists; a key is never overwritten") from error
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    return public_key(key)


def load_key(path: str | Path) -> Ed25519PrivateKey:
    """Read an ed25519 private key: PEM as `new_key` writes it, or OpenSSH's format, both without a passphrase.

    Raises:
        InputError: there is no such file, or it holds no such key.
    """
    with _library():
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"key file {path}: {error.strerror}; make one with `seqedit sign --new-key FILE`") from error
    load = load_ssh_private_key if data.startswith(b"-----BEGIN OPENSSH") else load_pem_private_key
    try:
        key = load(data, None)
    except TypeError as error:
        raise InputError(f"key file {path} is protected by a passphrase; give one without") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"key file {path} holds no private key that can be read ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"key file {path} holds another kind of key; entries are signed with ed25519")
    return key


def public_key(key: Ed25519PrivateKey) -> str:
    """The public half of a key, 64 hex digits."""
    return key.public_key().public_bytes_raw().hex()


def sign(entry: str, key: Ed25519PrivateKey, time: str | None = None) -> Signature:
    """Sign an entry's id."""
    return Signature(entry, public_key(key), key.sign(_message(check_digest(entry))).hex(), time or utc_now())


def add_signatures(connection: Connection, signatures: Iterable[Signature]) -> int:
    """Store signatures; those that are there already stay as they are.

    Whether they hold is not asked here: `ledger.upkeep.signers.check_signers` asks it of every signature each time.

    Args:
        connection: An open writing transaction.
        signatures: Of entries that the ledger has.

    Returns:
        How many were new.
    """
    unique = {(signature.entry, signature.key): signature for signature in signatures}
    known = {(found.entry, found.key) for found in signatures_of(connection, {entry for entry, _ in unique})}
    new = [signature for place, signature in sorted(unique.items()) if place not in known]
    if new:
        connection.execute(insert(Signatures), [vars(signature) for signature in new])
    return len(new)


def signatures_of(connection: Connection, ids: Iterable[str]) -> list[Signature]:
    """The stored signatures of some entries, by entry and key.

    Raises:
        InputError: one is malformed.
    """
    return [Signature(**row) for row in stored(connection, ids)]


def stored(connection: Connection, ids: Iterable[str] | None = None) -> Iterator[dict[str, str]]:
    """Rows of signatures as they are, of some entries or of all, by entry and key."""
    columns = (Signatures.entry, Signatures.key, Signatures.signature, Signatures.time)
    query = select(*columns).order_by(Signatures.entry, Signatures.key)
    if ids is None:
        yield from (dict(row._mapping) for row in connection.execute(query))
        return
    wanted = sorted(ids)
    for start in range(0, len(wanted), _CHUNK):
        for row in connection.execute(query.where(Signatures.entry.in_(wanted[start : start + _CHUNK]))):
            yield dict(row._mapping)


@contextmanager
def _library() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(ADVICE) from error


def _message(entry: str) -> bytes:
    return f"{_DOMAIN}{entry}".encode()
