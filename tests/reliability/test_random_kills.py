"""Row 28: whole commands on a model, killed at random; what was left is sound and is carried on to the same state."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger import Ledger
from ledger.database.places import has_ledger
from seqedit.adapters.adapter import BaseModel
from seqedit.cli.main import run
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.runs.start import KIND_RUN
from seqedit.scoring.kinds import KIND_TIMINGS
from seqedit.support.digests import tensors_digest
from tests.conftest import REFERENCE
from tests.reliability import processes
from tests.reliability.commands import damage
from tests.reliability.processes import in_child, kill_at, start, wait

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SETTINGS = {"layers": [1], "steps": 3, "second_moment_weight": 50, "clamp_norm_factor": 1.5, "weight_decay": 0.001}
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "shutil.")
"""Calls that change something; most of what a command with a model opens are the model's files, to read them."""


def _cli(*arguments: str) -> Callable[[], None]:
    def act() -> None:
        code = run(list(arguments))
        assert code == 0, (arguments, code)

    return act


@dataclass(frozen=True)
class Campaign:
    """A command of the campaign.

    Attributes:
        name: What it is called.
        arguments: Its arguments, for the ledger's directory and the configuration's; paths are the only difference.
        again: Those that carry it on, where that is another command.
        empty: It begins without a ledger.
    """

    name: str
    arguments: Callable[[Path, Path], list[str]]
    again: Callable[[Path, Path], list[str]] | None = None
    empty: bool = False


def _edit(place: Path, files: Path) -> list[str]:
    return [
        "edit", "--requests", str(files / "more.json"), "--ledger", str(place), "--method", "memit", "--hparams",
        str(files / "memit.yaml"), "--second-moments", str(REFERENCE / "second_moments.safetensors"),
        "--context-templates", str(files / "contexts.json"),
    ]  # fmt: skip


CAMPAIGN = (
    Campaign(
        "run",
        lambda place, files: ["run", str(place.parent / "run.yaml")],
        lambda place, files: ["run", str(place.parent / "run.yaml"), "--resume"],
        empty=True,
    ),
    Campaign("gc", lambda place, files: ["gc", "--ledger", str(place), "--prune-now", "--grace", "0"]),
    Campaign("edit", _edit),
    Campaign("revert", lambda place, files: ["revert", "HEAD~1", "--ledger", str(place)]),
    Campaign("merge", lambda place, files: ["merge", "HEAD~1", "HEAD", "--ledger", str(place)]),
    Campaign("import", lambda place, files: ["import", str(files / "longer.zip"), "--ledger", str(place)]),
    Campaign(
        "init", lambda place, files: ["init", "--model", str(REFERENCE / "model"), "--ledger", str(place)], empty=True
    ),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Facts, settings, a ledger with two batches and garbage, and a bundle of a longer history."""
    folder = tmp_path_factory.mktemp("campaign")
    records = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
    (folder / "facts.json").write_text(json.dumps(records[:6]))
    (folder / "more.json").write_text(json.dumps(records[6:]))
    (folder / "contexts.json").write_text(json.dumps([["{}"], ["It rained. {}"]]))
    (folder / "memit.yaml").write_text(yaml.safe_dump(SETTINGS))
    _configure(folder, steps=2)
    assert in_child(_cli("run", str(folder / "run.yaml"))) == 0
    place = folder / "ledger"
    shutil.copytree(place, folder / "longer")
    longer = folder / "longer"
    assert in_child(_cli(*_edit(longer, folder))) == 0
    assert (
        in_child(_cli("export", "--format", "bundle", "--ledger", str(longer), "--out", str(folder / "longer.zip")))
        == 0
    )
    assert in_child(_cli(*_edit(place, folder))) == 0
    assert in_child(_cli("undo", "--ledger", str(place))) == 0
    return folder


def _configure(folder: Path, steps: int) -> None:
    (folder / "run.yaml").write_text(yaml.safe_dump({
        "model": str(REFERENCE / "model"), "facts": "facts.json", "method": "memit", "batch_size": 2, "steps": steps,
        "out": "out", "ledger": "ledger", "settings": SETTINGS,
        "second_moments": {"file": str(REFERENCE / "second_moments.safetensors")},
        "context_templates": [["{}"], ["It rained. {}"]], "evals": {"generation": False, "resamples": 100},
    }))  # fmt: skip


def _begin(files: Path, work: Path, command: Campaign) -> Path:
    """A fresh folder as the command finds it; the ledger's place."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    shutil.copy(files / "facts.json", work)
    _configure(work, steps=3)
    if not command.empty:
        shutil.copytree(files / "ledger", work / "ledger")
    return work / "ledger"


TIMED = (KIND_TIMINGS, KIND_RUN)
"""Kinds of scores that say how long something took, or when it was done."""


def _state(place: Path, base: EditedModel) -> dict[str, Any] | None:
    """All that a ledger says, but for when it was said; ids follow from times."""
    if not has_ledger(place):
        return None
    with Ledger.open(place) as ledger:
        log = ledger.log()
        number = {entry.id: position for position, entry in enumerate(log)}

        def scores(entry: str) -> dict[str, Any]:
            found = ledger.scores(entry)
            return {kind: _renumbered(values, number) for kind, values in found.items() if kind not in TIMED}

        return {
            "log": [(e.operation, e.adapter, [number.get(t) for t in e.targets], e.requests) for e in log],
            "scores": [scores(e.id) for e in log],
            "weights": tensors_digest(ledger.compose(base.base, only_changed=True)),
            "branches": sorted(ledger.branches()),
            "objects": sorted(ledger.store.objects()),
        }


def _same(command: Campaign, found: Any, wanted: Any) -> bool:
    """Whether two states are one; an object without an entry is what a killed writer may leave, and gc removes."""
    if found is None or wanted is None or command.name == "gc":
        return bool(found == wanted)
    return {**found, "objects": 0} == {**wanted, "objects": 0}


def _renumbered(values: Any, number: dict[str, int]) -> Any:
    text = json.dumps(values, sort_keys=True)
    for entry, position in number.items():
        text = text.replace(entry, f"entry {position}")
    return json.loads(text)


def _watched(number: int, action: Callable[[], None], counter: Path | None = None) -> Callable[[], None]:
    def act() -> None:
        processes.WATCHED = CHANGES
        kill_at(number, action, counter)

    return act


@pytest.mark.promise(28)
@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_a_command_that_is_killed_anywhere_is_carried_on_to_the_state_of_an_undisturbed_one(
    files: Path, tmp_path: Path, kills: int, figure: Callable[[str], None]
) -> None:
    base = EditedModel(*load_model(str(REFERENCE / "model")))
    assert isinstance(base.base_model, BaseModel)
    work = tmp_path / "work"
    expected: dict[str, tuple[Any, int, float]] = {}
    done = {"old": 0, "new": 0, "between": 0}
    for seed in range(kills):
        command, chance = CAMPAIGN[seed % len(CAMPAIGN)], random.Random(seed)
        place = _begin(files, work, command)
        act = _cli(*command.arguments(place, files))
        if command.name not in expected:
            begun = time.monotonic()
            assert in_child(_watched(0, act, tmp_path / "count")) == 0
            seconds = time.monotonic() - begun
            expected[command.name] = _state(place, base), int((tmp_path / "count").read_text()), seconds
            place = _begin(files, work, command)
        after, calls, seconds = expected[command.name]
        before = _state(place, base)
        assert after is not None
        assert after != before
        if chance.random() < 0.7:  # at one of the calls that change something, else at any moment
            assert in_child(_watched(chance.randint(1, calls), act)) == -signal.SIGKILL, seed
        else:
            pid = start(act)
            time.sleep(chance.random() * seconds)
            os.kill(pid, signal.SIGKILL)
            assert wait([pid])[0] in (-signal.SIGKILL, 0), seed
        found = _state(place, base)
        if found is not None:
            assert damage(work) == [], seed
            assert in_child(_cli("verify", "--ledger", str(place))) == 0, seed
        kind = "new" if _same(command, found, after) else "old" if _same(command, found, before) else "between"
        done[kind] += 1
        if kind == "between":  # a run is many commits, and a collection two
            assert command.name in ("run", "gc"), seed
        if kind != "new" and (command.name, found) != ("init", after):
            assert in_child(_cli(*(command.again or command.arguments)(place, files))) == 0, seed
        assert in_child(_cli("gc", "--ledger", str(place), "--grace", "0")) == 0, seed  # what the kill left behind
        left = _state(place, base)
        assert left is not None
        assert {**left, "objects": 0} == {**after, "objects": 0}, (seed, command.name)
        assert set(left["objects"]) <= set(after["objects"]), seed
        with Ledger.open(place) as ledger:
            assert ledger.verify() == [], seed
    figure(
        f"{kills} seeded kills of {', '.join(expected)}: {done['old']} left the old state, {done['new']} the new one, "
        f"{done['between']} a part of a run or collection; all sound, all carried on to the state of an undisturbed one"
    )
