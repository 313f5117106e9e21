"""A run extends history: where it begins, what a dry run refuses, what it edits of many files, and how it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger import Ledger
from seqedit.cli.main import run
from seqedit.scoring.summary import build_summary
from seqedit.session.session import Session
from tests.conftest import REFERENCE

RECORDS = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
MONTHS = {f"2032-0{month}": RECORDS[2 * month - 2 : 2 * month] for month in (1, 2, 3)}
WEAK = {"layers": [1], "learning_rate": 1e-3, "steps": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three monthly files, and a run on them that takes a second."""
    return made(tmp_path)


def made(folder: Path) -> Path:
    (folder / "months").mkdir()
    for month, records in MONTHS.items():
        put(folder, month, records)
    change(
        folder, model=str(REFERENCE / "model"), facts="months/2032-01.json", method="ft", batch_size=2, out="out",
        settings=WEAK, context_templates=[["{}"]], evals={"generation": False, "drift": False, "resamples": 100},
        ledger="ledger",
    )  # fmt: skip
    return folder


def put(folder: Path, month: str, records: list[Any]) -> None:
    (folder / "months" / f"{month}.json").write_text(json.dumps(records))


def change(folder: Path, **fields: Any) -> str:
    file = folder / "run.yaml"
    data = yaml.safe_load(file.read_text()) if file.exists() else {}
    file.write_text(yaml.safe_dump({k: v for k, v in {**data, **fields}.items() if v is not None}))
    return str(file)


def log(folder: Path, rev: str = "HEAD") -> list[Any]:
    with Ledger.open(folder / "ledger") as ledger:
        return ledger.log(rev)[::-1][1:]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and "ledger.db-" not in p.name}


def test_a_gated_run_goes_on_at_the_head_of_its_branch_and_scores_the_edits_before_it(
    folder: Path, capsys: Any
) -> None:
    assert run(["run", change(folder)]) == 0
    (january,) = log(folder)
    gates = ["ES: min 0", "earlier.ES: min 0", "earlier.ES: max_drop 100"]
    config = change(folder, facts="months/2032-02.json", gates=gates, out="february")
    capsys.readouterr()
    assert run(["run", config, "--dry-run"]) == 0
    assert f"begins at entry {january.id[:12]} (1 batch in force)" in capsys.readouterr().out
    assert run(["run", config]) == 0
    assert f"begins at entry {january.id[:12]}" in capsys.readouterr().out
    assert log(folder)[0] == january
    assert [e.operation for e in log(folder)] == ["edit", "edit"]
    summary = json.loads((folder / "february" / "summary.json").read_text())
    assert [step["step"] for step in summary["steps"]] == [1, 2]
    assert summary["steps"][1]["earlier"]["requests"] == 2
    assert all(value is not None for value in summary["forgetting"][1])
    assert [gate["tripped"] for gate in summary["steps"][1]["gates"]] == [False] * 3
    assert (folder / "february" / "report.html").exists()
    assert run(["run", config, "--resume"]) == 0
    assert len(log(folder)) == 2, "a finished run that is resumed does nothing"


def test_a_new_branch_begins_at_the_head_and_at_the_root_only_where_it_is_told_to(folder: Path, capsys: Any) -> None:
    assert run(["run", change(folder)]) == 0
    main = log(folder)
    assert run(["run", change(folder, facts="months/2032-02.json", branch="april", out="april")]) == 0
    assert "new branch 'april': the run begins at entry" in capsys.readouterr().out
    assert log(folder, "april")[:1] == main
    assert len(log(folder, "april")) == 2
    assert run(["run", change(folder, branch="apart", onto="root", out="apart")]) == 0
    assert "new branch 'apart': the run begins at the unedited model" in capsys.readouterr().out
    assert len(log(folder, "apart")) == 1
    assert run(["run", change(folder, branch="side", onto="main", out="side")]) == 0
    assert log(folder, "side")[:1] == main
    assert log(folder, "main") == main
    # The branch is not where the run was to begin: nothing is guessed.
    assert run(["run", change(folder, facts="months/2032-03.json")]) == 2
    error = capsys.readouterr().err
    assert "branch 'side'" in error
    assert "leave out 'onto'" in error


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a task that does not exist": ({"tasks": ["no-such-task"]}, "no-such-task"),
    "a task's file": ({"tasks": {"cola": "none.jsonl"}}, "no such file"),
    "a gate on a metric": (
        {"tasks": {"cola": "cola.jsonl"}, "gates": ["cola.nonsense: min 1"]}, "task 'cola' has"),
    "a gate on earlier facts": ({"gates": ["earlier.GE: min 1"]}, "GE"),
    "a branch's name": ({"branch": "a b"}, "cannot name a branch"),
    "onto": ({"onto": "nowhere"}, "nowhere"),
    "onto elsewhere": ({"onto": "root", "branch": "main"}, "leave out 'onto'"),
    "the same batch": ({"facts": "months/2032-01.json"}, "--resume"),
    "layers": ({"settings": {**WEAK, "layers": [9]}}, "layer 9 is out of range"),
    "steps": ({"steps": 9}, "9 steps of 2 need 18"),
    "a text": ({"evals": {"perplexity_text": "none.txt"}}, "none.txt"),
    "another base model": ({"model": "demo-llama"}, "belongs to base model"),
    "second moments": ({"method": "memit", "second_moments": {"file": "none.safetensors"}}, "none.safetensors"),
}  # fmt: skip


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """January is edited, and February is what the run is about; shared by those that may change nothing."""
    folder = made(tmp_path_factory.mktemp("begun"))
    assert run(["run", change(folder)]) == 0
    change(folder, facts="months/2032-02.json", out="second")
    (folder / "cola.jsonl").write_text('{"sentence": "Venxa plays.", "label": 1, "idx": 0}\n')
    return folder


@pytest.mark.parametrize("name", REFUSED)
def test_a_dry_run_refuses_whatever_the_run_refuses_in_the_same_words(name: str, begun: Path, capsys: Any) -> None:
    fields, text = REFUSED[name]
    whole, before = (begun / "run.yaml").read_text(), everything(begun / "ledger")
    try:
        config = change(begun, **fields)
        said = []
        for more in (["--dry-run"], []):
            assert run(["run", config, *more]) == 2, more
            said.append(capsys.readouterr().err)
    finally:
        (begun / "run.yaml").write_text(whole)
    assert said[0] == said[1]
    assert text in said[0]
    assert said[0].count("\n") == 1
    assert everything(begun / "ledger") == before
    assert not (begun / "second").exists()


def test_a_dry_run_refuses_a_tracker_that_there_is_not(begun: Path, capsys: Any) -> None:
    for more in (["--dry-run"], []):
        assert run(["run", str(begun / "run.yaml"), "--log-to", "nonsense", *more]) == 2
        assert "unknown sink 'nonsense'" in capsys.readouterr().err


def test_dated_files_are_batches_of_their_own_with_their_messages_and_only_new_ones_are_edited(
    folder: Path, capsys: Any
) -> None:
    (folder / "months" / "2032-03.json").unlink()
    config = change(folder, facts="months/*.json", batch_size=None)
    assert run(["run", config, "--new-files"]) == 0
    assert [e.message for e in log(folder)] == ["2032-01: 2 facts by ft", "2032-02: 2 facts by ft"]
    assert [e.facts_file["name"] for e in log(folder)] == ["months/2032-01.json", "months/2032-02.json"]
    done, files = log(folder), everything(folder)
    capsys.readouterr()
    assert run(["run", config, "--new-files"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing new"
    assert everything(folder) == files
    (folder / "months" / "2032-01.json").rename(folder / "months" / "2032-00.json")  # renamed: the same content
    put(folder, "2032-03", MONTHS["2032-03"])
    items = ["months/2032-0[02].json", {"file": "months/2032-03.json", "message": "March", "date": "2032-03-31"}]
    assert run(["run", change(folder, facts=items, batch_size=1), "--new-files"]) == 0
    assert log(folder)[:2] == done
    assert [e.message for e in log(folder)[2:]] == [
        "March, part 1 of 2: 1 facts by ft",
        "March, part 2 of 2: 1 facts by ft",
    ]
    assert {r.date for e in log(folder)[2:] for r in e.requests} == {"2032-03-31"}
    # A file that was edited and changed since is named, and nothing is edited.
    put(folder, "2032-02", RECORDS[6:8])
    before = everything(folder)
    capsys.readouterr()
    for more in ([], ["--dry-run"]):
        assert run(["run", str(folder / "run.yaml"), "--new-files", *more]) == 2
        assert "months/2032-02.json has changed since" in capsys.readouterr().err
    assert everything(folder) == before


def test_an_interrupted_run_says_where_it_stopped_and_goes_on_to_the_same_entries(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = change(folder, facts=["months/2032-01.json", "months/2032-02.json", "months/2032-03.json"])
    score = Session.score

    def interrupted(self: Session, *arguments: Any) -> Any:
        if len(self.ledger.log()) == 3:
            raise KeyboardInterrupt
        return score(self, *arguments)

    monkeypatch.setattr(Session, "score", interrupted)
    assert run(["run", config]) == 130
    error = capsys.readouterr().err
    first, second = log(folder)
    assert f"interrupted after step 1 (entry {first.id[:12]}), in batch 2 of 3" in error
    assert f"entry {second.id[:12]} is recorded and not yet scored" in error
    assert f"go on with: seqedit run {config} --resume" in error
    monkeypatch.setattr(Session, "score", score)
    assert run(["run", config]) == 2, "begun already"
    assert run(["run", config, "--new-files"]) == 0, "takes up what was interrupted"
    assert [e.message.partition(":")[0] for e in log(folder)] == list(MONTHS)
    with Ledger.open(folder / "ledger") as ledger:
        assert all(step["earlier"] or step["ES"] is not None for step in build_summary(ledger)["steps"])
    assert run(["run", config, "--new-files"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing new"


def test_an_interrupted_edit_says_that_nothing_was_recorded(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["init", "--model", str(REFERENCE / "model"), "--ledger", str(folder / "ledger")]) == 0
    arguments = ["edit", "--requests", str(folder / "months" / "2032-01.json"), "--method", "ft", "--layers", "1",
                 "--ledger", str(folder / "ledger")]  # fmt: skip

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "compute", interrupted)
        capsys.readouterr()
        assert run(arguments) == 130
    error = capsys.readouterr().err
    assert "nothing was recorded" in error
    assert f"go on with: seqedit edit --requests {folder}" in error
    assert log(folder) == []
    assert run([*arguments, "--set", "steps=1"]) == 0
    # What `edit` has read a run does not edit once more.
    assert run(["run", change(folder, facts="months/2032-01.json"), "--new-files"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing new"


def test_blame_shows_where_a_fact_comes_from(folder: Path, capsys: Any) -> None:
    record = {**RECORDS[0], "date": "2032-01-05", "source": "the gazette", "note": "after the election"}
    put(folder, "2032-01", [record, RECORDS[1]])
    assert run(["run", change(folder)]) == 0
    subject = record["requested_rewrite"]["subject"]
    capsys.readouterr()
    assert run(["blame", subject, "--ledger", str(folder / "ledger")]) == 0
    assert "date: 2032-01-05; source: the gazette; note: after the election" in capsys.readouterr().out
    assert run(["blame", subject, "--json", "--ledger", str(folder / "ledger")]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["date"], told["source"], told["note"]) == ("2032-01-05", "the gazette", "after the election")
    with Ledger.open(folder / "ledger") as ledger:
        request = ledger.adapter("HEAD").requests[0]
        assert (request.date, request.source, request.note) == ("2032-01-05", "the gazette", "after the election")
        assert ledger.verify() == []
