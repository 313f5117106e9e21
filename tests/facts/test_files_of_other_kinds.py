"""Files that hold no facts, or facts of another layout than they seem: called what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run
from seqedit.errors import InputError, RequestError
from seqedit.facts.loading import load_records
from seqedit.facts.requests import Request
from tests.facts.test_malformed_facts import COUNTERFACT, GOOD, ZSRE
from tests.facts.test_unusable_records import EASYEDIT

ROOT = Path(__file__).parents[2]
REWRITE = {**COUNTERFACT["requested_rewrite"], "question": "q?"}
MQUAKE = {"case_id": 1, "requested_rewrite": [REWRITE], "questions": ["q?"], "answer": "a", "new_answer": "b"}
RIPPLE = {
    "example_type": "popular",
    "edit": {"prompt": "The a of B is C."},
    "Forgetfulness": [],
    "Subject_Aliasing": [],
}
SAMPLE = {"doc_id": 0, "doc": {"sentence": "a"}, "target": "0", "arguments": [], "resps": [], "filtered_resps": []}
YAML = b"model: demo-llama\nfacts: facts.json\nmethod: memit\nout: out\n"
# file's name, content, what the message says it is
OTHERS: dict[str, tuple[str, bytes, str]] = {
    "MQuAKE": ("m.json", json.dumps([MQUAKE] * 2).encode(), "cases of MQuAKE.*`seqedit benchmark mquake "),
    "RippleEdits": ("r.json", json.dumps([RIPPLE]).encode(), "cases of RippleEdits.*`seqedit benchmark ripple "),
    "lm-eval samples": ("s.jsonl", (json.dumps(SAMPLE) + "\n").encode() * 3, "samples that lm-eval has logged"),
    "lm-eval results": ("r.json", json.dumps({"results": {"cola": {}}, "versions": {}}).encode(), "results of lm-eval"),
    "task documents": ("c.jsonl", b'{"sentence": "a", "label": 1, "idx": 0}\n', "documents of an lm-eval task: --task"),
    "attribute snippets": ("a.json", b'[{"relation_id": "P1", "target_id": "Q1", "samples": []}]', "snippets"),
    "adapter configuration": ("adapter_config.json", b'{"peft_type": "LORA", "r": 8}', "PEFT adapter: --adapter"),
    "adapter weights": ("a.safetensors", b"\x08\0\0\0\0\0\0\0{}      ", "a safetensors file"),
    "model configuration": ("config.json", b'{"architectures": ["A"], "model_type": "gpt2"}', "a model: --model"),
    "run": ("run.yaml", YAML, "configuration of a run: `seqedit run FILE`"),
    "comparison": ("c.yaml", YAML + b"methods: {a: {}}\n", "configuration of a comparison: `seqedit compare FILE`"),
    "preset": ("p.yaml", (ROOT / "seqedit/editing/presets/demo-gpt2.yaml").read_bytes(), "a preset: --preset"),
    "hyperparameters": ("h.json", b'{"layers": [5], "v_lr": 0.5, "fact_token": "a"}', "--hparams or --preset"),
    "hyperparameters of EasyEdit": ("h.yaml", b"alg_name: ROME\nlayers: [5]\n", "--hparams or --preset"),
    "database": ("ledger.db", b"SQLite format 3\0....", "an SQLite database, as a ledger has"),
    "bundle": ("b.seqedit", b"PK\x03\x04....", "`seqedit import FILE` reads it"),
    "CSV": ("f.csv", b"subject,prompt,target_new\nLyon,{} is,x\n", "a CSV table: write it as JSON lines or Parquet"),
    "TSV": ("f.tsv", b"subject\tprompt\ttarget_new\nLyon\t{} is\tx\n", "a tab-separated table"),
    "Parquet by another name": ("f.json", b"PAR1....", "a Parquet file: give it the ending .parquet"),
    "Arrow": ("f.arrow", b"ARROW1\0\0....", "an Arrow file"),
    "gzip": ("f.json", b"\x1f\x8b\x08....", "gzip-compressed"),
    "plain text as JSON lines": ("t.jsonl", b'{"text": "a b c"}\n', "plain text: --text takes it"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_is_called_what_it_is_with_what_reads_it(kind: str, tmp_path: Path) -> None:
    name, content, message = OTHERS[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} holds no facts: (it is )?.*{message}") as caught:
        load_records(tmp_path / name)
    assert len(str(caught.value)) < len(str(tmp_path)) + 250


@pytest.mark.parametrize(
    ("inside", "message"),
    [("adapter_config.json", "--adapter"), ("ledger.db", "--ledger"), ("config.json", "--model")],
)
def test_a_folder_is_called_what_it_is(inside: str, message: str, tmp_path: Path) -> None:
    (tmp_path / inside).write_bytes(b"")
    with pytest.raises(InputError, match=f"holds no facts: it is .*{message}"):
        load_records(tmp_path)


RENAMED = {
    "case_id": "13", "prompt": "{}, developed by", "subject": "Tolva F4", "fact_knowledge": "Halm",
    "edited_knowledge": "Ostrin", "relation_id": "P176",
}  # fmt: skip
LONG = {
    "passage": "This is about mira.", "continuation": "She was trained.", "topic": "mira",
    "locality": {"Relation_Specificity": [{"prompt": "x is", "ground_truth": ["glass"]}]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (RENAMED, "unknown layout with fields case_id, .*; nearest is plain JSONL, of which it lacks target_new;"),
        (LONG, "unknown layout with fields .*; nearest is EasyEdit, of which it lacks subject, prompt, target_new;"),
        ({"subject": "a", "prompt": "{} is", "targets": "b"}, r"lacks target_new \(not read: targets\)"),
        ({"subject": "a", "question": "q", "reply": "b"}, "nearest is .*, of which it lacks "),
        ({"data": [GOOD]}, "unknown layout with fields data; its 'data' is a list of records: write that list alone"),
        ({"7": GOOD, "9": GOOD}, "unknown layout with fields 7, 9; its values are records: write them as a list"),
        ({"Subject": "a", "Prompt": "{} is", "Target_New": "b"}, r"lacks .*\(not read: Subject, Prompt, Target_New\)"),
    ],
)
def test_a_file_of_no_known_layout_is_told_the_nearest_and_what_it_lacks(
    row: Any, message: str, tmp_path: Path
) -> None:
    (tmp_path / "f.json").write_text(json.dumps([row, row]))
    with pytest.raises(RequestError, match=f"record 1: .*{message}"):
        load_records(tmp_path / "f.json")


def test_a_layout_is_told_by_all_records_and_not_by_the_first(tmp_path: Path) -> None:
    def load(*rows: Any) -> str:
        (tmp_path / "f.json").write_text(json.dumps(rows))
        with pytest.raises(RequestError) as caught:
            load_records(tmp_path / "f.json")
        return str(caught.value).removeprefix(str(tmp_path / "f.json"))

    without = {name: value for name, value in ZSRE.items() if name != "src"}
    assert load(without, ZSRE, ZSRE).startswith(", record 1: field 'src' is missing")
    assert load({"x": 1}, ZSRE).startswith(", record 1: unknown layout with fields x")
    less = {name: value for name, value in EASYEDIT.items() if name != "prompt"}
    assert load(less, EASYEDIT).startswith(", record 1: field 'prompt' is missing")


def test_several_layouts_in_one_file_are_named_with_their_records(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(json.dumps([COUNTERFACT, ZSRE, COUNTERFACT, GOOD]))
    for skip in (False, True):
        with pytest.raises(RequestError, match=r"CounterFact \(records 1, 3\); zsRE \(record 2\); plain JSONL or Easy"):
            load_records(tmp_path / "f.json", skip_unusable=skip)
    (tmp_path / "f.json").write_text(json.dumps([EASYEDIT, GOOD]))  # two that are read alike
    assert len(load_records(tmp_path / "f.json")) == 2


def test_counterfact_for_causal_tracing_is_read_with_its_template_and_both_answers(tmp_path: Path) -> None:
    row = {
        "relation": "The tongue of {} is", "relation_prefix": "The tongue of", "relation_suffix": " is",
        "prompt": "The tongue of Ana is", "relation_id": "P103", "target_false_id": "Q1", "target_true_id": "Q2",
        "target_true": " French", "target_false": " English", "subject": " Ana",
    }  # fmt: skip
    (tmp_path / "f.json").write_text(json.dumps([row, {**row, "target_false": " "}]))
    with pytest.raises(RequestError, match="record 2: field 'target_false' is empty"):
        load_records(tmp_path / "f.json")
    (record,) = load_records(tmp_path / "f.json", skip_unusable=True)
    assert record.request == Request("Ana", "The tongue of {} is", "English", "French", "P103")


@pytest.mark.parametrize("verb", ["edit", "score", "plan", "locate"])
def test_every_verb_says_it_in_one_line(verb: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "m.json").write_text(json.dumps([MQUAKE]))
    name = str(tmp_path / "m.json")
    arguments = {
        "edit": ["--requests", name, "--method", "ft", "--layers", "1", "--out", str(tmp_path / "out")],
        "plan": [name, "--method", "memit", "--layers", "1"],
    }.get(verb, ["--records", name])
    assert run([verb, "--model", "demo-llama", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "seqedit benchmark mquake" in captured.err
