"""A prompt that is too long for the model is reported by its record, before anything is edited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evals.scores.counterfact import score_records
from seqedit.cli.main import run
from seqedit.errors import RequestError
from seqedit.facts.loading import load_records
from seqedit.models.loading import load_model
from seqedit.text.lengths import check_records, check_requests
from tests.conftest import REFERENCE
from tests.runs.test_run import change, folder  # noqa: F401

LONG = "It rained in the morning. " * 60


def lengthened(folder: Path, field: str, record: int = 5) -> str:  # noqa: F811
    """Make one prompt of one record too long; its case id."""
    facts = json.loads((folder / "facts.json").read_text())
    facts[record]["case_id"] = "case-x"
    if field == "prompt":
        facts[record]["requested_rewrite"]["prompt"] = LONG + facts[record]["requested_rewrite"]["prompt"]
    else:
        facts[record][field] = [*facts[record].get(field, []), LONG + "The sport of the man is"]
    (folder / "facts.json").write_text(json.dumps(facts))
    return str(len(facts[record].get(field, [])))


@pytest.mark.parametrize("field", ["prompt", "paraphrase_prompts", "neighborhood_prompts", "generation_prompts"])
def test_a_run_names_the_record_and_the_prompt_before_it_edits_anything(
    field: str,
    folder: Path,  # noqa: F811
    capsys: Any,
) -> None:
    number = lengthened(folder, field)
    assert run(["run", str(folder / "run.yaml")]) == 2
    said = capsys.readouterr().err
    assert "record 6" in said
    assert "case-x" in said
    assert "128 positions" in said
    if field != "prompt":
        assert f"{field.removesuffix('s').replace('_', ' ')} {number}" in said
    assert not (folder / "out" / "ledger").exists()


def test_score_names_the_record_and_the_prompt(folder: Path, capsys: Any) -> None:  # noqa: F811
    lengthened(folder, "paraphrase_prompts")
    assert run(["score", "--model", str(REFERENCE / "model"), "--records", str(folder / "facts.json")]) == 2
    assert "record 'case-x': paraphrase prompt" in capsys.readouterr().err


def test_edit_names_the_request(folder: Path, capsys: Any) -> None:  # noqa: F811
    lengthened(folder, "prompt")
    facts = [str(folder / "facts.json")]
    place = folder / "adapter"
    arguments = ["--method", "ft", "--layers", "3", "--model", str(REFERENCE / "model"), "--out", str(place)]
    assert run(["edit", "--requests", *facts, *arguments]) == 2
    assert "case-x" in capsys.readouterr().err
    assert not place.exists()


def test_a_prompt_that_fits_by_itself_but_not_behind_a_context_template_is_named_too(
    folder: Path,  # noqa: F811
    capsys: Any,
) -> None:
    templates = [["{}"], ["It rained in the morning. " * 20 + "{}"]]
    assert run(["run", str(change(folder, context_templates=templates))]) == 2
    assert "in the context" in capsys.readouterr().err
    assert not (folder / "out" / "ledger").exists()


def test_a_run_whose_sampled_templates_leave_no_room_edits_nothing(folder: Path, capsys: Any) -> None:  # noqa: F811
    tokenizer = load_model(str(REFERENCE / "model"))[1]
    facts = json.loads((folder / "facts.json").read_text())
    rewrite = facts[5]["requested_rewrite"]
    plain, words = rewrite["prompt"], 0
    while True:  # as long as just fits by itself
        rewrite["prompt"] = "It " * (words + 1) + plain
        (folder / "facts.json").write_text(json.dumps(facts))
        request = load_records(folder / "facts.json")[5].request
        try:
            check_requests(tokenizer, [request], 128)
        except RequestError:
            break
        words += 1
    rewrite["prompt"] = "It " * words + plain
    for field in ("paraphrase_prompts", "neighborhood_prompts", "generation_prompts"):
        facts[5][field] = []
    (folder / "facts.json").write_text(json.dumps(facts))
    assert run(["run", str(change(folder, context_templates=None))]) == 2
    assert "in the context" in capsys.readouterr().err
    assert not (folder / "out" / "ledger").exists()


def test_what_just_fits_is_scored_and_one_token_less_room_is_refused(folder: Path) -> None:  # noqa: F811
    model, tokenizer = load_model(str(REFERENCE / "model"))[:2]
    records = load_records(folder / "facts.json")[:1]
    least = next(limit for limit in range(1, 129) if _accepted(tokenizer, records, limit))
    model.config.max_position_embeddings = least
    assert score_records(model, tokenizer, records)["ES"] is not None
    model.config.max_position_embeddings = least - 1
    with pytest.raises(RequestError, match=f"the model has {least - 1} positions"):
        score_records(model, tokenizer, records)


def _accepted(tokenizer: Any, records: Any, limit: int) -> bool:
    try:
        check_records(tokenizer, records, limit, generation=False)
    except RequestError:
        return False
    return True
