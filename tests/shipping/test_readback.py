"""An export is read back and compared before it says done; one that differs is an error and is not kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from seqedit.adapters.adapter import Adapter
from seqedit.cli.main import run
from seqedit.errors import CheckFailed
from seqedit.models.fingerprint import fingerprint
from seqedit.shipping import readback
from seqedit.shipping.export import export_adapter, write_adapter, write_merged
from seqedit.shipping.readback import check_adapter, check_merged, tolerance
from tests.shipping.test_export import make


def changed(directory: Path, part: str, by: float) -> None:
    """Add to one tensor of a directory's safetensors file."""
    (file,) = directory.glob("*model.safetensors")
    tensors = load_file(file)
    name = next(n for n in tensors if part in n)
    save_file({**tensors, name: tensors[name] + by}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("style", ["gpt2", "llama"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_exported_gives_the_logits_of_the_state_within_the_stated_tolerance(
    style: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    from ledger import Ledger

    place, edited = make(tmp_path, style, dtype)
    weights = [p.requires_grad for p in edited.model.parameters()]  # type: ignore[attr-defined]
    with Ledger.open(place) as ledger:
        exported = export_adapter(ledger)
        write_adapter(exported, tmp_path / "peft", edited=edited)
        assert check_adapter(tmp_path / "peft", exported.adapter, edited) <= tolerance(dtype)
        assert fingerprint(edited.model) == edited.base_model.fingerprint, "PEFT left something in the model"
        assert [p.requires_grad for p in edited.model.parameters()] == weights  # type: ignore[attr-defined]
        write_merged(ledger, "HEAD", edited, tmp_path / "merged")
        found = check_merged(tmp_path / "merged", edited, exported.shipped.requests)
    assert found is not None
    assert found <= tolerance(dtype)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_tolerances_are_a_ten_thousandth_or_eight_units_of_the_last_place() -> None:
    assert tolerance(torch.float32) == 1e-4
    assert tolerance(torch.float16) == pytest.approx(0.0078, rel=0.01)
    assert tolerance(torch.bfloat16) == 0.0625


@pytest.mark.parametrize("kind", ["peft", "merged"])
def test_an_export_that_reads_back_differently_is_refused_and_nothing_is_left(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    place, edited = make(tmp_path, "llama")
    save: Any = Adapter.save_pretrained if kind == "peft" else type(edited.model).save_pretrained  # type: ignore[attr-defined]

    def spoiled(self: Any, directory: Any, *args: Any, **kwargs: Any) -> Any:
        done = save(self, directory, *args, **kwargs)
        changed(Path(directory), "lora_B" if kind == "peft" else "down_proj", 0.5)
        return done

    monkeypatch.setattr(Adapter if kind == "peft" else type(edited.model), "save_pretrained", spoiled)
    arguments = ["export", "--ledger", str(place), "--format", kind, "--out", str(tmp_path / "out")]
    before = sorted(p.name for p in tmp_path.iterdir())
    capsys.readouterr()
    assert run(arguments) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if "--base-name" not in line]
    assert len(told) == 1
    assert ("cannot be read back" if kind == "peft" else "gives other logits than the state") in told[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_an_adapter_that_stock_peft_reads_otherwise_than_this_library_is_refused(tmp_path: Path) -> None:
    from ledger import Ledger

    place, edited = make(tmp_path, "gpt2")
    with Ledger.open(place) as ledger:
        exported = export_adapter(ledger)
    write_adapter(exported, tmp_path / "peft")
    config = (tmp_path / "peft" / "adapter_config.json").read_text()
    (tmp_path / "peft" / "adapter_config.json").write_text(config.replace('"lora_alpha": ', '"lora_alpha": 3'))
    with pytest.raises(CheckFailed, match="loaded by stock PEFT, gives other logits"):
        check_adapter(tmp_path / "peft", exported.adapter, edited)
    (tmp_path / "peft" / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(CheckFailed, match="does not serve: stock PEFT does not load it"):
        check_adapter(tmp_path / "peft", exported.adapter, edited)
    assert fingerprint(edited.model) == edited.base_model.fingerprint


def test_a_merged_export_of_a_model_that_peft_wraps_is_refused(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from ledger import Ledger
    from seqedit.models.edited import EditedModel

    place, edited = make(tmp_path, "llama")
    edited.write({})
    wrapped = get_peft_model(edited.model, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    inner = EditedModel(wrapped.get_base_model(), edited.tokenizer, name=edited.base_model.name)
    inner.base_model = edited.base_model
    with Ledger.open(place) as ledger, pytest.raises(CheckFailed, match="cannot be loaded again"):
        write_merged(ledger, "HEAD", inner, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_where_memory_is_short_the_model_is_kept_and_a_notice_says_it_was_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    place, _ = make(tmp_path, "llama")
    monkeypatch.setattr(readback, "free_bytes", lambda device: 1000)
    assert run(["export", "--ledger", str(place), "--format", "merged", "--out", str(tmp_path / "out")]) == 0
    assert "was written but not loaded again" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_an_adapter_whose_base_model_is_not_here_or_has_changed_is_exported_with_a_notice(
    tmp_path: Path, capsys: Any
) -> None:
    place, _ = make(tmp_path, "llama")
    arguments = ["export", "--ledger", str(place), "--format", "peft", "--out"]
    changed(tmp_path / "base", "q_proj", 0.1)
    assert run([*arguments, str(tmp_path / "a")]) == 0
    assert "is not tried on its base model" in capsys.readouterr().err
    assert run([*arguments, str(tmp_path / "b"), "--model", str(tmp_path / "base")]) == 2
    assert "the ledger belongs to base model" in capsys.readouterr().err
    assert run([*arguments, str(tmp_path / "c"), "--no-measure"]) == 0
    assert "not tried" not in capsys.readouterr().err
    (tmp_path / "base").rename(tmp_path / "gone")
    assert run([*arguments, str(tmp_path / "d")]) == 0
    assert "it is not on this machine" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"a", "c", "d", "gone", "ledger"}
