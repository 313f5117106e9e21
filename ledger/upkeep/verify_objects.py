"""Checking the object store against what the database says it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ledger.database.store_users import registrations
from ledger.history.entries import Entry
from ledger.names import is_digest
from ledger.objects.audit import audit_object
from ledger.objects.manifest import Manifest
from ledger.objects.marker import read_marker
from ledger.objects.objects import LEDGERS, MARKER, TEMPORARY, ObjectStore, is_unfinished_marker
from ledger.problems import Code, Problem
from seqedit.adapters.adapter import Adapter
from seqedit.adapters.files import ALL
from seqedit.errors import CheckFailed, InputError, SeqeditError

EntryLoader = Callable[[Iterable[str]], list[Entry]]


def verify_objects(
    store: ObjectStore,
    manifests: Mapping[str, Manifest],
    users: Mapping[str, Sequence[str]],
    *,
    deep: bool,
    entry_of: EntryLoader,
    signed: bool = False,
) -> list[Problem]:
    """Check every object that is recorded or lies in the store.

    Args:
        store: The objects.
        manifests: Recorded manifests by digest.
        users: Adapter digest -> ids of the entries that add it.
        deep: Read all data, and load every adapter to recompute its digest.
        entry_of: Loads entries.
        signed: Signers were asked for: the base model's name in an object, which no digest covers, must then be one
            that an entry vouches for.
    """
    problems: list[Problem] = []
    for digest in sorted(set(users) - set(manifests)):
        where = f"objects/{store.path(digest)}" if is_digest(digest) else f"objects/{digest!r}"
        detail = f"entry {users[digest][0][:12]} needs it, and its files are not recorded"
        problems.append(Problem(Code.UNRECORDED_OBJECT, where, detail))

    def check(digest: str) -> list[Problem]:
        found = audit_object(store, manifests[digest], deep=deep)
        for name in sorted(set(manifests[digest].files) - set(ALL)):
            # PEFT might read it; nothing of an adapter is in it.
            where = f"objects/{store.path(digest)}/{name}"
            found.append(Problem(Code.EXTRA_FILE, where, "an adapter has no such file, whatever is recorded"))
        if deep and not found:
            found += _content(store, digest, users.get(digest, ()), entry_of, signed)
        return found

    with ThreadPoolExecutor(store.threads if deep else 1) as pool:
        for found in pool.map(check, manifests):
            problems += found
    problems += _unexpected(store, set(manifests))
    return problems


def _content(
    store: ObjectStore, digest: str, users: Sequence[str], entry_of: EntryLoader, signed: bool
) -> Iterator[Problem]:
    """That an object with the right bytes is also the right adapter."""
    where = f"objects/{store.path(digest)}"
    try:
        with store.directory(digest) as directory:
            adapter = Adapter.from_pretrained(directory)
    except InputError as error:
        yield Problem(Code.ADAPTER_DIGEST, where, f"the files are no adapter: {error}")
        return
    if adapter.digest != digest:
        yield Problem(Code.ADAPTER_DIGEST, where, f"its content is that of adapter {adapter.digest[:12]}")
        return
    names: set[str] = set()
    for user in users:
        try:
            entry = entry_of([user])[0]
        except SeqeditError:
            continue  # an entry that cannot be read is reported as such
        names.add(entry.base_model.name)
        same = (
            entry.requests == tuple(adapter.requests)
            and entry.method == dict(adapter.method)
            and entry.base_model.fingerprint == adapter.base_model.fingerprint
        )
        if not same:
            detail = "the entry names other requests, method or base model than its adapter"
            yield Problem(Code.ADAPTER_ENTRY, f"entries/{user}", detail)
    if signed and names and adapter.base_model.name not in names:
        detail = (
            f"it names base model '{adapter.base_model.name[:100]}', which no entry that uses it does; exported as a "
            "bundle and imported into a new ledger it gets the entry's name"
        )
        yield Problem(Code.ADAPTER_ENTRY, where, detail)


def _unexpected(store: ObjectStore, recorded: set[str]) -> Iterator[Problem]:
    """What lies in the store and is not recorded."""
    for path in store.objects():
        shown = f"objects/{path}"
        _, _, name = path.partition("/")
        if name in recorded and path == store.path(name):
            continue
        if not name:
            yield Problem(Code.EXTRA_FILE, shown, "a store holds directories of objects and nothing else")
            continue
        owner = store.owner(path)
        if owner is not None and (not is_digest(name) or path != store.path(owner)):
            yield Problem(Code.RENAMED_OBJECT, shown, f"this is object {owner[:12]}, renamed")
        elif not is_digest(name) or path != store.path(name):
            yield Problem(Code.EXTRA_FILE, shown, "no object has this name")
        elif owner is None:
            yield Problem(Code.TEMPORARY_FILE, shown, "an object that was never completed")
        else:
            why = "no entry of this ledger uses this object: its writer was interrupted, or another shares the store"
            yield Problem(Code.ORPHAN_OBJECT, shown, why)
    for name in sorted(store.children("")):
        if is_unfinished_marker(name):
            yield Problem(Code.TEMPORARY_FILE, f"objects/{name}", "left behind by an interrupted writer")
    try:
        read_marker(store)
    except CheckFailed as error:
        yield Problem(Code.DAMAGED_STORE, f"objects/{MARKER}", str(error))
    for name, record in registrations(store).items():
        if record is None:
            yield Problem(Code.DAMAGED_STORE, f"objects/{LEDGERS}/{name}", "no registration of a ledger; see gc")
    for name in sorted(store.children(TEMPORARY)):
        yield Problem(Code.TEMPORARY_FILE, f"objects/{TEMPORARY}/{name}", "left behind by an interrupted writer")
