"""Taking a bundle into a ledger: everything is checked before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from ledger.bundles.read import Bundle
from ledger.bundles.signed import check_bundle, check_not_older
from ledger.database import rows
from ledger.database.places import has_ledger, objects_url
from ledger.database.rows import EntryNode
from ledger.database.schema import Entries
from ledger.database.scores import load_scores, put_scores
from ledger.history import graph
from ledger.history.entries import utc_now
from ledger.ledger import MAIN, Ledger
from ledger.objects.manifest import Manifest
from ledger.queries import branches, tags
from ledger.queries.tags import Tag
from ledger.upkeep.signers import has_entry
from ledger.upkeep.signing import add_signatures
from ledger.url_secrets import without_password
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError, SeqeditError

_log = logging.getLogger(__name__)


class Diverged(SeqeditError):
    """Two histories went different ways, so that neither continues the other; nothing was changed."""

    exit_code = 1


@dataclass(frozen=True)
class Imported:
    """What an import did, or would do.

    Attributes:
        branch: The branch that was extended.
        old: Id of the entry it was at; None where it is new.
        new: Id of the entry it is at; None where one entry is appended in a dry run, as it has no id yet.
        entries: How many entries were added; the root of a new ledger is one of them.
        objects: How many adapters were added.
        created: Whether the ledger was made.
        tags: How many tags were added; one that the ledger has is never moved.
    """

    branch: str
    old: str | None
    new: str | None
    entries: int
    objects: int
    created: bool
    tags: int = 0


def import_bundle(
    place: str | Path,
    path: str | Path,
    *,
    branch: str | None = None,
    objects: str | None = None,
    dry_run: bool = False,
    signers: Collection[str] | None = None,
    at_least: str | None = None,
    allow_older: bool = False,
) -> Imported:
    """Check a bundle and add what a ledger lacks of it.

    A history is added to the branch where that only moves it forward; one entry is appended to the branch like an
    edit. Objects become durable first, then all entries and the branch in one transaction: interrupted anywhere, the
    ledger is the old one or the new one, with at worst objects that nothing names.

    Args:
        place: The ledger; made where there is none.
        path: The bundle.
        branch: Branch to extend, made where there is none; by default HEAD's. In a new ledger HEAD will be on it.
        objects: fsspec URL of the object store; needed for a new ledger at a database URL.
        dry_run: Check everything, and write nothing.
        signers: Public keys, one of which must have signed the bundle's newest entry; by default those that the
            ledger keeps; without any, no signature is asked for.
        at_least: Id, or at least its first 12 digits, of the newest entry that is known: it must be in the bundle.
        allow_older: With signers, also take a state older than a signed one that the ledger has.

    Raises:
        InputError: no bundle, or one of another base model or another root than the ledger's.
        CheckFailed: the bundle is damaged or made up, no signer vouches for it, or it is older than what is known.
        Diverged: the branch has entries that the bundle's history does not continue.
        EnvironmentFailure: disk or database failed.
    """
    if branch is not None:
        branches.check_name(branch)
    with Bundle(path) as bundle:
        nodes = _checked(bundle, at_least)
        if _unfinished(place):
            if signers is not None:
                check_bundle(bundle, signers)
            if dry_run:
                objects_url(place, objects)  # refuses what making the ledger would
                count = len(nodes) + (bundle.manifest.kind == "entry")
                new = bundle.manifest.tip if bundle.manifest.kind == "history" else None
                return Imported(
                    branch or MAIN, None, new, count, len(bundle.manifest.objects()), True, len(bundle.manifest.tags)
                )
            with _create(place, bundle, objects) as ledger:
                return _take(ledger, bundle, nodes, branch, created=True, dry_run=False)
        with Ledger.open(place, objects=objects) as ledger:
            _check_fits(bundle, ledger, without_password(place), signers, allow_older)
            return _take(ledger, bundle, nodes, branch, created=False, dry_run=dry_run)


def take_bundle(
    ledger: Ledger,
    path: str | Path,
    *,
    branch: str | None = None,
    dry_run: bool = False,
    signers: Collection[str] | None = None,
    at_least: str | None = None,
    allow_older: bool = False,
) -> Imported:
    """`import_bundle` for a ledger that is open; arguments and errors are the same."""
    if branch is not None:
        branches.check_name(branch)
    with Bundle(path) as bundle:
        nodes = _checked(bundle, at_least)
        _check_fits(bundle, ledger, "", signers, allow_older)
        return _take(ledger, bundle, nodes, branch, created=False, dry_run=dry_run)


def _checked(bundle: Bundle, at_least: str | None) -> Mapping[str, EntryNode]:
    """The entries of a bundle in which everything is as it says, and which is not older than what is known."""
    nodes = bundle.verify()
    if at_least is not None and not has_entry(nodes, at_least):
        raise CheckFailed(
            f"the bundle's history (at {bundle.manifest.tip[:12]}) does not have entry {at_least[:12]}, which is "
            "known: it is older, or another one; nothing was imported"
        )
    return nodes


def _check_fits(bundle: Bundle, ledger: Ledger, shown: str, signers: Collection[str] | None, allow_older: bool) -> None:
    """Refuse a bundle of another base model, or that the signers who are asked for do not vouch for."""
    found = bundle.manifest.base_model
    if found.fingerprint != ledger.base_model.fingerprint:
        raise InputError(
            f"the bundle belongs to base model '{found.name}' (fingerprint {found.fingerprint[:12]}), the "
            f"{f'ledger {shown}'.rstrip()} to '{ledger.base_model.name}' (fingerprint "
            f"{ledger.base_model.fingerprint[:12]})"
        )
    wanted = ledger.kept_signers() if signers is None else signers
    if wanted is not None:
        check_bundle(bundle, wanted, ledger.database)
        if not allow_older:
            check_not_older(bundle, wanted, ledger.database)


def _unfinished(place: str | Path) -> bool:
    """Whether a place holds no ledger, or one whose creation was killed before it had done anything."""
    return not has_ledger(place)


def _create(place: str | Path, bundle: Bundle, objects: str | None) -> Ledger:
    root = bundle.entry(bundle.manifest.entries[0])
    if bundle.manifest.kind == "entry":
        return Ledger.create(place, root.base_model, objects=objects)
    # With the root's own author, time and message the new ledger's root is the same entry.
    return Ledger.create(
        place, root.base_model, objects=objects, author=root.author, time=root.time, message=root.message
    )


def _take(
    ledger: Ledger, bundle: Bundle, nodes: Mapping[str, EntryNode], branch: str | None, *, created: bool, dry_run: bool
) -> Imported:
    if bundle.manifest.kind == "entry":
        return _append(ledger, bundle, branch, created=created, dry_run=dry_run)
    root = bundle.manifest.entries[0]
    if ledger.root() != root:
        raise InputError(
            f"the bundle's history starts at root {root[:12]}, the ledger's at {ledger.root()[:12]}: both edit the "
            "same base model, but they are two histories. Import into a new ledger, or take single entries over with "
            "`seqedit export ENTRY --entry --format bundle`"
        )
    with ledger.database.read() as connection:
        name, old, new = _movement(connection, nodes, bundle.manifest.tip, branch)
        known = _known(connection, nodes)
        missing = [i for i in nodes if i not in known]
        recorded = rows.load_manifests(connection)
        named, kept = _tags(connection, bundle, name)
    for tag, here in kept.items():
        _log.warning("tag '%s' stays here, at %s; the bundle's is at another entry", tag, here[:12])
    digests = sorted(d for d in bundle.manifest.objects() if d not in recorded or ledger.store.manifest(d) is None)
    result = Imported(name, old, new, len(missing), len(digests), created, len(named))
    if dry_run:
        return result
    manifests = []
    if digests:
        ledger.join_store()
    for digest in digests:
        # Written anew rather than copied: files of the bundle may say more than the digest covers.
        with bundle.adapter(digest) as adapter:
            manifests.append(ledger.store.put(digest, ledger.named(adapter).save_pretrained))
    with ledger.database.write() as connection:
        name, old, new = _movement(connection, nodes, bundle.manifest.tip, branch, lock=True)
        _insert(connection, ledger, bundle, nodes, manifests)
        _move(connection, name, old, new, switch=created)
        named, _ = _tags(connection, bundle, name)
        for one in named:
            tags.put(connection, one)
    return Imported(name, old, new, len(missing) + created, len(digests), created, len(named))


def _tags(connection: Connection, bundle: Bundle, branch: str) -> tuple[list[Tag], dict[str, str]]:
    """The bundle's tags that the ledger lacks, and those that it has elsewhere, or as branches, and keeps."""
    here = {**branches.branches(connection), **{tag.name: tag.entry for tag in tags.tags(connection)}}
    new = [tag for tag in bundle.manifest.tags if tag.name not in here and tag.name != branch]
    kept = {tag.name: here[tag.name] for tag in bundle.manifest.tags if here.get(tag.name, tag.entry) != tag.entry}
    return new, kept


def _movement(
    connection: Connection, nodes: Mapping[str, EntryNode], tip: str, branch: str | None, *, lock: bool = False
) -> tuple[str, str | None, str]:
    """(branch, where it is, where it will be); moves are forward along first parents, which is what a state is."""
    name = rows.head(connection)[0] if branch is None else branch
    old = rows.tip(connection, name, lock=lock)
    if old is None:
        return name, None, tip
    if old in {node.id for node in graph.first_parent_history(nodes, tip)}:
        return name, old, tip
    if tip in {node.id for node in graph.first_parent_history(rows.load_nodes(connection), old)}:
        return name, old, old
    raise Diverged(
        f"branch '{name}' is at {old[:12]}, which the bundle's history (at {tip[:12]}) does not continue; nothing was "
        "imported. Give another branch with --branch"
    )


def _known(connection: Connection, nodes: Mapping[str, EntryNode]) -> set[str]:
    found = connection.execute(select(Entries.id)).scalars()
    return {identifier for identifier in found if identifier in nodes}


def _insert(
    connection: Connection,
    ledger: Ledger,
    bundle: Bundle,
    nodes: Mapping[str, EntryNode],
    manifests: list[Manifest],
) -> None:
    """Entries that are missing with their objects' files, and scores and signatures that are missing."""
    known = _known(connection, nodes)
    for manifest in manifests:
        # An orphan could have been collected since it was put; with the write lock held it no longer can.
        if ledger.store.manifest(manifest.digest) is None:
            raise EnvironmentFailure(f"object {manifest.digest[:12]} vanished while it was imported; try again")
        rows.record_manifest(connection, manifest)
    for identifier, node in nodes.items():
        if identifier not in known:
            rows.insert_entry(connection, bundle.entry(identifier), node.generation)
        scores = bundle.scores(identifier)
        # The ledger's own measurements stay.
        present = load_scores(connection, [identifier])[identifier] if scores and identifier in known else {}
        for kind, values in scores.items():
            if kind not in present:
                put_scores(connection, identifier, kind, values)
        add_signatures(connection, bundle.signatures(identifier))


def _move(connection: Connection, name: str, old: str | None, new: str, *, switch: bool) -> None:
    message = f"import: to {new[:12]}"
    if old is None:
        rows.create_ref(connection, name, new, time=utc_now(), message=message)
    elif old != new:
        rows.move_ref(connection, name, old, new, time=utc_now(), message=message)
    if switch and rows.head(connection)[0] != name:
        branches.switch(connection, name)


def _append(ledger: Ledger, bundle: Bundle, branch: str | None, *, created: bool, dry_run: bool) -> Imported:
    entry = bundle.entry(bundle.manifest.tip)
    assert entry.adapter is not None
    name = branch or ledger.branch()
    old = ledger.branches().get(name)
    if any(active.adapter == entry.adapter for active in ledger.active(old or rows.HEAD)):
        raise InputError(f"adapter {entry.adapter[:12]} is active on branch '{name}' already; nothing to import")
    if dry_run:
        return Imported(name, old, None, 1, 1, created)
    with bundle.adapter(entry.adapter) as adapter:
        if old is None:
            ledger.start_branch(name)
            if created:
                ledger.switch(name)
        made = ledger.append(adapter, message=entry.message, author=entry.author, branch=name, reason=entry.reason)
    return Imported(name, old, made.id, 1 + created, 1, created)
