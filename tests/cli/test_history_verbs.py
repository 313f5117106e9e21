"""log, blame, status, tag and cherry-pick, as a user runs them; none of them needs a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ledger import Ledger
from seqedit.cli.history.drawing import draw
from seqedit.cli.history.telling import told
from seqedit.cli.main import run
from tests.ledger.helpers import MODEL, TIME, build_adapter


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """January, reverted; February; a branch with side work."""
    monkeypatch.setenv("SEQEDIT_LEDGER", str(tmp_path / "ledger"))
    with Ledger.create(tmp_path / "ledger", MODEL, time=TIME) as ledger:
        january = ledger.append(
            build_adapter(1, subject="Rome", target="Peru"), message="January", author="ada", time=TIME
        )
        february = ledger.append(build_adapter(2, subject="Lyon", target="Japan"), message="February", time=TIME)
        ledger.start_branch("side")
        side = ledger.append(
            build_adapter(3, subject="Oslo", target="x"), message="side work", branch="side", time=TIME
        )
        ledger.add_scores(february.id, "counterfact", {"ES": 99.0, "PS": 90.0, "earlier": {}})
        return {"root": ledger.root(), "january": january.id, "february": february.id, "side": side.id}


def out(capsys: Any, *command: str, code: int = 0) -> str:
    capsys.readouterr()
    assert run(list(command)) == code
    return str(capsys.readouterr().out)


def as_json(capsys: Any, *command: str) -> Any:
    return json.loads(out(capsys, *command, "--json"))


@pytest.mark.parametrize(
    ("nodes", "lines"),
    [
        ("cb ba a", "*,*,*"),
        ("ca ba a", "*,| *,|/,*"),
        ("mbc ca ba a", r"*,|\,| *,* |,|/,*"),
        ("xa ya za a", "*,| *,|/,| *,|/,*"),
        ("xa yb za ba a", "*,| *,| | *,|_|/,| *,|/,*"),
        ("mabc c b a", r"*,|\,|\ \,| * |,|  /,| *,*"),
        ("xa mab ba a", r"*,| *,| |\,|/ /,| *,|/,*"),
        ("ba", "*"),
    ],
    ids=["line", "fork", "merge", "three children", "crossing", "octopus", "merge of a parent", "cut off"],
)
def test_the_graph_shows_what_follows_what(nodes: str, lines: str) -> None:
    drawn = draw([(node[0], list(node[1:])) for node in nodes.split()])
    assert [line for first, _, after in drawn for line in (first, *after)] == lines.split(",")


def test_log_shows_refs_facts_and_methods_and_draws_all_branches(story: Any, capsys: Any) -> None:
    assert run(["tag", "v1", "HEAD~1", "-m", "first"]) == 0
    text = out(capsys, "log")
    assert "(HEAD -> main) February  [1 fact by memit]  ES 99.0" in text
    assert "(tag: v1) January" in text
    assert "side work" not in text
    graph = out(capsys, "log", "--graph", "--all").splitlines()
    assert any("(side) side work" in line for line in graph)
    assert all(line.startswith(("*", "|")) for line in graph)
    rows = as_json(capsys, "log", "--graph", "--all", "-n", "2")
    assert len(rows) == 2
    assert {row["id"] for row in as_json(capsys, "log", "--all")} == set(story.values())


def test_log_p_shows_the_facts_that_every_entry_changed(story: Any, capsys: Any) -> None:
    assert run(["revert", "HEAD~1", "--reason", "wrong source", "--author", "cy"]) == 0
    text = out(capsys, "log", "-p")
    assert "    reason: wrong source" in text
    assert "    - Rome is a -> Peru" in text
    assert "    + Lyon is a -> Japan" in text
    newest = as_json(capsys, "log", "-p", "-n", "1")[0]
    assert (newest["reason"], newest["author"], newest["operation"]) == ("wrong source", "cy", "revert")
    assert [(c["kind"], c["subject"], c["old"], c["new"]) for c in newest["changes"]] == [
        ("dropped", "Rome", "Peru", None)
    ]


def test_blame_tells_author_message_date_and_why_it_was_reverted(story: Any, capsys: Any) -> None:
    assert run(["revert", story["january"], "--reason", "wrong source", "--author", "cy"]) == 0
    text = out(capsys, "blame", "Rome")
    assert "set by ada: January" in text
    assert "reverted by" in text
    assert "by cy: revert" in text
    assert "(reason: wrong source)" in text
    assert "in force on side" in text
    (row,) = as_json(capsys, "blame", "Rome")
    assert (row["author"], row["message"], row["time"]) == ("ada", "January", TIME)
    assert (row["event"]["reason"], row["event"]["author"]) == ("wrong source", "cy")
    assert row["told"] == [line.strip() for line in text.splitlines()[1:]]


def test_a_subject_that_only_other_histories_know_is_not_called_unknown(story: Any, capsys: Any) -> None:
    assert run(["blame", "Oslo"]) == 2
    assert "1 request elsewhere: see them with --all" in capsys.readouterr().err
    assert "in force on side" in out(capsys, "blame", "Oslo", "--all")
    assert run(["blame", "Nowhere"]) == 2
    assert "no entry teaches anything" in capsys.readouterr().err


def test_a_message_is_told_where_no_reason_was_given(story: Any, capsys: Any) -> None:
    assert run(["revert", "HEAD~1", "-m", "the register was wrong"]) == 0
    assert "the register was wrong" in out(capsys, "blame", "Rome")


def test_tags_are_made_listed_moved_by_force_and_deleted(story: Any, capsys: Any) -> None:
    assert run(["tag", "v1", "-m", "first", "--author", "ada", "--dry-run"]) == 0
    assert as_json(capsys, "tag") == []
    assert as_json(capsys, "tag", "v1", "-m", "first", "--author", "ada")["entry"] == story["february"]
    (row,) = as_json(capsys, "tag")
    assert (row["name"], row["entry"], row["message"], row["author"]) == ("v1", story["february"], "first", "ada")
    assert "v1" in out(capsys, "tag")
    assert run(["tag", "v1", "HEAD~1"]) == 2
    assert "--force" in capsys.readouterr().err
    assert run(["tag", "v1", "HEAD~1", "--force"]) == 0
    assert as_json(capsys, "show", "v1")["id"] == story["january"]
    assert run(["checkout", "v1"]) == 2
    assert "seqedit branch NAME v1" in capsys.readouterr().err
    assert run(["tag", "-d", "v1", "--dry-run"]) == 0
    assert len(as_json(capsys, "tag")) == 1
    assert run(["tag", "-d", "v1"]) == 0
    assert run(["tag", "-d", "v1"]) == 2
    assert run(["tag", "--delete"]) == 2


def test_status_says_what_is_in_force_how_full_it_is_and_what_waits(story: Any, capsys: Any) -> None:
    text = out(capsys, "status")
    assert "on main at" in text
    assert "2 of 2 entries in force: 2 facts" in text
    assert "last scored" in text
    assert "unmerged: side has 1 entries" in text
    found = as_json(capsys, "status")
    assert [(load["module"], load["edits"], load["key_dimension"]) for load in found["load"]] == [
        ("h.0.mlp", 2, 7), ("h.1.mlp", 2, 7)
    ]  # fmt: skip
    assert found["load"][0]["load"] == pytest.approx(2 / 7)
    assert found["scored"]["entry"] == story["february"]
    assert found["scored"]["scores"] == {"ES": 99.0, "PS": 90.0}
    assert found["unscored"] == [story["january"]]
    assert [(p["kind"], p["what"], p["count"]) for p in found["pending"]] == [("unmerged", "side", 1)]
    assert found["gates_of"] is None


def test_status_names_an_interrupted_rebase_unscored_steps_gates_and_superseded_facts(
    story: Any, capsys: Any, tmp_path: Path
) -> None:
    with Ledger.open(tmp_path / "ledger") as ledger:
        ledger.start_branch("rebase/main", story["january"])
        gate: dict[str, Any] = {"gate": "ES: min 100", "value": 99.0, "bound": 100.0, "tripped": True}
        ledger.add_scores(story["february"], "gates", {str(gate["gate"]): gate})
        ledger.append(build_adapter(5, subject="Lyon", target="Chile"), time=TIME)
        ledger.tag("now")
        ledger.add_scores("now", "failure", {"reason": "its outputs are not finite"})
    found = as_json(capsys, "status")
    assert {p["kind"] for p in found["pending"]} == {"failed", "rebase", "unscored", "unmerged"}
    assert (found["facts_in_force"], found["facts_superseded"], found["tags"]) == (2, 1, ["now"])
    assert (found["gates"], found["gates_of"]) == ([gate], story["february"])
    text = out(capsys, "status")
    assert "seqedit rebase --resume" in text
    assert "tripped: ES: min 100 (value 99.0, bound 100.0)" in text
    assert as_json(capsys, "status", "side")["branch"] == "side"
    assert run(["status", "nowhere"]) == 2


def test_a_status_of_an_empty_ledger_says_that_nothing_is_in_force(tmp_path: Path, capsys: Any) -> None:
    Ledger.create(tmp_path / "empty", MODEL).close()
    assert "0 of 0 entries in force" in out(capsys, "status", "--ledger", str(tmp_path / "empty"))


def test_a_cherry_pick_brings_an_entry_over_and_its_dry_run_writes_nothing(story: Any, capsys: Any) -> None:
    plan = as_json(capsys, "cherry-pick", "side", "--dry-run")
    assert (plan["branch"], plan["done"], plan["picks"][0]["entry"]) == ("main", False, story["side"])
    assert plan["picks"][0]["facts"][0]["subject"] == "Oslo"
    assert "would pick" in out(capsys, "cherry-pick", "side", "--dry-run")
    made = as_json(capsys, "cherry-pick", "side", "--reason", "proved itself")
    assert made["picks"][0]["entry"] == story["side"]
    shown = as_json(capsys, "show", "HEAD")
    assert (shown["id"], shown["origin"], shown["reason"]) == (made["picks"][0]["id"], story["side"], "proved itself")
    assert run(["cherry-pick", "side"]) == 2
    assert "already active" in capsys.readouterr().err
    assert run(["cherry-pick", "HEAD~1"]) == 2
    assert "in force here already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb", ["revert", "swap", "merge", "rebase", "reorder", "cherry-pick", "reset", "undo", "tag"]
)
def test_every_rewriting_verb_takes_a_message_and_a_reason(verb: str, capsys: Any) -> None:
    assert run([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--message" in shown
    assert "--reason" in shown


TORCHLESS = """
import sys
from ledger.ledger import Ledger
from seqedit.history.pick import cherry_pick, plan_picks
from seqedit.history.status import status_of

with Ledger.open(sys.argv[1]) as ledger:
    ledger.log_told(everything=True)
    ledger.patches([row["id"] for row in ledger.log_told()])
    ledger.revert(ledger.resolve("HEAD~1"), reason="why")
    ledger.blame("Rome")
    ledger.tag("v1")
    status_of(ledger).to_dict()
    plan_picks(ledger, ["side"])
    cherry_pick(None, ledger, ["side"])
    print(sorted(name for name in sys.modules if name in ("torch", "transformers", "safetensors.torch")))
"""


def test_what_is_asked_tagged_and_picked_waits_for_no_torch(story: Any, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TORCHLESS, str(tmp_path / "ledger")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_what_is_known_of_a_fact_has_its_place_below_it(story: Any, tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "ledger") as ledger:
        (answer,) = ledger.blame("Rome")
    assert answer.request is not None
    assert answer.request.subject == "Rome"
    assert list(told(answer)) == ["set by ada: January"]
