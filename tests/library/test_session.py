"""The Python API: the job of README in ten lines, and every verb of the command line as a method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import seqedit
from seqedit import Callback, InputError, Session
from seqedit.demo.location import demo_file
from seqedit.facts.loading import load_records
from seqedit.runs.demo import distinct_records
from seqedit.scoring.kinds import KIND_SCORES
from seqedit.scoring.summary_types import RunSummary, StepSummary

MODEL = "demo-gpt2"


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The demo's files and second moments in a cache of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQEDIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, own_cache: Any) -> Path:
    """Two files of four facts each, and a few documents of a task."""
    folder = tmp_path_factory.mktemp("facts")
    records = distinct_records(load_records(demo_file("counterfact.json")), 8)
    rows = {row["case_id"]: row for row in json.loads(demo_file("counterfact.json").read_text())}
    for number in (1, 2):
        lines = [json.dumps(rows[r.request.case_id]) for r in records[4 * number - 4 : 4 * number]]
        (folder / f"facts{number}.jsonl").write_text("\n".join(lines))
    documents = demo_file("tasks/cola.jsonl").read_text().splitlines()[:20]
    (folder / "cola.jsonl").write_text("\n".join(documents))
    return folder


def weights(session: Session) -> list[torch.Tensor]:
    return [p.matrix().clone() for p in session.edited.parts.projections]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_ten_lines_of_readme_edit_score_revert_and_save(files: Path, tmp_path: Path) -> None:
    facts = files / "facts1.jsonl"
    session = Session.from_pretrained(MODEL, ledger=tmp_path / "ledger")
    before = weights(session)
    entry = session.edit(facts, method="memit", preset=MODEL, message="March")
    found = session.evaluate(records=facts, tasks={"cola": files / "cola.jsonl"})
    assert found.step["ES"] >= 75
    assert set(found.step["tasks"]) == {"cola"}
    assert "cola." in str(found)
    assert session.ledger.scores(entry.id)[KIND_SCORES]["ES"] == found.step["ES"]
    session.save_pretrained(tmp_path / "edited")
    session.export(tmp_path / "adapter", format="peft")
    assert not same(weights(session), before)
    session.revert(entry)
    assert same(weights(session), before)
    session.close()
    assert (tmp_path / "edited" / "model.safetensors").is_file()
    assert seqedit.Adapter.from_pretrained(tmp_path / "adapter").requests == entry.requests

    with Session.from_pretrained(MODEL, ledger=tmp_path / "ledger") as again:
        assert [e.operation for e in again.log()] == ["revert", "edit", "root"]


def test_every_operation_of_the_command_line_is_a_method(files: Path, tmp_path: Path) -> None:
    with Session.from_pretrained(MODEL, ledger=tmp_path / "ledger") as session:
        first = session.edit(files / "facts1.jsonl", "memit", preset=MODEL)
        session.edit(load_records(files / "facts2.jsonl"), "memit", preset=MODEL)
        session.evaluate()  # with the records that edit was given
        swapped = session.swap(first, "emmet", preset=MODEL)
        assert swapped.operation == "swap"
        assert swapped.method["name"] == "emmet"
        again = session.swap(swapped, steps=5)
        assert again.method == {**swapped.method, "steps": 5}
        assert session.rebase() == session.tip
        (newest, older) = session.ledger.active()[::-1]
        tip = session.reorder(newest, older)
        assert session.tip == tip
        assert [e.requests for e in session.ledger.active()] == [newest.requests, older.requests]
        subject = first.requests[0].subject
        assert [answer.taught.subject for answer in session.blame(subject)] == [subject]
        difference = session.diff("HEAD~1", answers=True)
        assert difference.norms
        assert difference.answers
        merged = session.merge(*session.ledger.active(), how="sum")
        assert merged.operation == "merge"
        session.switch("experiment", create=True)
        assert session.branch == "experiment"
        reverted = session.revert("HEAD")
        assert session.branches()["experiment"] == reverted.id
        session.undo()
        assert session.tip == merged.id
        session.export(tmp_path / "history.zip", format="bundle")
        assert (tmp_path / "history.zip").is_file()
        assert session.report(tmp_path / "report").is_file()


def test_bisect_of_a_session_names_the_entry_after_which_a_score_fell(files: Path, tmp_path: Path) -> None:
    with Session.from_pretrained(MODEL, ledger=tmp_path / "ledger") as session:
        good = session.edit(files / "facts1.jsonl", "memit", preset=MODEL)
        session.edit(files / "facts2.jsonl", "memit", preset=MODEL)
        bad = session.revert(good)
        assert session.bisect("ES", good, records=files / "facts1.jsonl").first_bad == bad.id


def test_callbacks_of_a_session_are_told_what_a_run_tells(files: Path, tmp_path: Path) -> None:
    told: list[Any] = []

    class Listener(Callback):
        def on_run_begin(self, config: Any) -> None:
            told.append(("begin", config.method, config.batch_size))

        def on_baseline(self, baseline: dict[str, Any]) -> None:
            told.append(("baseline", sorted(baseline)))

        def on_step(self, step: StepSummary) -> None:
            told.append(("step", step["step"], step["entry"]))

        def on_run_end(self, summary: RunSummary) -> None:
            told.append(("end", len(summary["steps"])))

        def close(self) -> None:
            told.append("close")

    with Session.from_pretrained(MODEL, ledger=tmp_path / "ledger", callbacks=[Listener()]) as session:
        first = session.edit(files / "facts1.jsonl", "memit", preset=MODEL)
        assert told == []
        session.evaluate()
        second = session.edit(files / "facts2.jsonl", "memit", preset=MODEL)
        session.evaluate()
    assert told == [
        ("begin", "memit", 4), ("baseline", ["counterfact"]), ("step", 1, first.id), ("step", 2, second.id),
        ("end", 2), "close",
    ]  # fmt: skip


def test_what_does_not_go_together_is_refused_by_name(files: Path, tmp_path: Path) -> None:
    with Session.from_pretrained(MODEL, ledger=tmp_path / "ledger") as session:
        with pytest.raises(InputError, match="unknown setting 'layerz'"):
            session.edit(files / "facts1.jsonl", "memit", preset=MODEL, layerz=[1])
        with pytest.raises(InputError, match="format must be one of"):
            session.export(tmp_path / "x", format="onnx")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="facts are a file"):
            session.edit(5, "memit", preset=MODEL)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="no such file"):
            session.evaluate(tasks={"cola": "missing.jsonl"})


def test_edit_keeps_what_was_learnt_and_scores_with_gates(files: Path, tmp_path: Path) -> None:
    from seqedit.runs.checked_edit import GateBroken

    with Session.from_pretrained(MODEL, ledger=tmp_path / "ledger") as session:
        first = session.edit(files / "facts1.jsonl", "memit", preset=MODEL, message="March")
        learnt = session.ledger.scores(first.id)["learnt"]
        assert learnt["requests"] == 4
        assert learnt["learnt"] + len(learnt["missed"]) == 4
        assert KIND_SCORES not in session.ledger.scores(first.id)
        before = weights(session)
        tasks = {"cola": files / "cola.jsonl"}
        with pytest.raises(GateBroken, match=r"breaks a gate: tripped: ES: max 1; .*; reverted by") as broken:
            session.edit(files / "facts2.jsonl", "memit", preset=MODEL, message="April", gates="ES: max 1", tasks=tasks)
        found = broken.value.edit
        assert found.reverted is not None
        assert session.tip == found.reverted.id
        assert same(before, weights(session))
        assert [e.id for e in session.ledger.active(session.tip)] == [first.id]
        scores = session.ledger.scores(found.entry.id)
        assert scores["gates"]["ES: max 1"]["tripped"]
        assert scores["tasks"]["cola"]["change"] is not None
        # The same scores as the same state gets from `evaluate`, and EM is the share that was learnt.
        again = session.edit(
            files / "facts2.jsonl", "memit", preset=MODEL, gates=["earlier.ES: min 1", "written: min 0"],
            records=files / "facts1.jsonl",
        )  # fmt: skip
        kept = session.ledger.scores(again.id)
        assert kept[KIND_SCORES]["EM"] == 100 * kept["learnt"]["learnt"] / 4
        assert kept[KIND_SCORES]["earlier"]["requests"] == 4
        assert session.evaluate().step["ES"] == kept[KIND_SCORES]["ES"]
        count = len(session.ledger.log(session.tip))
        with pytest.raises(InputError, match="no method: give one, or set it once"):
            session.edit(files / "facts1.jsonl")
        refused: tuple[dict[str, Any], ...] = (
            {"gates": "cola.mcc: min 0.1"},
            {"gates": "ES rises"},
            {"gates": "ES: min 1", "on_gate": "retry"},
        )
        for wrong in refused:
            with pytest.raises(InputError):
                session.edit(files / "facts1.jsonl", "memit", preset=MODEL, **wrong)
        assert len(session.ledger.log(session.tip)) == count
        session.ledger.set_defaults({"method": "emmet", "preset": MODEL, "layers": "0"})
        made = session.edit(files / "facts1.jsonl")
        assert (made.method["name"], made.method["layers"]) == ("emmet", [0])
        assert session.edit(files / "facts2.jsonl", layers=[1]).method["layers"] == [1]
