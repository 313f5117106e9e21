"""`seqedit train-mend`, and `seqedit edit --method mend` with what it wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seqedit.adapters.adapter import Adapter
from seqedit.cli.main import run
from seqedit.methods.mend import train_hypernetwork, training
from tests.conftest import REFERENCE

MODEL = str(REFERENCE / "model")
QUICK = ["--set", "rank=4", "--set", "edit_rate=0.03", "--set", "validate_every=2", "--set", "validation_share=0.25"]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    case = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())
    (tmp_path / "records.json").write_text(json.dumps(case["records"]))
    return tmp_path / "records.json"


def arguments(records: Path, *more: str) -> list[str]:
    given = ["--model", MODEL, "--records", str(records), "--layers", "2,3", "--steps", "4", "--batch-size", "4"]
    return ["train-mend", *given, *QUICK, "--out", str(records.parent / "net"), *more]


def test_a_trained_hypernetwork_edits(records: Path, capsys: Any) -> None:
    assert run(arguments(records, "--skip", "1", "--limit", "6", "--json")) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err.count("held-out loss") == 3  # steps 0, 2, 4
    assert found["training"]["records"] == 4
    assert found["validation"]["records"] == 2
    assert set(found["rates"]) == {"2", "3"}
    assert {"loss", "edit_nll", "locality_kl"} <= found["validation"]["trained"].keys()
    out = records.parent / "adapter"
    edit = ["edit", "--model", MODEL, "--requests", str(records), "--limit", "2", "--method", "mend"]
    net = ["--set", f"hypernetwork={records.parent / 'net'}"]
    assert run([*edit, *net, "--out", str(out)]) == 0
    adapter = Adapter.from_pretrained(out)
    assert sorted(adapter.deltas) == sorted(found["modules"])
    assert adapter.provenance["hypernetwork"]["digest"] == found["digest"]


def test_an_interrupted_training_is_resumed(records: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> Any:
        def stop(row: dict[str, float]) -> None:
            if row["step"] == 4:
                raise KeyboardInterrupt

        return train_hypernetwork(*args, **{**kwargs, "report": stop})

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_hypernetwork", interrupted)
        assert run(arguments(records)) == 130
    assert run(arguments(records)) == 2
    assert "or --resume" in capsys.readouterr().err
    assert run(arguments(records, "--resume")) == 0
    shown = capsys.readouterr()
    assert "step      4" in shown.err
    assert "step      2" not in shown.err
    assert "held-out records: 2" in shown.out


BAD: dict[str, tuple[list[str], str]] = {
    "nothing to resume": (["--resume"], "no unfinished training"),
    "layer": (["--layers", "9"], "layer 9 is out of range"),
    "no layers": (["--layers", ""], "no layers to edit"),
    "unknown setting": (["--set", "rnk=2"], "unknown setting 'rnk'; did you mean 'rank'?"),
    "assignment": (["--set", "rank"], "--set takes FIELD=VALUE"),
    "skip": (["--skip", "8"], "holds no records after the first 8"),
    "negative skip": (["--skip", "-1"], "--skip must not be negative"),
    "limit": (["--limit", "0"], "--limit must be at least 1"),
    "too few": (["--limit", "1"], "at least 2 records"),
    "no records": (["--records", "/nowhere.json"], "no such file"),
    "steps": (["--steps", "0"], "'steps' must be greater than 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_it_with_code_2_and_nothing_written(
    case: str, records: Path, capsys: Any
) -> None:
    more, message = BAD[case]
    assert run(arguments(records, *more)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (records.parent / "net").exists()


def test_edit_without_a_hypernetwork_says_how_to_get_one(records: Path, capsys: Any) -> None:
    given = ["--model", MODEL, "--requests", str(records), "--method", "mend"]
    edit = ["edit", *given, "--out", str(records.parent / "adapter")]
    assert run(edit) == 2
    assert "seqedit train-mend" in capsys.readouterr().err
    assert run([*edit, "--set", "hypernetwork=/nowhere"]) == 2
    assert "mend_config.json is missing" in capsys.readouterr().err
