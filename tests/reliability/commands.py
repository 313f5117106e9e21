"""Every command that writes to a ledger, for the tests that interrupt them. A further command is one more line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ledger import Ledger
from ledger.bundles.import_bundle import import_bundle
from ledger.bundles.write import plan_bundle, write_bundle
from ledger.database.places import DATABASE
from ledger.database.schema import Entries, Scores, Signatures
from ledger.upkeep.gc import collect
from ledger.upkeep.signing import add_signatures, load_key, new_key, sign
from seqedit.errors import InputError
from seqedit.support.digests import tensors_digest
from tests.ledger.helpers import MODEL, TIME, build_adapter, build_base


@dataclass(frozen=True)
class Command:
    """A writing command.

    Attributes:
        name: What it is called in the output of tests.
        act: Runs it in a directory that `prepare` made; equal content every time, so that outcomes can be compared.
        empty: It needs a directory without a ledger.
    """

    name: str
    act: Callable[[Path], object]
    empty: bool = False


def prepare(directory: Path, *, empty: bool = False) -> None:
    """What commands find: a ledger with two branches and garbage, a key, and a bundle of a longer history."""
    place = directory / "ledger"
    directory.mkdir(exist_ok=True)
    new_key(directory / "key.pem")
    with Ledger.create(place, MODEL, time=TIME) as ledger:
        for seed in range(3):
            ledger.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
        ledger.start_branch("other", "HEAD~1")
        ledger.append(build_adapter(5), branch="other", time=TIME)
        ledger.start_branch("gone", "HEAD~1")
        ledger.append(build_adapter(6), branch="gone", time=TIME, scores={"counterfact": {"ES": 1}})
        ledger.delete_branch("gone")
    copy = directory / "longer"
    with Ledger.create(copy, MODEL, time=TIME) as ledger:
        for seed in range(3):
            ledger.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
        ledger.append(build_adapter(8), time=TIME, scores={"counterfact": {"ES": 2}})
        write_bundle(ledger, plan_bundle(ledger), directory / "bundle")
    _remove(copy)
    if empty:
        _remove(place)


def _remove(path: Path) -> None:
    for item in sorted(path.rglob("*"), reverse=True):
        item.rmdir() if item.is_dir() else item.unlink()
    path.rmdir()


def _on(act: Callable[[Ledger], object]) -> Callable[[Path], object]:
    def run(directory: Path) -> None:
        with Ledger.open(directory / "ledger") as ledger:
            act(ledger)

    return run


def _sign(directory: Path) -> None:
    with Ledger.open(directory / "ledger") as ledger:
        signature = sign(ledger.head(), load_key(directory / "key.pem"), TIME)
        with ledger.database.write() as connection:
            add_signatures(connection, [signature])


COMMANDS = (
    Command("create", lambda d: Ledger.create(d / "ledger", MODEL, time=TIME).close(), empty=True),
    Command("append", _on(lambda x: x.append(build_adapter(9), time=TIME, scores={"counterfact": {"ES": 1}}))),
    Command("revert", _on(lambda x: x.revert("HEAD~1", time=TIME))),
    Command("swap", _on(lambda x: x.append(build_adapter(9), operation="swap", targets=["HEAD~1"], time=TIME))),
    Command(
        "merge", _on(lambda x: x.append(build_adapter(9), operation="merge", targets=["HEAD~1", "HEAD"], time=TIME))
    ),
    Command("start_branch", _on(lambda x: x.start_branch("new", "HEAD~1"))),
    Command("switch", _on(lambda x: x.switch("other"))),
    Command("delete_branch", _on(lambda x: x.delete_branch("other"))),
    Command("reset", _on(lambda x: x.reset("HEAD~1"))),
    Command("undo", _on(lambda x: x.undo())),
    Command("add_scores", _on(lambda x: x.add_scores("HEAD", "counterfact", {"ES": 3, "PS": 4}))),
    Command("sign", _sign),
    Command("gc", _on(lambda x: collect(x.database, x.store, keep_days=None, grace=0))),
    Command("import", lambda d: import_bundle(d / "ledger", d / "bundle")),
    Command("import as a new ledger", lambda d: import_bundle(d / "ledger", d / "bundle"), empty=True),
)


def observe(directory: Path, *, weights: bool = True) -> dict[str, Any] | None:
    """All that a ledger says; None where there is none. Weights are those of all branches."""
    if not (directory / "ledger" / DATABASE).exists():
        return None
    try:
        ledger = Ledger.open(directory / "ledger")
    except InputError:  # a database without tables: a creation that was killed, to be repeated
        return None
    with ledger:
        with ledger.database.read() as connection:
            entries = sorted(connection.execute(select(Entries.id)).scalars())
            scores = connection.execute(select(Scores.entry, Scores.kind, Scores.key, Scores.value)).all()
            signatures = connection.execute(select(Signatures.entry, Signatures.key)).all()
        names = ledger.branches() if weights else ()
        composed = {name: tensors_digest(ledger.compose(build_base(), name)) for name in names}
        return {
            "branch": ledger.branch(),
            "branches": ledger.branches(),
            "entries": entries,
            "scores": sorted(map(str, scores)),
            "signatures": sorted(map(str, signatures)),
            "weights": composed,
        }


def damage(directory: Path) -> list[str]:
    """Problems of the ledger that are more than notices."""
    with Ledger.open(directory / "ledger") as ledger:
        return [str(problem) for problem in ledger.verify() if problem.damage]
