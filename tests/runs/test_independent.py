"""A comparison whose batches do not build on one another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.scores.counterfact import score_records
from seqedit.cli.main import run
from seqedit.comparing.compare_config import read_compare_config
from seqedit.editing.compute import apply_adapter, compute_adapter
from seqedit.facts.loading import load_records
from seqedit.facts.requests import requests_of
from seqedit.models.fingerprint import base_model_of
from seqedit.models.loading import load_model
from seqedit.runs.settling import settings_of
from tests.runs.test_compare import METHODS, write

SINGLE: dict[str, Any] = {
    "independent": True, "batch_size": 1, "steps": 3, "tasks": {}, "evals": {"generation": False, "resamples": 100},
}  # fmt: skip
FT = {"ft": METHODS["ft"]}


def test_each_edit_is_made_on_the_unedited_model_and_scored_on_its_own_facts(tmp_path: Path, capsys: Any) -> None:
    place = write(tmp_path, methods=FT, **SINGLE)
    assert run(["compare", str(place), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][1]
    lines = [json.loads(line) for line in (tmp_path / "out" / "ft" / "batches.jsonl").read_text().splitlines()]
    config = read_compare_config(place).runs["ft"]
    margins = []
    for number, record in enumerate(load_records(tmp_path / "facts.json")[:3]):
        model, tokenizer = load_model(config.model)  # a fresh one for every edit
        adapter = compute_adapter(
            model, tokenizer, requests_of([record]), "ft", settings_of(config.settings),
            base_model=base_model_of(model), context_templates=config.context_templates or [["{}"]],
        )  # fmt: skip
        apply_adapter(model, adapter)
        expected = score_records(model, tokenizer, [record])
        prompt = lines[number]["records"][0]["rewrite"][0]
        assert prompt["nll_new"] == pytest.approx(expected.records[0].rewrite[0].nll_new, abs=1e-5)
        margins.append(expected["ES"])
    assert row["cells"]["ES"]["value"] == pytest.approx(sum(m for m in margins if m is not None) / 3)
    assert row["seconds_per_edit"] > 0


def test_it_goes_on_where_it_stopped_and_a_line_cut_short_is_made_again(tmp_path: Path, capsys: Any) -> None:
    config = write(tmp_path, methods=FT, **SINGLE)
    assert run(["compare", str(config), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["rows"]
    place = tmp_path / "out" / "ft" / "batches.jsonl"
    lines = place.read_text().splitlines(keepends=True)
    place.write_text("".join(lines[:2]) + lines[2][:40])
    assert run(["compare", str(config), "--resume", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["rows"]
    assert again[1]["cells"] == first[1]["cells"]
    assert place.read_text().splitlines(keepends=True)[:2] == lines[:2]
    place.write_bytes("".join(lines[:2]).encode() + lines[2][:40].encode() + "é".encode()[:1])
    assert run(["compare", str(config), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][1]["cells"] == first[1]["cells"]
    for damage in (b"\xff\n", b"[" * 100_000 + b"\n"):
        place.write_bytes(damage)
        assert run(["compare", str(config), "--resume"]) == 1
        assert "batches.jsonl, line 1: not readable" in capsys.readouterr().err


def test_results_of_other_settings_are_not_taken_over(tmp_path: Path, capsys: Any) -> None:
    assert run(["compare", str(write(tmp_path, methods=FT, **SINGLE))]) == 0
    other = {"ft": {"settings": {**METHODS["ft"]["settings"], "steps": 2}}}
    assert run(["compare", str(write(tmp_path, methods=other, **SINGLE)), "--resume"]) == 1
    assert "other facts or settings" in capsys.readouterr().err


def test_a_method_that_cannot_compute_a_batch_is_told_in_the_table(tmp_path: Path, capsys: Any) -> None:
    wild = {"wild": {"method": "ft", "settings": {"layers": [1], "learning_rate": 1e30}}}
    assert run(["compare", str(write(tmp_path, methods=wild, **SINGLE)), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert "3 of 3 batches" in rows[1]["note"]
    assert rows[1]["cells"]["NS"]["value"] is not None  # scored, on the unedited model


def test_closed_forms_get_their_second_moments(tmp_path: Path, capsys: Any) -> None:
    assert run(["compare", str(write(tmp_path, methods={"memit": METHODS["memit"]}, **SINGLE)), "--json"]) == 0
    unedited, memit = json.loads(capsys.readouterr().out)["rows"]
    assert memit["cells"]["ES"]["value"] > unedited["cells"]["ES"]["value"]


@pytest.mark.parametrize("extra", [{"tasks": {"cola": "cola.jsonl"}}, {"every_step": True}, {"evals": {}}])
def test_what_cannot_be_scored_edit_by_edit_is_refused(extra: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    assert run(["compare", str(write(tmp_path, methods=FT, **{**SINGLE, **extra}))]) == 2
    assert "independent" in capsys.readouterr().err


def test_results_of_other_prompts_or_another_model_are_not_taken_over(tmp_path: Path, capsys: Any) -> None:
    config = write(tmp_path, methods=FT, **SINGLE)
    assert run(["compare", str(config)]) == 0
    facts = json.loads((tmp_path / "facts.json").read_text())
    facts[0]["paraphrase_prompts"] = facts[0]["neighborhood_prompts"][:1]  # the request is the same
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    assert run(["compare", str(config), "--resume"]) == 1
    assert "other facts or settings" in capsys.readouterr().err
    assert run(["compare", str(write(tmp_path, methods=FT, **SINGLE, seed=5)), "--resume"]) == 1
