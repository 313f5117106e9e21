"""`seqedit benchmark`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.answers.answers import Asking
from seqedit import demo
from seqedit.cases.mquake import load_mquake
from seqedit.cli.main import run
from seqedit.comparing.case_sets import Edits, run_mquake, run_real_life
from seqedit.editing.settings import method_config
from seqedit.errors import InputError, RequestError
from seqedit.facts.loading import load_records
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from tests.conftest import REFERENCE

MODEL = str(REFERENCE / "model")
MOMENTS = REFERENCE / "second_moments.safetensors"
CASE = REFERENCE / "multi_layer_batch8"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of all three benchmarks, and the reference case's hyperparameters."""
    folder = tmp_path_factory.mktemp("benchmark")
    world = demo.world()
    case = json.loads((CASE / "case.json").read_text())
    for name, rows in (
        ("mquake", demo.mquake_cases(world)[:4]),
        ("ripple", demo.ripple_cases(world)[:3]),
        ("real-life", case["records"][:2]),
        ("hparams", case["hparams"]),
    ):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def arguments(files: Path, name: str, *more: str) -> list[str]:
    return [
        "benchmark",
        name,
        "--model",
        MODEL,
        "--records",
        str(files / f"{name}.json"),
        "--max-new-tokens",
        "8",
        *more,
    ]


def editing(files: Path, *more: str) -> list[str]:
    return ["--method", "emmet", "--hparams", str(files / "hparams.json"), "--second-moments", str(MOMENTS), *more]


def test_unedited_model_has_one_column_and_a_readable_table(files: Path, capsys: Any) -> None:
    for name, words in (
        ("mquake", ("multi-hop", "old answers")),
        ("ripple", ("Compositionality_II", "the edit itself")),
        ("real-life", ("forced, per token", "real life, exact")),
    ):
        assert run(arguments(files, name)) == 0
        out = capsys.readouterr().out
        assert all(word in out for word in words)
        assert "\nedited model" not in out
        assert "\nafter" not in out


def test_real_life_scores_both_ways_before_and_after_the_edits(files: Path, capsys: Any) -> None:
    assert run(arguments(files, "real-life", *editing(files), "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    before, after = found["before"], found["after"]
    assert before["EM"]["value"] < 100 == after["EM"]["value"]
    for metric in ("ER", "EC", "PR", "NR", "ET", "NM"):
        assert set(after[metric]) == {"value", "ci_low", "ci_high", "count"}
    assert after["records"][0]["rewrite"][0]["answer"] != before["records"][0]["rewrite"][0]["answer"]
    assert 0 <= found["unchanged"]["value"] <= 100


def test_mquake_and_ripple_edit_their_own_cases_in_batches(files: Path, capsys: Any) -> None:
    for name, match in (("mquake", "exact"), ("ripple", "contained")):
        assert run(arguments(files, name, *editing(files, "--set", "steps=2", "--batch-size", "2"), "--json")) == 0
        found = json.loads(capsys.readouterr().out)
        assert "before" in found[match]
        assert "after" in found[match]
    assert found["cases"] == 3


def test_adapters_are_scored_as_they_are(files: Path, tmp_path: Path, capsys: Any) -> None:
    edit = ["edit", "--model", MODEL, "--requests", str(files / "real-life.json"), "--out", str(tmp_path / "a")]
    assert run([*edit, *editing(files)]) == 0
    capsys.readouterr()
    assert run(arguments(files, "real-life", "--adapter", str(tmp_path / "a"), "--json")) == 0
    by_adapter = json.loads(capsys.readouterr().out)
    assert run(arguments(files, "real-life", *editing(files), "--json")) == 0
    assert json.loads(capsys.readouterr().out)["after"]["records"] == by_adapter["after"]["records"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--preset", "gpt2-xl"], "need --method"),
        (["--batch-size", "0", "--method", "ft", "--preset", "demo-llama"], "batch size must be at least 1"),
        (["--template", "no slot"], "exactly one"),
        (["--demonstrations", "absent.txt"], "absent.txt"),
    ],
)
def test_wrong_options_are_named(more: list[str], message: str, files: Path, capsys: Any) -> None:
    assert run(arguments(files, "mquake", *more)) in (2, 3)
    assert message in capsys.readouterr().err


def test_unknown_benchmarks_and_templates_for_ripple_are_refused(files: Path, capsys: Any) -> None:
    assert run(["benchmark", "glue", "--model", MODEL, "--records", "x.json"]) == 2
    assert "known: mquake, ripple, real-life" in capsys.readouterr().err
    assert run(arguments(files, "ripple", "--template", "qa")) == 2
    assert "not for them" in capsys.readouterr().err


def test_cases_that_cannot_be_used_are_left_out_aloud(files: Path, tmp_path: Path, capsys: Any) -> None:
    rows = json.loads((files / "ripple.json").read_text())
    del rows[1]["edit"]["target_id"]
    (tmp_path / "ripple.json").write_text(json.dumps(rows))
    assert run(arguments(tmp_path, "ripple", "--json")) == 0
    out, err = capsys.readouterr()
    assert "record 2" in err
    assert json.loads(out)["cases"] == 2
    assert len(json.loads(out)["left_out"]) == 1


def test_the_model_is_unedited_again_after_a_run_and_after_an_error(files: Path) -> None:
    edited = EditedModel(*load_model(MODEL), name=MODEL)
    before = {name: value.clone() for name, value in edited.model.state_dict().items()}
    config = method_config("emmet", hparams=files / "hparams.json", assignments=["steps=2"])
    edits = Edits(method="emmet", config=config, batch_size=1, second_moments=MOMENTS)
    records = load_records(files / "real-life.json")
    run_real_life(edited, records, edits, Asking(max_new_tokens=4))
    assert all(torch.equal(value, before[name]) for name, value in edited.model.state_dict().items())


def test_contradicting_cases_are_refused_before_any_edit(files: Path, tmp_path: Path) -> None:
    rows = json.loads((files / "mquake.json").read_text())
    other = json.loads(json.dumps(rows[0]))
    other["case_id"] = 99
    other["requested_rewrite"][0]["target_new"]["str"] = "Elsewhere"
    (tmp_path / "m.json").write_text(json.dumps([rows[0], other]))
    edited = EditedModel(*load_model(MODEL), name=MODEL)
    config = method_config("emmet", hparams=files / "hparams.json")
    with pytest.raises(RequestError, match="cases 0 and 99 contradict"):
        run_mquake(
            edited, load_mquake(tmp_path / "m.json"), Edits(method="emmet", config=config), Asking(max_new_tokens=4)
        )


def test_adapters_and_a_method_exclude_each_other() -> None:
    with pytest.raises(InputError, match="not with both"):
        Edits(adapters=[object()], method="emmet")  # type: ignore[list-item]
