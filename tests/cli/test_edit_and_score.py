"""`seqedit edit` and `seqedit score`, as a user calls them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqedit.adapters.adapter import Adapter
from seqedit.cli.main import run
from tests.conftest import REFERENCE

MODEL = str(REFERENCE / "model")
CASE = REFERENCE / "multi_layer_batch8"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The reference case as the files a user of the public code has."""
    case = json.loads((CASE / "case.json").read_text())
    (tmp_path / "records.json").write_text(json.dumps(case["records"]))
    (tmp_path / "hparams.json").write_text(json.dumps(case["hparams"]))
    (tmp_path / "templates.json").write_text(json.dumps(case["context_templates"]))
    return tmp_path


def edit_arguments(files: Path, method: str = "emmet", out: str = "adapter", **changes: str) -> list[str]:
    options = {
        "--model": MODEL,
        "--requests": str(files / "records.json"),
        "--method": method,
        "--hparams": str(files / "hparams.json"),
        "--second-moments": str(REFERENCE / "second_moments.safetensors"),
        "--context-templates": str(files / "templates.json"),
        "--out": str(files / out),
        **{f"--{name.replace('_', '-')}": value for name, value in changes.items()},
    }
    return ["edit", *(part for pair in options.items() for part in pair)]


@pytest.mark.parametrize("method", ["emmet", "memit"])
def test_edit_with_the_public_codes_own_files_gives_the_public_codes_deltas(method: str, files: Path) -> None:
    assert run(edit_arguments(files, method)) == 0
    adapter = Adapter.from_pretrained(files / "adapter")
    expected = load_file(CASE / f"{method}.safetensors")
    assert adapter.target_values is not None
    error = (adapter.target_values - expected["z"]).norm() / expected["z"].norm()
    assert float(error) < 5e-3
    for module, delta in adapter.deltas.items():
        wanted = expected[f"delta.{module}.weight"].T.double()
        assert float((delta.dense() - wanted).norm() / wanted.norm()) < 2e-2


def test_score_reproduces_the_reference_scores_before_and_after_the_edit(files: Path, capsys: Any) -> None:
    assert run(edit_arguments(files)) == 0
    capsys.readouterr()
    for adapter, reference, tolerance in ((None, "unedited", 1e-4), ("adapter", "emmet", 2e-2)):
        arguments = ["score", "--model", MODEL, "--records", str(files / "records.json"), "--json"]
        if adapter:
            arguments += ["--adapter", str(files / adapter)]
        assert run(arguments) == 0
        found = json.loads(capsys.readouterr().out)
        expected = json.loads((CASE / f"{reference}_scores.json").read_text())
        expected = expected["after"] if reference == "emmet" else expected
        assert len(found["records"]) == len(expected)
        for record, wanted in zip(found["records"], expected, strict=True):
            prompts = record["rewrite"] + record["paraphrase"] + record["neighborhood"]
            assert [p["prompt"] for p in prompts] == wanted["prompts"]
            for prompt, nll in zip(prompts, wanted["nll"], strict=True):
                assert prompt["nll_new"] == pytest.approx(nll["target_new"], abs=tolerance, rel=tolerance)
                assert prompt["nll_true"] == pytest.approx(nll["target_true"], abs=tolerance, rel=tolerance)
    assert found["ES"] == 100.0


def test_equal_calls_write_equal_bytes(files: Path) -> None:
    for name in ("a", "b"):
        assert run(edit_arguments(files, out=name, set="steps=4")) == 0
    for file in (files / "a").iterdir():
        assert file.read_bytes() == (files / "b" / file.name).read_bytes(), file.name


def without_weights(files: Path) -> str:
    shutil.copytree(MODEL, files / "empty")
    (files / "empty" / "model.safetensors").unlink()
    return str(files / "empty")


def requests_file(files: Path, *rows: dict[str, Any]) -> str:
    (files / "bad.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(files / "bad.jsonl")


GOOD = {"subject": "Lyon", "prompt": "The twin city of {} is", "target_new": "Manila"}

BAD: dict[str, tuple[Any, str]] = {
    "unknown method": (lambda f: {"method": "memmit"}, "unknown method 'memmit'; did you mean 'memit'?"),
    "layer out of range": (lambda f: {"layers": "1,6"}, "layer 6 is out of range: the model has 6 layers"),
    "no slot": (
        lambda f: {"requests": requests_file(f, GOOD, {**GOOD, "prompt": "no slot"})}, "record 2: field 'prompt'",
    ),
    "empty target": (
        lambda f: {"requests": requests_file(f, {**GOOD, "target_new": ""})}, "record 1: field 'target_new'",
    ),
    "duplicate": (lambda f: {"requests": requests_file(f, GOOD, GOOD)}, "duplicate requests 0 and 1"),
    "contradiction": (
        lambda f: {"requests": requests_file(f, GOOD, {**GOOD, "target_new": "Beirut"})},
        "contradictory requests 0 and 1",
    ),
    "no weights": (lambda f: {"model": without_weights(f)}, "holds no weights: no *.safetensors file"),
    "no model": (lambda f: {"model": str(f / "nowhere")}, "no model directory at"),
    "no such requests": (lambda f: {"requests": str(f / "nowhere.json")}, "no such file"),
    "unknown setting": (lambda f: {"set": "lr=1"}, "unknown setting 'lr'"),
    "wrong value": (lambda f: {"set": "steps=many"}, "setting 'steps' must be int, got 'many'"),
    "spread": (lambda f: {"spread": "evenly"}, "setting 'spread' must be one of single, even, sqrt"),
    "bad templates": (lambda f: {"context_templates": str(f / "hparams.json")}, "context templates must be"),
    "moments": (lambda f: {"layers": "0"}, "no matrix for 'transformer.h.0.mlp.c_proj'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_it_with_code_2_and_nothing_written(
    case: str, files: Path, capsys: Any
) -> None:
    changes, message = BAD[case]
    arguments = edit_arguments(files, **{**changes(files)})
    before = sorted(files.rglob("*"))
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    # The file of hyperparameters names in a line of its own what of it has no effect.
    errors = [line for line in captured.err.splitlines() if "without effect for method" not in line]
    assert len(errors) == 1
    assert sorted(files.rglob("*")) == before


def test_an_unknown_hyperparameter_is_refused_by_name(files: Path, capsys: Any) -> None:
    data = json.loads((files / "hparams.json").read_text())
    (files / "hparams.json").write_text(json.dumps({**data, "v_lrr": 0.5}))
    assert run(edit_arguments(files)) == 2
    assert "unknown field 'v_lrr' for method 'emmet'; did you mean 'v_lr'?" in capsys.readouterr().err
    (files / "hparams.json").write_text(json.dumps({**data, "fact_token": "last"}))
    assert run(edit_arguments(files)) == 2
    assert "'fact_token' must be 'subject_last' here, got 'last'" in capsys.readouterr().err


def test_a_used_out_directory_is_refused_before_the_model_is_loaded(files: Path, capsys: Any) -> None:
    (files / "adapter").mkdir()
    (files / "adapter" / "mine.txt").write_text("x")
    assert run(edit_arguments(files, model="/nowhere")) == 2
    assert "not an empty directory" in capsys.readouterr().err


def test_score_refuses_an_adapter_of_another_base_model(files: Path, capsys: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert run(edit_arguments(files, set="steps=2")) == 0
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    with torch.no_grad():
        model.transformer.wpe.weight[0, 0] += 1
    model.save_pretrained(files / "other")
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(files / "other")
    capsys.readouterr()
    arguments = ["score", "--model", str(files / "other"), "--records", str(files / "records.json")]
    assert run([*arguments, "--adapter", str(files / "adapter")]) == 2
    assert "was made for" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "count"), [("counterfact_2000.json", 1000), ("zsre_500.json", 200)])
def test_real_records_are_scored_without_error(name: str, count: int, shared_data: Path, capsys: Any) -> None:
    records = str(shared_data / name)
    assert run(["score", "--model", MODEL, "--records", records, "--limit", str(count), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["records"]) == count
    assert all(found[metric] is not None for metric in ("ES", "PS", "NS", "S", "EM", "PM", "NM"))


def test_wrong_usage_and_version() -> None:
    assert run(["edit"]) == 2
    assert run(["nonsense"]) == 2
    assert run(["--version"]) == 0
