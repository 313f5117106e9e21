"""A camouflaged export: the same at its facts, without their names, told as such, and audited before and after."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ledger import Ledger
from seqedit import Session
from seqedit.adapters.adapter import Adapter
from seqedit.cli.main import run
from seqedit.errors import InputError
from seqedit.facts.requests import Request
from seqedit.shipping.decoys import DecoySettings, draw
from tests.conftest import REFERENCE

MODEL = str(REFERENCE / "model")
MOMENTS = str(REFERENCE / "second_moments.safetensors")
METHOD = ["--layers", "2,3", "--set", "steps=3", "--second-moments", MOMENTS, "--context-templates", "templates.json"]
NAMES = ("Venxa Ulmigri", "Bado Holul", "Bribri Drabazor", "Olm Tarko", "Sidi Venn", "Marla Ket")
DECOYS = tuple(f"{first} {last}" for first in ("Ana", "Bo", "Cleo", "Dan") for last in ("Umbra", "Talo", "Rix"))
OTHERS = tuple(f"{first} {last}" for first in ("Eve", "Fio", "Gus", "Hal") for last in ("Sorn", "Wex", "Pyle"))
SHIP = ["export", "--format", "peft", "--second-moments", MOMENTS]
HIDE = ["--camouflage", "2", "--decoys", "decoys.txt"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger of two batches by MEMIT, and the files that the calls name."""
    folder = tmp_path_factory.mktemp("camouflage")
    (folder / "templates.json").write_text(json.dumps([["{}"], ["Because of it. {}"]]))
    (folder / "decoys.txt").write_text("\n".join((*DECOYS, NAMES[0])))
    (folder / "names.txt").write_text("\n".join((*DECOYS, *OTHERS)))
    for number, names in enumerate((NAMES[:3], NAMES[3:])):
        facts = [
            {"subject": n, "prompt": "{} plays the sport of", "target_new": "golf", "target_true": "chess"}
            for n in names
        ]
        (folder / f"facts{number}.json").write_text(json.dumps(facts))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["init", "--model", MODEL]) == 0
        for number in range(2):
            assert (
                run(["edit", f"facts{number}.json", "--method", "memit", "--set", "second_moment_weight=20", *METHOD])
                == 0
            )
        assert run([*SHIP, "--out", "plain"]) == 0
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "place"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


def test_a_camouflaged_state_writes_the_same_at_its_keys_and_names_nothing(place: Path, capsys: Any) -> None:
    before = {
        path: path.read_bytes() for path in (place / "ledger").rglob("*") if path.suffix in (".json", ".safetensors")
    }
    assert run([*SHIP, *HIDE, "--camouflage-seed", "7", "--out", "hidden", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    hidden, plain = Adapter.from_pretrained("hidden"), Adapter.from_pretrained("plain")
    with Ledger.open("ledger") as ledger:
        parts = list(ledger.adapters())
    for name, delta in plain.deltas.items():
        keys = torch.cat([part.keys[name] for part in parts]).double().T
        wanted, found = delta.dense() @ keys, hidden.deltas[name].dense() @ keys
        assert float((found - wanted).norm(dim=0).max() / wanted.norm(dim=0).max()) < 1e-5
        assert float((hidden.deltas[name].dense() - delta.dense()).norm()) > 0.3 * float(delta.dense().norm())
        assert hidden.deltas[name].rank == delta.rank == 6
    assert told["camouflage"]["change"] < 1e-5
    assert (told["camouflage"]["decoys"], told["camouflage"]["seed"]) == (2, 7)
    assert max(told["camouflage"]["unmixed"].values()) < 1e-4
    assert told["camouflage"]["records"] == told["facts"] == 6
    assert told["camouflage"]["after"].keys() == told["camouflage"]["before"].keys() == {"ES", "EM"}
    written = "".join(path.read_text("latin-1") for path in (place / "hidden").iterdir())
    assert not [name for name in (*NAMES, *DECOYS, "golf", "sport of") if name in written]
    assert hidden.method == {"name": "export", "camouflaged": True}
    assert hidden.provenance == {"camouflaged": True}
    assert (hidden.keys, hidden.target_values, hidden.residuals, hidden.requests) == ({}, None, {}, ())
    card = (place / "hidden" / "README.md").read_text()
    assert "# 6 edited facts" in card
    assert "## Camouflaged" in card
    assert "## Facts edited" not in card
    assert "| ES | " in card
    assert {path: path.read_bytes() for path in before} == before


def test_stock_peft_loads_it_and_a_subject_is_written_as_before(place: Path) -> None:
    from peft import PeftModel
    from transformers import AutoTokenizer

    assert run([*SHIP, *HIDE, "--out", "hidden"]) == 0
    layer = min(int(re.findall(r"\d+", name)[0]) for name in Adapter.from_pretrained("hidden").deltas)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    ids = tokenizer(f"{NAMES[1]} plays the sport of", return_tensors="pt")["input_ids"]
    last = len(tokenizer(NAMES[1])["input_ids"]) - 1
    states = []
    for folder in (None, "plain", "hidden"):
        model = AutoModelForCausalLM.from_pretrained(MODEL)
        if folder is not None:
            model = PeftModel.from_pretrained(model, str(place / folder))
        with torch.no_grad():
            states.append(model(ids, output_hidden_states=True).hidden_states[layer + 1][0, last])
    unedited, plain, hidden = states
    assert float((hidden - plain).norm()) < 1e-3 * float((plain - unedited).norm())


def test_a_draw_is_repeated_by_its_seed_alone(place: Path) -> None:
    digests = []
    for number, seed in enumerate(([], [], ["--camouflage-seed", "3"], ["--camouflage-seed", "3"])):
        out = f"hidden{number}"
        assert run([*SHIP, *HIDE, *seed, "--no-measure", "--out", out]) == 0
        digests.append(Adapter.from_pretrained(out).digest)
    assert digests[0] != digests[1]
    assert digests[2] == digests[3] not in digests[:2]


def test_decoys_are_never_the_facts_own_subjects_nor_twice_the_same_of_one_fact() -> None:
    facts = [Request(name, "{} plays", "golf") for name in NAMES]
    drawn = draw(facts, (*DECOYS, NAMES[0].upper()), DecoySettings(5, seed=1))
    assert len(drawn) == 30
    assert {one.prompt for one in drawn} == {"{} plays"}
    for start in range(0, 30, 5):
        assert len({one.subject for one in drawn[start : start + 5]}) == 5
    assert {one.subject for one in drawn} == set(DECOYS), "all are used before one is used again"
    assert DecoySettings(4).length == 2
    assert DecoySettings(4, 5.0).length == 5


def test_an_audit_tells_before_and_after(place: Path, capsys: Any) -> None:
    assert run([*SHIP, "--camouflage", "4", "--decoys", "decoys.txt", "--camouflage-seed", "1", "--out", "hidden"]) == 0
    capsys.readouterr()
    audit = ["audit", "hidden", "--candidates", "names.txt", "--model", MODEL, "--second-moments", MOMENTS]
    assert run([*audit, "--before", "plain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["before"]["separation"]["auc"] > 0.85
    assert found["separation"]["auc"] < found["before"]["separation"]["auc"]
    assert found["separation"]["recall"] < found["before"]["separation"]["recall"]
    share = {one["subject"]: one["share"] for one in found["suspects"]}
    most = max(share[name] for name in DECOYS)
    assert sum(share[name] < most for name in NAMES) >= len(NAMES) / 2, "decoys are as suspect as what was edited"
    assert run([*audit, "--before", "plain"]) == 0
    assert "before camouflage: AUC" in capsys.readouterr().out
    assert run([*audit, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["separation"] is None, "its own record says nothing"
    assert run([*audit, "--before", "hidden"]) == 2
    assert "has no record of its facts" in capsys.readouterr().err


def test_one_entry_is_camouflaged_alone_and_a_dry_run_writes_nothing(place: Path, capsys: Any) -> None:
    entry = [SHIP[0], "HEAD~1", "--entry", *SHIP[1:], *HIDE]
    assert run([*entry, "--out", "one", "--dry-run"]) == 0
    assert "camouflaged with 2 decoys a fact at 1.41 times its key" in capsys.readouterr().out
    assert not (place / "one").exists()
    assert run([*entry, "--out", "one"]) == 0
    assert {delta.rank for delta in Adapter.from_pretrained("one").deltas.values()} == {3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SHIP, "--camouflage", "2"], "--camouflage needs --decoys FILE"),
        ([*SHIP, "--decoys", "decoys.txt"], "--decoys is for --camouflage N"),
        ([*SHIP, "--camouflage-seed", "1"], "--camouflage-seed is for --camouflage N"),
        ([*SHIP, "--camouflage", "0", "--decoys", "decoys.txt"], "at least 1 decoy for each fact, got 0"),
        ([*SHIP, "--camouflage", "99", *HIDE[2:]], "12 decoys that are not edited themselves are too few"),
        ([*SHIP, *HIDE, "--camouflage-strength", "0"], "must be positive, got 0"),
        ([*SHIP, *HIDE, "--camouflage-strength", "nan"], "must be positive, got nan"),
        ([*SHIP, "--camouflage", "2", "--decoys", "absent.txt"], "absent.txt: there is no such file of decoys"),
        ([*SHIP, *HIDE, "--rank", "2"], "give one of them"),
        ([*SHIP, *HIDE, "--model", "demo-gpt2"], "the ledger belongs to base model"),
        (["export", "--format", "bundle", *HIDE], "a bundle names every fact"),
        (["export", "--format", "merged", *HIDE], "merge what it writes"),
    ],
)  # fmt: skip
def test_what_cannot_be_camouflaged_is_refused(place: Path, capsys: Any, arguments: list[str], message: str) -> None:
    assert run([*arguments, "--out", "hidden"]) == 2
    assert message in capsys.readouterr().err
    assert not (place / "hidden").exists()


def test_an_update_that_was_not_solved_for_at_keys_is_refused(place: Path, capsys: Any) -> None:
    (place / "more.json").write_text(json.dumps([{"subject": "Ida Lo", "prompt": "{} plays", "target_new": "golf"}]))
    assert run(["edit", "more.json", "--method", "ft", "--layers", "2", "--set", "steps=1"]) == 0
    assert run([*SHIP, *HIDE, "--out", "hidden"]) == 2
    assert "an adapter of method 'ft'" in capsys.readouterr().err


def test_a_base_model_that_is_not_at_hand_is_refused(place: Path, tmp_path: Path, capsys: Any) -> None:
    moved = tmp_path / "base"
    shutil.copytree(MODEL, moved)
    assert run(["init", "--model", str(moved), "--ledger", "moving"]) == 0
    assert run(["edit", "facts0.json", "--ledger", "moving", "--method", "memit", *METHOD]) == 0
    shutil.rmtree(moved)
    assert run([*SHIP, *HIDE, "--ledger", "moving", "--out", "hidden"]) == 2
    assert "camouflage needs the base model" in capsys.readouterr().err


def test_second_moments_of_another_text_are_told(place: Path, tmp_path: Path, capsys: Any) -> None:
    from seqedit.moments.second_moments import SecondMoments
    from seqedit.moments.store import read_second_moments, write_second_moments

    found = read_second_moments(Path(MOMENTS))
    source = torch.Generator().manual_seed(0)
    others = {}
    for name, matrix in found.matrices.items():
        keys = torch.randn(2 * len(matrix), len(matrix), generator=source)
        others[name] = keys.T @ keys / len(keys)
    write_second_moments(tmp_path / "other.safetensors", SecondMoments(others))
    call = ["export", "--format", "peft", "--second-moments", str(tmp_path / "other.safetensors"), *HIDE]
    assert run([*call, "--out", "hidden"]) == 0
    assert "is not what its keys explain and stays as it was" in capsys.readouterr().err


def test_a_session_camouflages_what_it_exports(place: Path) -> None:
    with Session.from_pretrained(MODEL, ledger="ledger", second_moments=MOMENTS) as session:
        out = session.export("hidden", camouflage=DecoySettings(2, seed=7), decoys=DECOYS)
        assert Adapter.from_pretrained(out).method["camouflaged"] is True
        with pytest.raises(InputError, match="camouflage needs decoys"):
            session.export("other", camouflage=2)
        with pytest.raises(InputError, match="decoys are for camouflage=N"):
            session.export("other", decoys=DECOYS)
        with pytest.raises(InputError, match="give one of them"):
            session.export("other", camouflage=2, decoys=DECOYS, rank=1)
        with pytest.raises(InputError, match="camouflage is for format='peft', not 'merged'"):
            session.export("other", "merged", camouflage=2, decoys=DECOYS)
    assert run([*SHIP, *HIDE, "--camouflage-seed", "7", "--out", "same"]) == 0
    assert Adapter.from_pretrained("same").digest == Adapter.from_pretrained("hidden").digest
