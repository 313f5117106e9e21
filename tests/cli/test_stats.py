"""`seqedit stats`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seqedit.cli.main import run
from seqedit.models.anatomy import anatomy
from seqedit.models.loading import load_model
from seqedit.moments.measure import compute_second_moments
from seqedit.moments.store import read_second_moments
from tests.conftest import REFERENCE

MODEL = str(REFERENCE / "model")
TEXTS = [f"Number {i} is a fact about the town of Lyon, and {i + 1} about golf." for i in range(200)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("\n".join(TEXTS))
    return tmp_path / "cache"


def call(folder: Path, *more: str) -> int:
    return run(["stats", "--model", MODEL, "--text", str(folder / "text.txt"), "--max-tokens", "2000", *more])


def test_a_file_is_written_that_edits_take(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "new" / "moments.safetensors"
    assert call(tmp_path, "--layers", "1,3", "--out", str(out), "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(m["layer"], m["module"]) for m in printed["modules"]] == [
        (1, "transformer.h.1.mlp.c_proj"),
        (3, "transformer.h.3.mlp.c_proj"),
    ]
    model, tokenizer = load_model(MODEL)
    projections = anatomy(model).projections_of([1, 3])
    expected = compute_second_moments(model, tokenizer, projections, TEXTS, max_tokens=2000)
    found = read_second_moments(out)
    assert found.tokens == expected.tokens == printed["tokens"]
    for name, matrix in expected.matrices.items():
        torch.testing.assert_close(found.matrices[name], matrix)
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    (tmp_path / "facts.json").write_text(json.dumps(case["records"][:1]))
    edit = [
        "edit",
        "--model",
        MODEL,
        "--requests",
        str(tmp_path / "facts.json"),
        "--method",
        "memit",
        "--layers",
        "1,3",
    ]
    assert run([*edit, "--set", "steps=2", "--set", "shrinkage=0.01", "--second-moments", str(out),
                "--out", str(tmp_path / "adapter")]) == 0  # fmt: skip


def test_figures_are_those_of_the_matrices(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "moments.safetensors"
    assert call(tmp_path, "--layers", "2", "--out", str(out), "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["modules"]
    matrix = read_second_moments(out).matrices["transformer.h.2.mlp.c_proj"].double()
    values = torch.linalg.eigvalsh(matrix)
    assert row["d_in"] == 512
    assert row["largest_eigenvalue"] == pytest.approx(float(values[-1]), rel=1e-6)
    assert row["effective_rank"] == pytest.approx(float(values.sum() ** 2 / values.square().sum()))
    assert row["tokens_per_dimension"] == pytest.approx(2048 / 512, abs=0.2)
    shrunk = (1 - row["shrinkage"]) * values.clamp_min(0) + row["shrinkage"] * values.mean()
    assert float(shrunk[-1] / shrunk[0]) <= 1.02e6


def test_without_layers_all_are_measured_and_the_cache_serves_a_second_call(
    tmp_path: Path, cache: Path, capsys: Any
) -> None:
    assert call(tmp_path) == 0
    first = capsys.readouterr().out
    assert [line.split()[0] for line in first.splitlines()[2:8]] == list("012345")
    files = {p: p.stat().st_mtime_ns for p in cache.rglob("*.safetensors")}
    assert len(files) == 6
    assert call(tmp_path) == 0
    assert capsys.readouterr().out == first
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.safetensors")} == files


def test_the_layers_of_a_presets_model_are_those_that_it_edits(capsys: Any, tmp_path: Path) -> None:
    text = str(tmp_path / "text.txt")
    assert run(["stats", "--model", "demo-gpt2", "--text", text, "--per-dimension", "2", "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [m["layer"] for m in planned["modules"]] == [0]
    assert planned["max_tokens"] == 2 * 1664


def test_a_dry_run_says_what_would_be_measured_and_writes_nothing(tmp_path: Path, cache: Path, capsys: Any) -> None:
    out = tmp_path / "moments.safetensors"
    assert call(tmp_path, "--layers", "1,2", "--dry-run", "--out", str(out)) == 0
    printed = capsys.readouterr().out
    assert "would measure 2,000 tokens" in printed
    assert printed.count("to be measured") == 2
    assert f"would write {out}" in printed
    assert not out.exists()
    assert not cache.exists()
    assert call(tmp_path, "--layers", "1") == 0
    capsys.readouterr()
    assert call(tmp_path, "--layers", "1,2", "--dry-run") == 0
    assert capsys.readouterr().out.count("cached") == 1


def test_a_near_singular_second_moment_comes_with_the_shrinkage_that_mends_it(tmp_path: Path, capsys: Any) -> None:
    assert call(tmp_path, "--layers", "1", "--max-tokens", "200") == 0
    printed = capsys.readouterr().out
    assert "singular" in printed
    assert "--set shrinkage=" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--per-dimension", "2"], "give one of them"),
        (["--max-tokens", "0"], "--max-tokens must be at least 1"),
        (["--sequence-length", "0"], "--sequence-length must be at least 1"),
        (["--layers", "9"], "layer 9 is out of range"),
        (["--layers", "x"], "layers"),
        (["--out", "there.safetensors"], "exists"),
        (["--text", "/nowhere.txt"], "no such text file"),
        (["--text", "empty.txt"], "no tokens"),
        (["--text", "rows.jsonl"], "row 2: no text in column 'text'"),
        (["--model", "/nowhere"], "no model directory at"),
    ],
)
def test_bad_input_is_one_line_with_code_2_and_nothing_written(
    arguments: list[str], message: str, tmp_path: Path, cache: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.safetensors").write_text("x")
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n{"body": "b"}\n')
    before = sorted(tmp_path.rglob("*"))
    more = ["--out", "new.safetensors"] if "--out" not in arguments else []
    assert call(tmp_path, *more, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(p for p in tmp_path.rglob("*")) == before
