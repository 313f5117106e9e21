"""Every verb with every file that it takes, damaged in every way: an exit code, two lines at most, nothing half done.

The verbs and their parameters come from the command line itself: a new one must say in `cases.py` which files it takes.
An exception that no reader has turned into a message of its own ends the test here (`run` lets it through).
"""

from __future__ import annotations

import logging
import os
import random
import re
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from seqedit.cli.main import run
from tests.damaged_files.cases import NO_FILE_OF, NO_FILES, Case, cases
from tests.damaged_files.damage import OF_A_FILE, OF_A_PLACE, UNREADABLE, Damage, in_fields
from tests.damaged_files.place import made
from tests.documentation import command_line

CASES = cases()
STRAY = re.compile(r"Traceback|^ +File \"|Warning:|^\[transformers\]", re.MULTILINE)
"""What other libraries print on their own, and no message of ours has."""
MEASURED = {"ledger/ledger.db"}
"""What a value that only shows when it is used may change: measurements made until then are kept."""


def test_every_verb_says_of_every_parameter_whether_it_names_a_file() -> None:
    taken = {(case.verb, case.parameter) for case in CASES}
    there = {(verb, p.name) for verb, command in command_line.verbs().items() for p in command.params}
    there = {(verb, name) for verb, name in there if name != "help"}
    assert taken - there == set(), "there is no such parameter any more"
    assert set(NO_FILE_OF) - there == set(), "there is no such parameter any more"
    assert NO_FILES - {name for _, name in there} == set(), "there is no such parameter any more"
    unknown = {key for key in there - taken - set(NO_FILE_OF) if key[1] not in NO_FILES}
    assert unknown == set(), "say in cases.py whether it names a file, and how the verb is called with one"


class _Now:
    """Standard error as it is when something is written: loggers keep the one of their import."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged") / "template"
    made(folder)
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder as the current one, whatever was done to it before."""
    folder = tmp_path / "place"
    shutil.copytree(template, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    for logger in [logging.getLogger(name) for name in list(logging.root.manager.loggerDict)]:
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:  # pytest's own are another kind
                monkeypatch.setattr(handler, "stream", _Now())
    return folder


def tree_of(folder: Path) -> dict[str, Any]:
    """Every file and folder below with what tells whether it was changed; contents of links are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        kind = stat.st_mode >> 12
        found[str(path.relative_to(folder))] = kind if path.is_dir() else (kind, stat.st_size, stat.st_mtime_ns)
    return found


def damages_of(case: Case, path: Path) -> dict[str, Damage]:
    found = dict(OF_A_PLACE)
    if not case.place:
        found |= {**OF_A_FILE, **in_fields(path)}
    if os.geteuid() != 0:
        found |= UNREADABLE
    return found


def target_of(case: Case, folder: Path) -> Path:
    found = sorted(folder.glob(case.file))
    assert found, f"{case.file} is not there"
    return found[0]


def restored(folder: Path, template: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(template, folder, symlinks=True, dirs_exist_ok=True)


def complaint(case: Case, damage: Damage, folder: Path, capsys: Any, *, whole: bool) -> str | None:
    """What is wrong with how a verb ends; None where it ends as it should.

    Args:
        whole: Whether the damage is to the whole file, not to one value in it.
    """
    path = target_of(case, folder)
    damage(path)
    entries: list[str] = []
    if not path.is_relative_to(folder / "ledger"):
        with Ledger.open(folder / "ledger") as opened:
            entries = [row["id"] for row in opened.log_rows("main")]
    before = tree_of(folder)
    capsys.readouterr()
    try:
        code = run(case.words)
    except BaseException as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        ours = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename][-1]
        return (f"{type(error).__name__}: {str(error)[:200]!r} at {where.filename.rpartition('/')[2]}:{where.lineno}, "
                f"called from {ours.filename}:{ours.lineno}")  # fmt: skip
    said = capsys.readouterr()
    lines = [line for line in said.err.split("\n") if line]
    told = " | ".join(line[:300] for line in lines)
    if code not in (0, 1, 2, 3):
        return f"exit code {code}: {told}"
    if STRAY.search(said.err):
        return f"what others print (exit {code}): {told}"
    if code in (2, 3):
        # A value that only shows when it is used comes after what the verb has said until then.
        counted = lines if whole else [line for line in lines if line.startswith("seqedit:")]
        if len(counted) not in (1, 2):
            return f"not one or two lines (exit {code}): {told}"
        names = {part for part in (path.name, path.stem, *path.relative_to(folder).parts) if len(part) > 2}
        # What is wrong with one value is told by the name of the field or what it holds.
        if whole and not any(name in told for name in names):
            return f"names none of {sorted(names)} (exit {code}): {told}"
        after = tree_of(folder)
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        if changed - (set() if whole else MEASURED):
            return f"exit {code}, and changed {sorted(changed)}: {told}"
    return None if path.is_relative_to(folder / "ledger") else problem_of(folder / "ledger", entries, code, told)


def problem_of(ledger: Path, entries: list[str], code: int, told: str) -> str | None:
    """What is wrong with a ledger that was whole before; None if it verifies, with no entry more after a refusal."""
    with Ledger.open(ledger) as opened:
        problems = [str(problem) for problem in opened.verify() if problem.damage]
        now = [row["id"] for row in opened.log_rows("main")]
    if problems:
        return f"exit {code}, and the ledger no longer verifies ({problems}): {told}"
    return None if code in (0, 1) or now == entries else f"exit {code}, and the history is another: {told}"


def found_in(case: Case, chosen: list[tuple[str, Damage]], folder: Path, template: Path, capsys: Any) -> list[str]:
    found = []
    for name, damage in chosen:
        said = complaint(case, damage, folder, capsys, whole=name in OF_A_FILE or name in OF_A_PLACE)
        if said is not None:
            found.append(f"[{case.id}] {name}: {said}")
        restored(folder, template)
    return found


SOME = 2
"""Files of a verb in the quick test, each damaged in one way; which, is drawn by a seed."""


@pytest.mark.parametrize("verb", sorted({case.verb for case in CASES}))
def test_some_damage_to_every_file_of_a_verb_is_told_in_two_lines(
    verb: str, place: Path, template: Path, capsys: Any
) -> None:
    found = []
    of_verb = [case for case in CASES if case.verb == verb]
    draw = random.Random(zlib.crc32(verb.encode()))
    for case in draw.sample(of_verb, min(SOME, len(of_verb))):
        damages = sorted(damages_of(case, target_of(case, place)).items())
        chosen = draw.sample(damages, 1)
        found += found_in(case, chosen, place, template, capsys)
    assert found == [], "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_all_damage_to_a_file_is_told_in_two_lines(case: Case, place: Path, template: Path, capsys: Any) -> None:
    found = found_in(case, list(damages_of(case, target_of(case, place)).items()), place, template, capsys)
    assert found == [], "\n".join(found)
