"""Settings that nobody gave are those of the model at hand, by rule; a preset of another model warns."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger import Ledger
from seqedit import InputError, Session
from seqedit.adapters.adapter import Adapter
from seqedit.cli.main import run
from seqedit.editing.editor import Editor
from seqedit.editing.preset_model import Shape, preset_for, preset_warning
from seqedit.editing.rule import RULE_SHARE, settle
from seqedit.editing.settings import PRESETS, given_settings, method_config, preset_names
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from seqedit.moments.providing import SecondMomentSettings, moments_provider
from seqedit.support.files import read_mapping

FACTS = [
    {"subject": name, "prompt": "{} professionally plays the sport of", "target_new": "golf", "target_true": "rowing"}
    for name in ("Venxa Ulmigri", "Bado Holul", "Bribri Drabazor", "Olm Tarko")
]


@pytest.fixture
def place(tmp_path: Path, llama: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that no preset knows, facts, and a text."""
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    for part in llama:
        part.save_pretrained(tmp_path / "model")
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, FACTS)))
    words = [
        "golf",
        "rowing",
        "sport",
        "name",
        "city",
        "river",
        "known",
        "people",
        "heard",
        "many",
        "which",
        "year",
        "music",
        "north",
        "south",
        "long",
    ]
    lines = [" ".join(words[(i * j + i) % 16] for j in range(1, 14)) for i in range(1, 400)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    return tmp_path


def edit(place: Path, out: str, *more: str, method: str = "memit", facts: str = "facts.jsonl") -> int:
    return run([
        "edit", "--model", str(place / "model"), "--requests", str(place / facts), "--method", method,
        "--text", str(place / "text.txt"), "--out", str(place / out), "--set", "steps=4",
        "--set", "shrinkage=0.1", *more,
    ])  # fmt: skip


def editor(place: Path) -> Editor:
    edited = EditedModel(*load_model(str(place / "model")))
    return Editor(edited, moments_provider(edited, SecondMomentSettings(text=str(place / "text.txt"))))


def test_a_model_that_no_preset_knows_is_edited_by_rule_which_is_said_and_recorded(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edit(place, "out", "--json") == 0
    said = capsys.readouterr()
    adapter = Adapter.from_pretrained(place / "out")
    ruled = adapter.provenance["by_rule"]
    assert set(ruled) == {"layers", "learning_rate", "second_moment_weight", "clamp_norm_factor"}
    assert {name: adapter.method[name] for name in ruled} == ruled
    line = (
        f"no preset knows this model: learning_rate {ruled['learning_rate']:g}, second_moment_weight "
        f"{ruled['second_moment_weight']:g}, layers 0,1 by rule; seqedit tune finds better"
    )
    assert line in said.err.splitlines()
    assert json.loads(said.out)["by_rule"] == ruled
    assert ruled["layers"] == [0, 1]  # a sixth of four layers, and up to two before it


def test_the_rule_is_the_model_s_whatever_is_edited_and_the_ledger_holds(place: Path) -> None:
    (place / "other.jsonl").write_text(json.dumps({**FACTS[0], "subject": "Sidi Venn", "target_new": "music"}))
    assert edit(place, "one") == 0
    assert edit(place, "two", facts="other.jsonl") == 0
    one, two = (Adapter.from_pretrained(place / name).provenance["by_rule"] for name in ("one", "two"))
    assert one == two
    with Session.from_pretrained(place / "model", ledger=place / "ledger", text=str(place / "text.txt")) as session:
        found = [session.edit(place / name, "memit", steps=4, shrinkage=0.1) for name in ("facts.jsonl", "other.jsonl")]
        assert [session.ledger.adapter(e).provenance["by_rule"] for e in found] == [one, one]


def test_what_is_given_is_untouched_by_the_rule(place: Path) -> None:
    assert edit(place, "out", "--layers", "2", "--set", "second_moment_weight=7") == 0
    adapter = Adapter.from_pretrained(place / "out")
    assert adapter.method["layers"] == [2]
    assert adapter.method["second_moment_weight"] == 7
    assert set(adapter.provenance["by_rule"]) == {"learning_rate", "clamp_norm_factor"}
    (place / "mine.json").write_text('{"layers": [1], "v_lr": 0.2}')
    assert edit(place, "whole", "--hparams", str(place / "mine.json")) == 0
    assert "by_rule" not in Adapter.from_pretrained(place / "whole").provenance
    assert Adapter.from_pretrained(place / "whole").method["second_moment_weight"] == 15_000


@pytest.mark.parametrize(
    ("method", "setting"), [("memit", "second_moment_weight"), ("alphaedit", "l2"), ("evoedit", "l2")]
)
def test_the_rule_s_weight_writes_the_share_it_promises_of_a_lone_fact(place: Path, method: str, setting: str) -> None:
    more = {"nullspace_threshold": 1e9} if method in ("alphaedit", "evoedit") else {}
    found = settle(
        given_settings(method, settings={"layers": [1], "shrinkage": 0.1, "steps": 3, **more}), editor(place)
    )
    assert setting in found.by_rule
    shares = []
    for number in range(len(FACTS)):
        (place / "lone.jsonl").write_text(json.dumps(FACTS[number]))
        given = [f"--set={name}={value}" for name, value in more.items()]
        assert edit(place, f"lone{number}", "--layers", "1", *given, method=method, facts="lone.jsonl") == 0
        shares += Adapter.from_pretrained(place / f"lone{number}").provenance["diagnosis"]["written"].values()
    # The median over the rule's own subjects; these facts' subjects are others.
    assert all(0.6 < share < 1 for share in shares)
    assert abs(sum(shares) / len(shares) - RULE_SHARE) < 0.15


def test_larger_hidden_states_get_a_larger_rate(place: Path, llama: tuple[Any, Any]) -> None:
    import copy

    import torch

    model = copy.deepcopy(llama[0])
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(50)
    text = SecondMomentSettings(text=str(place / "text.txt"))
    rates = []
    for one in (llama[0], model):
        edited = EditedModel(one, llama[1], name="tiny")
        settled = settle(
            given_settings("memit", settings={"shrinkage": 0.1}), Editor(edited, moments_provider(edited, text))
        )
        rates.append(settled.by_rule["learning_rate"])
    assert rates[1] > 5 * rates[0]


def test_a_dry_run_names_what_waits_for_the_rule(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert edit(place, "out", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["by_rule"] == ["learning_rate", "second_moment_weight", "clamp_norm_factor"]
    assert plan["layers"] == [0, 1]
    assert plan["settings"]["learning_rate"] is None
    assert not (place / "out").exists()


def test_a_method_that_the_rule_is_not_for_still_asks_for_layers(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="no layers to edit were given for method 'ft'"):
        settle(given_settings("ft"), editor(place))


def test_a_model_that_a_preset_knows_has_the_preset_s_settings_where_nothing_was_chosen() -> None:
    edited = EditedModel(*load_model("demo-llama"), name="anything")
    settled = settle(given_settings("memit"), Editor(edited, None))
    assert settled.config == method_config("memit", preset="demo-llama")
    assert settled.provenance() == {"preset": "demo-llama"}
    assert settled.notes == ("settings of preset 'demo-llama', which knows this model",)
    chosen = settle(given_settings("memit", layers="1"), Editor(edited, None))
    assert chosen.config == method_config("memit", layers="1")
    assert "--preset demo-llama" in chosen.notes[0]


def test_every_shipped_preset_says_which_model_it_was_made_for() -> None:
    shapes = [read_mapping(PRESETS / f"{name}.yaml")["model"] for name in preset_names()]
    assert all(set(shape) == {"hidden_size", "num_layers", "ffn", "vocabulary"} for shape in shapes)
    for name in ("demo-gpt2", "demo-llama"):
        parts = EditedModel(*load_model(name)).parts
        assert preset_for(parts) == name
        assert preset_warning(name, parts, name) is None


def test_a_preset_of_another_model_warns_once_and_names_both(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    given = ["--layers", "1", "--set", "second_moment_weight=5"]
    assert edit(place, "out", "--preset", "llama-3-8b", *given) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "llama-3-8b" in line]
    assert line.startswith("warning: ")
    assert str(place / "model") in line
    assert "width 4,096" in line
    assert "width 32" in line
    assert "seqedit tune" in line
    assert edit(place, "dry", "--preset", "llama-3-8b", *given, "--dry-run") == 0
    assert "was made for 'llama-3-8b'" in capsys.readouterr().err
    with Session.from_pretrained(place / "model", ledger=place / "l", text=str(place / "text.txt")) as session:
        with caplog.at_level(logging.WARNING):
            session.edit(
                place / "facts.jsonl", "memit", preset="llama-3-8b", layers=[1], steps=3, shrinkage=0.1,
                second_moment_weight=5,
            )  # fmt: skip
        assert sum("was made for 'llama-3-8b'" in r.getMessage() for r in caplog.records) == 1
    with Ledger.open(place / "l") as ledger:
        assert "by_rule" not in ledger.adapter("HEAD").provenance


def test_a_run_with_a_preset_of_another_model_warns(
    place: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "run.yaml").write_text(yaml.safe_dump({
        "model": "model", "facts": "facts.jsonl", "method": "memit", "preset": "gpt2-xl", "batch_size": 4,
        "settings": {"layers": [1], "spread": "single", "steps": 3, "shrinkage": 0.1},
        "second_moments": {"text": "text.txt"}, "out": "out",
    }))  # fmt: skip
    with caplog.at_level(logging.WARNING):
        assert run(["run", str(place / "run.yaml")]) == 0
    assert sum("was made for 'gpt2-xl'" in r.getMessage() for r in caplog.records) == 1


def test_a_preset_file_may_name_some_sizes_of_its_model_and_what_is_not_understood_is_refused(
    place: Path, llama: tuple[Any, Any]
) -> None:
    parts, file = EditedModel(*llama).parts, place / "mine.yaml"
    for model, fits in (
        ({"num_layers": 4}, True), ({"num_layers": 5, "name": "other"}, False), ({"vocabulary": 2050}, True),
        ({"vocabulary": 4096}, False), ({"fingerprint": "a" * 64}, True),
    ):  # fmt: skip
        file.write_text(yaml.safe_dump({"model": model, "common": {"layers": [1]}}))
        warning = preset_warning(str(file), parts, "tiny")
        assert (warning is None) == fits
        assert warning is None or str(model.get("name", "mine")) in warning
    for bad, message in (
        ("tiny", "'model' must be a mapping"), ({"width": 4}, "unknown field 'model.width'"),
        ({"ffn": "wide"}, "'model.ffn' must be a positive whole number"),
    ):  # fmt: skip
        file.write_text(yaml.safe_dump({"model": bad, "common": {"layers": [1]}}))
        with pytest.raises(InputError, match=message):
            preset_warning(str(file), parts, "tiny")
    assert Shape.of(parts).to_dict() == {"hidden_size": 32, "num_layers": 4, "ffn": 96, "vocabulary": 2048}
