"""Names of models, weight types and devices are checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqedit.demo import model_path
from seqedit.errors import InputError
from seqedit.models.names import DEMO_MODELS, check_device, check_dtype, check_model, resolve_model


@pytest.mark.parametrize("name", ["demo-lama", "demo-gtp2", "demo_llama", "Demo-Llama", "demollama"])
def test_a_slip_of_a_shipped_models_name_is_not_asked_for_at_the_hub(name: str) -> None:
    for refuse in (check_model, resolve_model):
        with pytest.raises(InputError, match=r"unknown demo model .*did you mean 'demo-(llama|gpt2)'\?"):
            refuse(name)


def test_a_name_with_the_shipped_models_beginning_is_none_of_the_hub() -> None:
    with pytest.raises(InputError, match=r"unknown demo model 'demo-x'.*\(shipped: demo-gpt2, demo-llama"):
        check_model("demo-x")


@pytest.mark.parametrize("name", ["gpt2", "gpt2-xl", "distilgpt2", "me/demo-lama", "demo/llama", "llama"])
def test_an_id_of_the_hub_is_let_through(name: str) -> None:
    check_model(name)
    assert resolve_model(name) == name


def test_a_directory_of_such_a_name_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo-lama").symlink_to(model_path("llama"))
    monkeypatch.chdir(tmp_path)
    check_model("demo-lama")
    assert resolve_model("demo-lama") == "demo-lama"


@pytest.mark.parametrize("name", DEMO_MODELS)
def test_a_shipped_model_is_its_directory(name: str) -> None:
    check_model(name)
    assert Path(resolve_model(name)).is_dir()


@pytest.mark.parametrize("name", ["auto", "float32", "bfloat16", "float16", "float64", "half", "float8_e4m3fn"])
def test_weight_types_that_torch_may_know_are_left_to_it(name: str) -> None:
    check_dtype(name)


@pytest.mark.parametrize(("name", "meant"), [("flot32", "float32"), ("bfloat_16", "bfloat16"), ("fp16x float16", "")])
def test_a_slip_of_a_weight_type_is_told(name: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"unknown dtype.*{meant}"):
        check_dtype(name)


@pytest.mark.parametrize("name", [None, "cpu", "cuda", "cuda:1", "mps", "auto", "npu:0", "somebackend"])
def test_devices_that_torch_may_know_are_left_to_it(name: str | None) -> None:
    check_device(name)


def test_a_slip_of_a_device_is_told() -> None:
    with pytest.raises(InputError, match="unknown device 'cdua:0'; did you mean 'cuda'"):
        check_device("cdua:0")
