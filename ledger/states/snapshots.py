"""Snapshots: sums of deltas kept beside the objects, so that a checkout need not read every adapter. Never truth.

A snapshot holds the double-precision sums after a multiple of `GROUP` active adapters. Its name is a digest of all
that these sums are a function of: the arithmetic and the ordered adapters. What lies in the store under that name is
used only where the database has recorded its SHA-256, so a file that is damaged, cut off or out of date is as good as
none: the state is then composed from the adapters, with the same result to the bit. Whoever can write the database can
record a forged one, and no signature covers it: states of a signed ledger start from nothing but the snapshots that
this process has written itself, and `ledger.states.proof` computes all of them again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from sqlalchemy import Connection, delete, insert, select
from torch import Tensor

from ledger.database.database import Database
from ledger.database.schema import Meta
from ledger.database.store_users import count_users
from ledger.names import is_digest
from ledger.objects.manifest import hash_stream
from ledger.objects.objects import SNAPSHOTS, ObjectStore
from ledger.problems import Code, Problem
from seqedit.adapters.composition import GROUP, MAX_RANK, Composition
from seqedit.errors import EnvironmentFailure, InputError
from seqedit.support.digests import canonical_json

FORMAT = 1
_ROW = "snapshot:"  # rows of the meta table: there is no table to migrate for what may be deleted at any time
SUFFIX = ".safetensors"
_CHUNK = 500

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SnapshotPolicy:
    """When snapshots are written, and how many are kept.

    Attributes:
        groups: A checkout that had to compose at least so many groups of `GROUP` adapters writes one.
        keep: How many a ledger keeps at most; the oldest goes first.
        max_bytes: How large all of them together may be.
    """

    groups: int = 4
    keep: int = 8
    max_bytes: int = 4 << 30

    def __post_init__(self) -> None:
        if self.groups < 1 or self.keep < 0 or self.max_bytes < 0:
            raise InputError("a snapshot policy needs groups >= 1, keep >= 0 and max_bytes >= 0")


@dataclass(frozen=True)
class Record:
    """What the database says about a snapshot."""

    sha256: str
    size: int
    devices: Mapping[str, str]  # module name -> what computed its sum
    written: float
    entry: str | None = None  # of the state it was made for, by which verification finds its adapters
    count: int | None = None
    adapters: str | None = None  # `adapters_digest` of them

    @classmethod
    def read(cls, text: str) -> Record | None:
        try:
            record = cls(**json.loads(text))
            return record if is_digest(record.sha256) and record.size >= 0 and record.written >= 0 else None
        except (ValueError, TypeError, RecursionError):
            return None


class Snapshots:
    """The snapshots of one ledger.

    Args:
        database: The ledger's database.
        store: Its object store.
        policy: When they are written.
    """

    def __init__(self, database: Database, store: ObjectStore, policy: SnapshotPolicy) -> None:
        self.database, self.store, self.policy = database, store, policy
        self._own: dict[str, str] = {}  # name -> SHA-256 of what this process wrote

    def resume(
        self, base: Mapping[str, Tensor], digests: Sequence[str], *, own_only: bool = False
    ) -> tuple[Composition, int | None]:
        """A composition that already holds as many of a state's first adapters as a sound snapshot has.

        Args:
            base: Module name -> weight of the unedited model.
            digests: All active adapters of the state, in composing order.
            own_only: Trust only what this process wrote.

        Returns:
            The composition, and after how many adapters its sums should be handed to `write`; None for never.
        """
        names = keys(digests)
        with self.database.read() as connection:
            records = records_of(connection, names)
        there = self.store.children(SNAPSHOTS) if records else {}
        composition, unsound = Composition(base), False
        for position in reversed(range(len(names))):
            record = records.get(names[position])
            if record is None:
                continue
            if own_only and self._own.get(names[position]) != record.sha256:
                continue
            known = there.get(names[position] + SUFFIX) == ("file", record.size)
            if record.adapters is not None:
                known = known and record.adapters == adapters_digest(digests[: (position + 1) * GROUP])
            sums = self._read(names[position], record, base) if known else None
            if sums is not None:
                composition = Composition(base, (position + 1) * GROUP, sums)
                break
            unsound = True
        last = len(names) * GROUP
        far = last - composition.count >= self.policy.groups * GROUP
        wanted = (far or unsound) and last > composition.count and self.policy.keep > 0 and self.database.writable
        return composition, last if wanted else None

    def _read(self, name: str, record: Record, base: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        sums = load_sums(self.store, name, record)
        if sums is None:
            _LOG.warning("snapshot %s is not what was recorded; its sums are computed again", name[:12])
            return None
        if any(name not in base for name in sums):
            return None  # the adapters themselves will be refused, by name
        devices = {name: _device(base[name]) for name in sums}
        return sums if devices == record.devices else None

    def write(self, digests: Sequence[str], sums: Mapping[str, Tensor], entry: str | None = None) -> None:
        """Keep the sums of some adapters, and drop the oldest snapshots beyond the limits.

        Where nothing can be written, nothing is: the state that was asked for is there, and a ledger that can only be
        read is no error.

        Args:
            digests: Exactly the adapters that were summed; a multiple of `GROUP`.
            sums: `Composition.snapshot`.
            entry: Id of the entry whose state begins with these adapters.
        """
        size = sum(total.numel() * total.element_size() for total in sums.values())
        if size > self.policy.max_bytes:
            return
        name = keys(digests)[-1]
        data = save({module: total.cpu().contiguous() for module, total in sums.items()})
        devices = {module: _device(total) for module, total in sums.items()}
        record = Record(
            hashlib.sha256(data).hexdigest(), len(data), devices, time.time(),
            entry=entry, count=len(digests), adapters=adapters_digest(digests),
        )  # fmt: skip
        try:
            self.store.write(f"{SNAPSHOTS}/{name}{SUFFIX}", data)
            with self.database.write() as connection:
                before = set(records_of(connection))
                kept = self._record(connection, name, record)
            self._own[name] = record.sha256
            # A writer that was killed between file and row has left a file that no row names. In a store of several
            # ledgers it may be another's, and stays for gc.
            there = {file.removesuffix(SUFFIX) for file in self.store.children(SNAPSHOTS) if is_snapshot(file)}
            self._remove((before if count_users(self.store) > 1 else there) - kept)
        except EnvironmentFailure:
            return

    def _record(self, connection: Connection, name: str, record: Record) -> set[str]:
        """Record a snapshot and forget those beyond the limits; returns which are kept."""
        records = {**records_of(connection), name: record}
        kept: dict[str, Record] = {}
        size = 0
        for candidate in sorted(records, key=lambda one: (one != name, -records[one].written, one)):
            size += records[candidate].size
            if len(kept) < self.policy.keep and size <= self.policy.max_bytes:
                kept[candidate] = records[candidate]
        connection.execute(delete(Meta).where(Meta.key.startswith(_ROW, autoescape=True)))
        if kept:
            values = [
                {"key": _ROW + one, "value": canonical_json(vars(record))} for one, record in sorted(kept.items())
            ]
            connection.execute(insert(Meta), values)
        return set(kept)

    def _remove(self, names: set[str]) -> None:
        # Another ledger of the same store may have recorded the file too; its row then leads nowhere, which is no harm.
        for file in self.store.children(SNAPSHOTS):
            if file.removesuffix(SUFFIX) in names:
                self.store.remove(f"{SNAPSHOTS}/{file}")

    def clear(self) -> None:
        """Remove all snapshots, such as when adapters that they may hold are removed for good.

        Raises:
            EnvironmentFailure: disk, database or network failed.
        """
        with self.database.write() as connection:
            connection.execute(delete(Meta).where(Meta.key.startswith(_ROW, autoescape=True)))
        # Those of other ledgers of the same store, and of killed writers, too: they may hold the same adapters.
        self._remove({file.removesuffix(SUFFIX) for file in self.store.children(SNAPSHOTS) if is_snapshot(file)})


def is_snapshot(file: str) -> bool:
    """Whether a file has a name that a snapshot can have."""
    return file.endswith(SUFFIX) and is_digest(file.removesuffix(SUFFIX))


def keys(digests: Sequence[str]) -> list[str]:
    """Names of the snapshots that some adapters could have: one for each full group of them.

    A name is a SHA-256 over the format, what decides how matrix products are rounded, and the adapters' digests in
    their order (each of which covers the base model's fingerprint and the deltas by module).
    """
    arithmetic = {
        "format": FORMAT,
        "group": GROUP,
        "max_rank": MAX_RANK,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }
    running = hashlib.sha256(canonical_json(arithmetic).encode())
    names = []
    for position, digest in enumerate(digests, 1):
        running.update(bytes.fromhex(digest))
        if position % GROUP == 0:
            names.append(running.hexdigest())
    return names


def adapters_digest(digests: Sequence[str]) -> str:
    """SHA-256 over adapters in their order, whatever computes their sum."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def load_sums(store: ObjectStore, name: str, record: Record) -> dict[str, Tensor] | None:
    """The sums in a snapshot's file, or None where it is not what was recorded."""
    try:
        with store.open(f"{SNAPSHOTS}/{name}{SUFFIX}") as stream:
            data = stream.read(record.size + 1)
        return load(data) if hashlib.sha256(data).hexdigest() == record.sha256 else None
    except (OSError, EnvironmentFailure, SafetensorError, ValueError):
        return None


def check_snapshots(connection: Connection, store: ObjectStore, *, deep: bool) -> Iterator[Problem]:
    """What is amiss with snapshots; none of it is damage, because a snapshot that is not sound is not used.

    Args:
        connection: An open transaction.
        store: The objects.
        deep: Read and hash them.
    """
    records = records_of(connection)
    for file, (kind, size) in sorted(store.children(SNAPSHOTS).items()):
        where = f"objects/{SNAPSHOTS}/{file}"
        record = records.get(file.removesuffix(SUFFIX)) if file.endswith(SUFFIX) else None
        if record is None:
            named = file.endswith(SUFFIX) and is_digest(file.removesuffix(SUFFIX)) and kind == "file"
            detail = "left behind by an interrupted writer" if named else "no snapshot has this name"
            yield Problem(Code.TEMPORARY_FILE if named else Code.EXTRA_FILE, where, detail)
        elif (kind, size) != ("file", record.size) or (deep and not _sound(store, file, record)):
            yield Problem(Code.DAMAGED_SNAPSHOT, where, "not what was recorded; it is not used, and may be deleted")


def _sound(store: ObjectStore, file: str, record: Record) -> bool:
    try:
        with store.open(f"{SNAPSHOTS}/{file}") as stream:
            return hash_stream(stream).sha256 == record.sha256
    except EnvironmentFailure:
        raise
    except OSError:
        return False


def records_of(connection: Connection, names: Sequence[str] | None = None) -> dict[str, Record]:
    """Recorded snapshots by name: some, or all."""
    if names is None:
        conditions = [Meta.key.startswith(_ROW, autoescape=True)]
    else:
        rows = [_ROW + name for name in names]
        conditions = [Meta.key.in_(rows[start : start + _CHUNK]) for start in range(0, len(rows), _CHUNK)]
    records: dict[str, Record | None] = {}
    for condition in conditions:
        for key, value in connection.execute(select(Meta.key, Meta.value).where(condition)).all():
            records[key.removeprefix(_ROW)] = Record.read(value)
    return {name: record for name, record in records.items() if record is not None}


def _device(tensor: Tensor) -> str:
    return torch.cuda.get_device_name(tensor.device) if tensor.is_cuda else tensor.device.type
