"""``seqedit plan`` as a user runs it: a table, JSON, one-line errors, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run

NAMES = ("Venxa", "Bado", "Bribri", "Olm", "Sidi", "Marla")
FACTS = [{"subject": name, "prompt": "{} plays the sport of", "target_new": "golf"} for name in NAMES]
CHECK = {
    "position", "subject", "prompt", "target_new", "batch", "risk", "in_force", "in_batch", "later", "written",
    "written_alone",
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    model, tokenizer = llama
    model.save_pretrained("tiny")
    tokenizer.save_pretrained("tiny")
    _write(FACTS)
    Path("text.txt").write_text("The sport of golf and the sport of rowing are known to all of them.\n" * 60)
    Path("templates.json").write_text('[["{}"], ["The town said. {}"]]')
    return tmp_path


def _write(rows: list[dict[str, Any]]) -> None:
    Path("facts.jsonl").write_text("\n".join(map(json.dumps, rows)))


def _common(verb: str, *more: str) -> list[str]:
    given = ["--method", "memit", "--layers", "1", "--set", "steps=2", "--set", "shrinkage=0.1",
             "--set", "learning_rate=0.5", "--set", "second_moment_weight=10"]  # fmt: skip
    return [verb, *more, *given, "--text", "text.txt", "--context-templates", "templates.json"]


def test_a_plan_on_a_model_is_a_table_and_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = _common("plan", "facts.jsonl", "--model", "tiny", "--batch-size", "2", "--order", "clustered")
    assert run([*arguments, "--top", "4"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("6 facts in 3 batches (clustered order) by memit\n")
    assert "... 2 more facts" in out
    assert err == ""  # stderr is no terminal: no progress
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"method", "settings", "metric", "danger", "order", "batches", "facts", "endangered", "pairs", "load",
            "orders"} == set(found)  # fmt: skip
    assert set(found["facts"][0]) == CHECK
    assert sorted(i for batch in found["batches"] for i in batch) == list(range(6))
    assert [fact["risk"] for fact in found["facts"]] == sorted((f["risk"] for f in found["facts"]), reverse=True)
    assert set(found["orders"]) == {"file", "clustered"}
    assert found["orders"]["clustered"]["largest"] <= found["orders"]["file"]["largest"]
    (load,) = found["load"].values()
    assert load == {"before": 0, "after": pytest.approx(6 / 96)}
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_a_plan_on_a_ledger_names_the_entry_and_strict_exits_with_1(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["init", "--model", "tiny", "--ledger", "ledger"]) == 0
    assert run(_common("edit", "--requests", "facts.jsonl", "--limit", "2", "--json")) == 0
    entry = json.loads(capsys.readouterr().out.split("\n", 1)[1])["id"]
    _write([{**FACTS[0], "prompt": "{} was born in", "target_new": "rowing"}, *FACTS[2:4]])
    arguments = _common("plan", "facts.jsonl", "--danger", "0.9")
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["entry"], one["subject"], one["by"]) for one in found["endangered"]] == [(entry, "Venxa", 0)]
    assert found["facts"][0]["in_force"]["entry"] == entry
    assert run([*arguments, "--strict"]) == 1
    out, err = capsys.readouterr()
    assert f"fact 0 endangers Venxa plays the sport of -> golf of entry {entry[:12]}" in out
    assert err.count("\n") == 1
    assert "endangers" in err


def test_what_edit_refuses_a_plan_tells(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write([FACTS[0], {**FACTS[0], "target_new": "rowing"}])
    arguments = _common("plan", "facts.jsonl", "--model", "tiny")
    assert run(arguments) == 0
    assert "fact 1 contradicts fact 0: Venxa plays the sport of -> rowing" in capsys.readouterr().out
    assert run([*arguments, "--strict"]) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["facts.jsonl"], "give --model MODEL, or --ledger PLACE"),
        (["nowhere.jsonl", "--model", "tiny"], "nowhere.jsonl"),
        (["facts.jsonl", "--model", "tiny", "--order", "random"], "--order must be file or clustered, got 'random'"),
        (["facts.jsonl", "--model", "tiny", "--batch-size", "0"], "--batch-size must be at least 1, got 0"),
        (["facts.jsonl", "--model", "tiny", "--danger", "1.5"], "--danger must be above 0 and at most 1, got 1.5"),
        (["facts.jsonl", "--model", "tiny", "--layers", "9"], "9"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    place: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], words: str
) -> None:
    assert run([*_common("plan")[:1], *wrong[:1], *_common("plan")[1:], *wrong[1:]]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def _dry(*more: str) -> list[str]:
    return [*_common("edit", "--requests", "facts.jsonl"), "--dry-run", *more]


def test_a_dry_run_with_a_model_has_the_plan_s_essentials_beside_what_it_says_without(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(_dry("--model", "tiny", "--out", "adapter", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["operation"], told["layers"], len(told["facts"])) == ("edit", [1], 6)
    assert run([*_common("plan", "facts.jsonl", "--model", "tiny"), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    found = told["plan"]
    assert found["largest"]["in_force"] is None
    in_batch = max(whole["facts"], key=lambda fact: fact["in_batch"]["cosine"])
    assert found["largest"]["in_batch"]["to"]["cosine"] == in_batch["in_batch"]["cosine"]
    shares = [min(fact["written"].values()) for fact in whole["facts"]]
    assert found["written"]["smallest"] == pytest.approx(min(shares))
    assert found["written"]["mean"] == pytest.approx(sum(shares) / 6, rel=1e-5)
    assert (found["pairs"], found["endangered"]) == (whole["pairs"], [])
    assert not Path("adapter").exists()
    assert run(_dry("--model", "tiny", "--out", "adapter")) == 0
    out = capsys.readouterr().out
    assert f"largest cosine within the batch: {in_batch['in_batch']['cosine']:.2f} (fact" in out
    assert f"{100 * min(shares):.0f} % of fact {found['written']['position']}'s" in out
    assert "to a key in force: there is none" in out


def test_a_dry_run_on_a_ledger_names_the_facts_that_it_endangers_and_changes_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["init", "--model", "tiny", "--ledger", "ledger"]) == 0
    assert run(_common("edit", "--requests", "facts.jsonl", "--limit", "2", "--json")) == 0
    entry = json.loads(capsys.readouterr().out.split("\n", 1)[1])["id"]
    _write([{**FACTS[0], "prompt": "{} was born in", "target_new": "rowing"}, *FACTS[2:4]])
    before = {path: path.read_bytes() for path in Path("ledger").rglob("*") if path.is_file()}
    assert run(_dry("--model", "tiny", "--json")) == 0
    found = json.loads(capsys.readouterr().out)["plan"]
    assert next((one["entry"], one["subject"], one["by"]) for one in found["endangered"]) == (entry, "Venxa", 0)
    assert found["largest"]["in_force"]["to"]["entry"] == entry
    assert found["load"]["model.layers.1.mlp.down_proj"]["before"] == pytest.approx(2 / 96, rel=1e-5)
    assert run(_dry("--model", "tiny")) == 0
    assert f"fact 0 endangers Venxa plays the sport of -> golf of entry {entry[:12]}" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in Path("ledger").rglob("*") if path.is_file()} == before

    def loaded(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a dry run without --model loaded the model")

    monkeypatch.setattr("seqedit.editing.loading.load_model", loaded)
    assert run(_dry("--json")) == 0
    assert "plan" not in json.loads(capsys.readouterr().out)
    ft = ["--requests", "facts.jsonl", "--method", "ft", "--layers", "1", "--dry-run", "--json"]
    assert run(["edit", "--model", "tiny", "--out", "adapter", *ft]) == 0  # no keys are solved for: nothing to foretell
    assert "plan" not in json.loads(capsys.readouterr().out)
