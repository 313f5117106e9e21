"""What signers vouch for of a bundle, asked before anything of it is written."""

from __future__ import annotations

from collections.abc import Collection

from ledger.bundles.read import Bundle
from ledger.database import rows
from ledger.database.database import Database
from ledger.upkeep.signers import ancestors
from ledger.upkeep.vouching import known_signatures, trusted
from seqedit.errors import CheckFailed


def check_bundle(bundle: Bundle, signers: Collection[str], database: Database | None = None) -> None:
    """Refuse a bundle whose newest entry none of the signers signed: all others are its ancestors.

    Args:
        bundle: A bundle that was verified.
        signers: Public keys.
        database: That of the ledger it is for, which may have a signature that the bundle lacks.

    Raises:
        CheckFailed: nobody vouches for it.
        InputError: the package that checks signatures is missing.
    """
    tip = bundle.manifest.tip
    signatures = bundle.signatures(tip)
    if database is not None:
        with database.read() as connection:
            signatures = [*signatures, *known_signatures(connection, [tip])]
    if tip in trusted(signatures, signers):
        return
    strangers = sorted({signature.key[:12] for signature in signatures if signature.key not in signers})
    said = f"it is signed by {', '.join(strangers)} only" if strangers else "it is not signed"
    raise CheckFailed(
        f"none of the {len(signers)} signers vouches for the bundle's newest entry {tip[:12]}: {said}; nothing was "
        "imported. Ask for one that was signed with `seqedit sign` before it was exported"
    )


def check_not_older(bundle: Bundle, signers: Collection[str], database: Database) -> None:
    """Refuse a state that an entry of the ledger, signed by one of the signers, is newer than.

    An old state is signed as well as a new one: who serves it again takes back what came after it.

    Args:
        bundle: A bundle that was verified.
        signers: Public keys.
        database: That of the ledger.

    Raises:
        CheckFailed: names the newer entry.
    """
    tip = bundle.manifest.tip
    if bundle.manifest.kind == "entry":
        return
    with database.read() as connection:
        nodes = rows.load_nodes(connection)
        if tip not in nodes:
            return  # nothing that the ledger has can descend from it
        signed = trusted(known_signatures(connection, nodes), signers)
    newer = [i for i in signed if i != tip and tip in ancestors(nodes, [i])]
    if newer:
        newest = max(newer, key=lambda identifier: (nodes[identifier].generation, identifier))
        raise CheckFailed(
            f"the bundle's newest entry {tip[:12]} is older than the signed entry {newest[:12]} that the ledger has; "
            "nothing was imported. If the older state is what you want, ask with --allow-older"
        )
