"""Settings from presets, hyperparameter files, run configurations and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from seqedit.compare_config import read_compare_config
from seqedit.config import ClosedFormConfig, TargetValueConfig
from seqedit.errors import InputError
from seqedit.hparams import read_hparams, read_mapping
from seqedit.methods import get_method, method_names
from seqedit.run_config import read_run_config
from seqedit.settings import PRESETS, method_config, preset_names, read_preset

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("preset", preset_names())
def test_every_shipped_preset_fits_every_method_it_names(preset: str) -> None:
    data = read_mapping(PRESETS / f"{preset}.yaml")
    closed_forms = [m for m in method_names() if issubclass(get_method(m).config, ClosedFormConfig)]
    named = {*data.get("methods", {}), *(closed_forms if "layers" in data["common"] else ())}
    assert set(closed_forms) <= named
    for method in sorted(named):
        config = method_config(method, preset=preset)
        assert config.layers, f"{preset} names no layers for {method}"
        assert get_method(method).config.from_dict(config.to_dict()) == config


def test_what_a_preset_has_in_common_is_for_the_closed_forms_alone() -> None:
    assert read_preset("gpt2-xl", "memit")["learning_rate"] == 0.5
    assert "learning_rate" not in read_preset("gpt2-xl", "lora")
    with pytest.raises(InputError, match="no layers"):
        method_config("lora", preset="gpt2-xl")


@pytest.mark.parametrize(
    ("method", "text", "expected"),
    [
        # unified-model-editing
        ("emmet", '{"layers": [5], "v_lr": 5e-1, "calculate_objective_value": false, "update_norm_lambda": 20, '
                  '"emmet_lambda": 0.1, "prob_cutoff": 0, "norm_control": 0}',
         {"layers": [5], "learning_rate": 0.5, "frobenius_weight": 20, "a": 0.1}),
        # EasyEdit
        ("pmet", '{"layers": [3], "rewrite_module_tmps": ["x.{}"], "nll_loss_factor": 1, "model_parallel": false}',
         {"layers": [3]}),
        ("rome", '{"layers": [5], "mom2_adjustment": false, "context_template_length_params": [[5, 10]]}',
         {"layers": [5], "shrinkage": 1.0}),
        ("ft", '{"layers": [21], "num_steps": 25, "lr": 5e-4, "weight_decay": false, "kl_factor": 0, '
               '"norm_constraint": false, "objective_optimization": "target_new"}',
         {"layers": [21], "steps": 25, "learning_rate": 5e-4, "weight_decay": 0.0, "norm_constraint": None}),
        ("lora", '{"layers": [1], "lora_type": "lora", "rank": 8, "lora_alpha": 32, "lora_dropout": 0.0, "lr": 5e-3}',
         {"layers": [1], "rank": 8, "alpha": 32, "learning_rate": 5e-3}),
    ],
)  # fmt: skip
def test_hyperparameter_files_of_the_public_projects_are_read(
    method: str, text: str, expected: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "h.json").write_text(text)
    assert read_hparams(tmp_path / "h.json", method) == expected
    method_config(method, hparams=tmp_path / "h.json")


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [("memit", "mom2_adjustment", False), ("ft", "kl_factor", 0.5), ("ft", "objective_optimization", "prompt_last"),
     ("lora", "lora_type", "adalora"), ("emmet", "prob_cutoff", 0.5)],
)  # fmt: skip
def test_what_a_public_file_asks_for_and_is_not_done_is_refused_by_name(
    method: str, field: str, value: object, tmp_path: Path
) -> None:
    (tmp_path / "h.json").write_text(json.dumps({"layers": [1], field: value}))
    with pytest.raises(InputError, match=field):
        read_hparams(tmp_path / "h.json", method)


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / "h.json").write_text('{"v_num_grad_steps": 7, "layers": [1], "v_lr": 0.1}')
    config = method_config(
        "memit", preset="gpt2-xl", hparams=tmp_path / "h.json", assignments=["steps=9"], layers="2,3"
    )
    assert config.steps == 9
    assert config.layers == (2, 3)
    assert config.learning_rate == 0.1
    assert config.clamp_norm_factor == 0.75  # the preset's


def test_public_hyperparameter_names_are_mapped_and_ours_accepted(tmp_path: Path) -> None:
    file = tmp_path / "h.yaml"
    file.write_text(yaml.safe_dump({"alg_name": "EMMET", "emmet_lambda": 0.2, "mom2_update_weight": 4000, "steps": 3}))
    assert read_hparams(file, "emmet") == {"a": 0.2, "second_moment_weight": 4000, "steps": 3}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("steps", 0, "at least 1"), ("learning_rate", 0, "greater than 0"), ("kl_factor", -1, "not be negative"),
     ("steps", 2.5, "must be int"), ("learning_rate", "nan", "must be float"), ("stop_below", True, "must be float")],
)  # fmt: skip
def test_values_that_make_no_sense_are_refused_by_name(field: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=f"'{field}'.*{message}"):
        TargetValueConfig.from_dict({field: value})


def test_a_single_spread_over_several_layers_is_refused() -> None:
    with pytest.raises(InputError, match="'single' edits one layer"):
        method_config("rome", layers="1,2")


def test_an_unknown_preset_lists_the_shipped_ones() -> None:
    with pytest.raises(InputError, match=r"unknown preset 'gpt9'.*gpt2-xl"):
        read_preset("gpt9", "memit")


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_example_configuration_is_read(example: Path) -> None:
    if "methods" in read_mapping(example):
        configs = list(read_compare_config(example).runs.values())
    else:
        configs = [read_run_config(example)]
    for config in configs:
        assert config.settings.layers
        assert config.out.is_absolute() or ".." in str(config.out)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"modle": "x"}, "unknown field 'modle'"), ({"facts": None}, "field 'facts' is missing"),
     ({"batch_size": 0}, "batch_size must be at least 1"), ({"batch_size": "x"}, "'batch_size' must be int"),
     ({"tasks": 3}, "'tasks' must be a list"), ({"evals": {"x": 1}}, "unknown setting 'x'"),
     ({"evals": 3}, "'evals' must be a mapping"), ({"settings": {"layers": [1], "lr": 1}}, "unknown setting 'lr'")],
)  # fmt: skip
def test_a_bad_run_configuration_is_named_by_file_and_field(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    data = {"model": "m", "facts": "f.json", "method": "memit", "out": "o", "settings": {"layers": [1]}, **change}
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match=rf"run\.yaml: .*{message}"):
        read_run_config(file)


def test_a_preset_s_common_layers_are_not_imposed_on_a_trained_editor():
    config = method_config("mend", preset="demo-llama")
    assert config.layers == (3, 4, 5)  # those of the shipped hypernetwork
    assert method_config("emmet", preset="demo-llama").layers == (0,)
