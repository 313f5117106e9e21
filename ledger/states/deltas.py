"""What composing needs of the stored adapters, read ahead of it: the deltas, and no keys, target values or cards.

A file is used only where its SHA-256 is the one that was recorded when the adapter was appended, which costs less
than the digest of the adapter's whole content and finds a damaged file just as well. The bytes that were hashed are
the ones that are used; they are not read a second time.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from sqlalchemy import Connection, select

from ledger.database.schema import Objects
from ledger.objects.manifest import FileInfo
from ledger.objects.objects import ObjectStore
from seqedit.adapters.file_names import FORMATS, SIDECAR, WEIGHTS
from seqedit.adapters.sidecar import load_json
from seqedit.errors import EnvironmentFailure, SeqeditError

if TYPE_CHECKING:
    from seqedit.adapters.composition import HasDeltas
    from seqedit.adapters.delta import Delta

FILES = (SIDECAR, WEIGHTS)
READERS = 4
"""Threads that read at the same time; a remote store's latency is waited for that many times at once."""
AHEAD_BYTES = 64 << 20
"""How much may be read before it is asked for, beyond one adapter per thread."""
_CHUNK = 500

Recorded = Mapping[str, Mapping[str, FileInfo]]


@dataclass(frozen=True)
class StoredDeltas:
    """The deltas of a stored adapter.

    Attributes:
        digest: The adapter's digest.
        deltas: Module name -> weight delta.
    """

    digest: str
    deltas: Mapping[str, Delta]


def load_recorded(connection: Connection, digests: Iterable[str]) -> dict[str, dict[str, FileInfo]]:
    """What the database says about the files that composing reads: digest -> file name -> SHA-256 and size."""
    wanted = list(dict.fromkeys(digests))
    found: dict[str, dict[str, FileInfo]] = {digest: {} for digest in wanted}
    for start in range(0, len(wanted), _CHUNK):
        query = select(Objects.digest, Objects.file, Objects.sha256, Objects.size).where(
            Objects.digest.in_(wanted[start : start + _CHUNK]), Objects.file.in_(FILES)
        )
        for digest, file, sha256, size in connection.execute(query).all():
            found[digest][file] = FileInfo(sha256, size)
    return found


def read_ahead(
    store: ObjectStore,
    digests: Sequence[str],
    recorded: Recorded,
    otherwise: Callable[[str], HasDeltas],
    *,
    whole: bool = False,
) -> Iterator[HasDeltas]:
    """The deltas of some adapters, in their order, while the next ones are being read.

    Args:
        store: The objects.
        digests: Adapter digests.
        recorded: What `load_recorded` gave for them.
        otherwise: Loads an adapter whose files are not what was recorded; it checks the whole content, and raises
            where that is not the adapter's.
        whole: Load every adapter so, and do not believe what was recorded, which no signature covers.
    """
    waiting: deque[tuple[str, Future[HasDeltas | None], int]] = deque()
    ahead, position = 0, 0
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="deltas")
    try:
        while waiting or position < len(digests):
            while position < len(digests) and (len(waiting) < READERS or ahead < AHEAD_BYTES):
                digest = digests[position]
                size = sum(info.size for info in recorded[digest].values())
                future: Future[HasDeltas | None]
                if whole:
                    future = pool.submit(otherwise, digest)
                else:
                    future = pool.submit(read_deltas, store, digest, recorded[digest])
                waiting.append((digest, future, size))
                ahead, position = ahead + size, position + 1
            digest, future, size = waiting.popleft()
            ahead -= size
            yield future.result() or otherwise(digest)
    finally:
        pool.shutdown(cancel_futures=True)


def read_deltas(store: ObjectStore, digest: str, recorded: Mapping[str, FileInfo]) -> StoredDeltas | None:
    """The deltas of one adapter, or None where its files are missing or are not what was recorded."""
    from safetensors.torch import load

    from seqedit.adapters.files import deltas_from_lora

    try:
        sidecar, weights = read_files(store, digest, recorded)
        described = load_json(sidecar)
        if described["format"] not in FORMATS:
            return None
        return StoredDeltas(digest, deltas_from_lora(load(weights), described["modules"]))
    except EnvironmentFailure:
        raise  # the store cannot be reached, which says nothing about the files
    except (SeqeditError, SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None  # the full check says what is wrong


def read_files(store: ObjectStore, digest: str, recorded: Mapping[str, FileInfo]) -> tuple[bytes, bytes]:
    """Sidecar and weights of a stored adapter, as they were recorded.

    Raises:
        KeyError: nothing was recorded of them.
        ValueError: they are not what was recorded.
        EnvironmentFailure: the store cannot be reached.
    """
    sidecar, weights = (_read(store, f"{store.path(digest)}/{name}", recorded[name]) for name in FILES)
    return sidecar, weights


def _read(store: ObjectStore, path: str, recorded: FileInfo) -> bytes:
    with store.open(path) as stream:
        # One byte more than there must be, so that a longer file is noticed and a huge one is not read.
        data = stream.read(recorded.size + 1)
    if hashlib.sha256(data).hexdigest() != recorded.sha256:
        raise ValueError(f"{path} is not what was recorded")
    return data
