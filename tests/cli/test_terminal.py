"""What verbs print of texts that others wrote: one line stays one line, nothing steers the terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from ledger.bundles.write import plan_bundle, write_bundle
from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.cli.main import main, run
from seqedit.facts.requests import Request
from tests.ledger.helpers import build_adapter

HOSTILE = "\x1b[2J\x1b]0;title\x07 \r\x9b31m \u202egnp.\u2066 \u2028 \n0000feedbeef 2026-01-01T00:00:00Z edit  forged"
LIVE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
CLI = Path(__file__).resolve().parents[2] / "seqedit" / "cli"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A ledger of which every text is hostile: facts, messages, authors, methods, tasks, the base model."""
    base = BaseModel(f"model{HOSTILE}", "f" * 64)
    with Ledger.create(tmp_path / "ledger", base, message=HOSTILE, author=HOSTILE) as ledger:
        for number in range(2):
            plain = build_adapter(number)
            request = Request(f"subject{HOSTILE}", "The {} is" + HOSTILE, f"target {number}{HOSTILE}", relation=HOSTILE)
            method = {"name": f"memit{HOSTILE}", "layers": [0]}
            adapter = Adapter(plain.deltas, (request,), method, base)
            entry = ledger.append(adapter, message=f"message {number}{HOSTILE}", author=HOSTILE)
            ledger.add_scores(entry.id, "tasks", {f"task{HOSTILE}": {"acc": 0.5}})
    return tmp_path / "ledger"


def make_bundle(file: Path) -> None:
    """A bundle of a ledger with one batch."""
    with Ledger.create(file.parent / "source", BaseModel("model", "f" * 64)) as ledger:
        plain = build_adapter(0)
        ledger.append(Adapter(plain.deltas, plain.requests, plain.method, ledger.base_model))
        write_bundle(ledger, plan_bundle(ledger), file)


def verbs(place: Path) -> list[list[str]]:
    """Every verb that prints texts of a ledger, of a file or of its arguments, with and without --json."""
    summary = place.parent / "summary.json"
    summary.write_text(json.dumps({"rows": HOSTILE}))
    (place.parent / "run.yaml").write_text(json.dumps({"model": HOSTILE, HOSTILE: 1}))
    reading = [
        ["log"], ["show"], ["show", "HEAD~1"], ["blame", f"subject{HOSTILE}"], ["blame", HOSTILE],
        ["diff", "HEAD~1", "HEAD"], ["branch"], ["reflog"], ["revert", "HEAD", "--dry-run"], ["verify"],
        ["merge", "HEAD", "HEAD~1", "--dry-run"], ["rebase", "--dry-run"], ["reorder", "HEAD", "HEAD~1", "--dry-run"],
        ["undo", "--dry-run"], ["reset", "HEAD~1", "--dry-run"], ["gc", "--dry-run"], ["checkout", HOSTILE],
        ["export", "--format", "bundle", "--out", str(place.parent / "b.zip"), "--dry-run"],
        ["export", "--format", "peft", "--out", str(place.parent / "peft"), "--dry-run"],
        ["add", f"nowhere{HOSTILE}"], ["import", f"nowhere{HOSTILE}"], ["log", HOSTILE],
        ["bisect", f"task{HOSTILE}.acc"],
        ["sign", "--key", HOSTILE], ["swap", "HEAD", "--method", HOSTILE, "--dry-run"], ["eval", "--gate", HOSTILE],
        ["revert", "HEAD"], ["push", HOSTILE, "--dry-run"], ["pull", HOSTILE],
    ]  # fmt: skip
    located = [[*verb, "--ledger", str(place)] for verb in reading]
    other = [
        ["run", str(place.parent / "run.yaml"), "--dry-run"], ["compare", str(place.parent / "run.yaml")],
        ["report", "--ledger", str(place), "--comparison", str(summary)], ["init", "--model", HOSTILE, "--dry-run"],
        ["score", "--model", HOSTILE, "--records", HOSTILE], ["stats", "--model", HOSTILE], [HOSTILE],
        ["log", f"--{HOSTILE}"], ["log", "-n", HOSTILE], ["edit", "--method", HOSTILE, "--requests", HOSTILE],
        ["benchmark", HOSTILE, "--model", "x", "--records", HOSTILE], ["locate", "--model", "x", "--records", HOSTILE],
    ]  # fmt: skip
    return [*located, *([*verb, "--json"] for verb in located), *other]


def test_no_verb_prints_a_character_that_a_terminal_obeys_nor_lets_a_text_forge_a_line(
    place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.parent)
    for verb in verbs(place):
        run(verb)
        out, err = capsys.readouterr()
        assert out + err, verb
        assert not LIVE.search(out + err), (verb, LIVE.search(out + err))
        assert not re.search(r"^0000feedbeef", out + err, re.M), verb


def test_json_of_hostile_texts_reads_back_as_they_are(place: Path, capsys: Any) -> None:
    assert run(["show", "--ledger", str(place), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["message"] == f"message 1{HOSTILE}"


def test_every_line_of_the_command_line_goes_through_one_function() -> None:
    other = re.compile(r"(typer|click)\.echo\(|\bprint\(|sys\.(stdout|stderr)\.write|json\.dump\(")
    found = {path.name for path in CLI.glob("*.py") if other.search(path.read_text("utf-8"))}
    assert found == set()


def test_an_error_of_the_program_itself_is_escaped_too(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> int:
        raise RuntimeError(HOSTILE)

    monkeypatch.setattr(sys.modules["seqedit.cli.main"], "run", fails)  # the package's attribute is the function
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert "RuntimeError" in err
    assert not LIVE.search(err)


def test_texts_that_an_encoding_lacks_are_escaped(place: Path) -> None:
    done = process(["log", "--ledger", str(place)], env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def process(verb: list[str], *, env: dict[str, str] | None = None, **pipes: Any) -> subprocess.CompletedProcess[bytes]:
    pipes = pipes or {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run([sys.executable, "-m", "seqedit", *verb], env={**os.environ, **(env or {})}, **pipes)


@pytest.mark.parametrize(
    ("verb", "code"),
    [
        (["log"], 0), (["log", "--json"], 0), (["show"], 0), (["reflog"], 0), (["diff", "HEAD~1", "HEAD"], 0),
        (["verify"], 0), (["--help"], 0), (["revert", "HEAD"], 0), (["log", "nowhere"], 2), (["--nonsense"], 2),
    ],
)  # fmt: skip
def test_a_reader_that_goes_away_changes_no_exit_code_and_leaves_no_traceback(
    verb: list[str], code: int, place: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    located = verb if verb[0].startswith("--") else [*verb, "--ledger", str(place)]
    try:
        done = process(located, stdout=writer, stderr=subprocess.PIPE)
        both = process(located, stdout=writer, stderr=writer)
    finally:
        os.close(writer)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
    assert both.returncode == code
    if verb[0] == "revert":  # twice: of the edit, and of its revert
        with Ledger.open(place) as ledger:
            assert [entry.operation for entry in ledger.log()[:2]] == ["revert", "revert"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_output_that_cannot_be_written_is_a_failure(place: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = process(["log", "--ledger", str(place)], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
