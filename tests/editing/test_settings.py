"""Settings from presets, hyperparameter files, run configurations and the command line."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from seqedit.comparing.compare_config import read_compare_config
from seqedit.editing.hyperparameter_fields import ONLY, READ
from seqedit.editing.hyperparameters import read_hparams
from seqedit.editing.settings import PRESETS, method_config, preset_names, read_preset
from seqedit.errors import InputError
from seqedit.methods import get_method, method_names
from seqedit.methods.config import ClosedFormConfig
from seqedit.runs.config import read_run_config
from seqedit.support.config import coerce
from seqedit.support.files import read_mapping
from seqedit.targets.config import TargetValueConfig
from tests.documentation import hyperparameter_files

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
    ("method", "changes"),
    [("emmet", {"a"}), ("memit", set()), ("rome", set()), ("pmet", set()), ("alphaedit", set())],
)
def test_a_field_has_an_effect_for_the_methods_whose_public_code_reads_it_and_no_other(
    method: str, changes: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "h.json").write_text('{"layers": [1], "emmet_lambda": 0.1}')
    assert set(read_hparams(tmp_path / "h.json", method)) == {"layers"} | changes
    assert ("emmet_lambda" in capsys.readouterr().err) == (not changes)
    config = method_config(method, hparams=tmp_path / "h.json")
    assert config.a == (0.1 if changes else get_method(method).config().a)


def test_every_field_read_is_a_setting_of_the_method_that_reads_it() -> None:
    for method, reads in READ.items():
        assert set(reads.values()) <= {f.name for f in dataclasses.fields(get_method(method).config)}, method


# Files in the layout of the public projects, with all that theirs hold.
MODULES = {
    "layer_module_tmp": "transformer.h.{}", "mlp_module_tmp": "transformer.h.{}.mlp", "ln_f_module": "transformer.ln_f",
    "attn_module_tmp": "transformer.h.{}.attn", "lm_head_module": "transformer.wte",
    "rewrite_module_tmp": "transformer.h.{}.mlp.c_proj",
}  # fmt: skip
SEARCH = {
    "fact_token": "subject_last", "v_num_grad_steps": 20, "v_lr": "5e-1", "v_loss_layer": 47, "v_weight_decay": 0.5,
    "kl_factor": 0.0625, "clamp_norm_factor": 4,
}  # fmt: skip
MOMENTS = {"mom2_dataset": "wikipedia", "mom2_n_samples": 100000, "mom2_dtype": "float32"}
RUNTIME = {"model_name": "./hugging_cache/gpt2-xl", "stats_dir": "./data/stats", "device": 0, "model_parallel": False}
FOUND = {"steps": 20, "learning_rate": "5e-1", "weight_decay": 0.5, "kl_factor": 0.0625, "clamp_norm_factor": 4}


@pytest.mark.parametrize(
    ("method", "file", "expected"),
    [
        ("rome", {"alg_name": "ROME", "layers": [17], "mom2_adjustment": False, "fp16": False,
                  "context_template_length_params": [[5, 10], [10, 10]], **SEARCH, **MOMENTS, **MODULES, **RUNTIME},
         {"layers": [17], "shrinkage": 1.0, **FOUND}),
        ("rome", {"alg_name": "R-ROME", "layers": [5], "mom2_adjustment": True, "enable_prompt_keys": False,
                  "enable_random_prefix_keys": True, "original_implementation": True, **SEARCH, **MODULES},
         {"layers": [5], "published_keys": True, **FOUND}),
        ("rome", {"layers": [17], "mom2_adjustment": True, "dynamic": False, "dynamic_multiplier": 1,
                  "bias_update": False, "update_norm_lambda": 3, **SEARCH, **MODULES}, {"layers": [17], **FOUND}),
        ("memit", {"layers": [13, 14], "layer_selection": "all", "mom2_adjustment": True, "mom2_update_weight": 20000,
                   "calculate_objective_value": False, "update_norm_lambda": 2, "emmet_lambda": 0.1,
                   **SEARCH, **MOMENTS, **MODULES},
         {"layers": [13, 14], "second_moment_weight": 20000, "frobenius_weight": 2, **FOUND}),
        ("alphaedit", {"alg_name": "AlphaEdit", "P_loc": "./null_space_project.pt", "layers": [4, 5], "L2": 1,
                       "nullspace_threshold": "2e-2", "mom2_update_weight": 15000, "mom2_adjustment": True,
                       **SEARCH, **MOMENTS, **MODULES, **RUNTIME},
         {"layers": [4, 5], "l2": 1, "nullspace_threshold": "2e-2", **FOUND}),
        # PMET's code writes to rewrite_module_tmps; what its files hold in rewrite_module_tmp is attention's.
        ("pmet", {"layers": [3], "nll_loss_factor": 1, **SEARCH, **MODULES, "mom2_update_weight": 6000,
                  "rewrite_module_tmp": "transformer.h.{}.attn.out_proj",
                  "rewrite_module_tmps": ["transformer.h.{}.mlp.fc_out"]},
         {"layers": [3], "second_moment_weight": 6000, **FOUND}),
        ("ft", {"layers": [21], "num_steps": 25, "batch_size": 1, "max_length": 40, "lr": "5e-4", "weight_decay": 0,
                "kl_factor": 0, "norm_constraint": False, "objective_optimization": "target_new", **RUNTIME,
                "rewrite_module_tmp": "model.layers.{}.mlp.down_proj.weight"},
         {"layers": [21], "steps": 25, "batch_size": 1, "learning_rate": "5e-4", "weight_decay": 0,
          "norm_constraint": None}),
        ("lora", {"layers": [], "lora_type": "lora", "rank": 8, "lora_alpha": 32, "lora_dropout": 0, "lr": "5e-3",
                  "norm_constraint": False, "target_modules": ["down_proj"], **RUNTIME},
         {"rank": 8, "alpha": 32, "learning_rate": "5e-3"}),
    ],
)  # fmt: skip
def test_a_public_file_is_read_and_what_has_no_effect_is_named_in_one_notice(
    method: str, file: dict[str, object], expected: dict[str, object], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "h.yaml").write_text(yaml.safe_dump(file))
    assert read_hparams(tmp_path / "h.yaml", method) == expected
    notice = capsys.readouterr().err
    assert notice.count("\n") == 1
    reads = {
        "fact_token",
        "mom2_adjustment",
        "rewrite_module_tmp",
        "rewrite_module_tmps",
        "target_modules",
        *READ[method],
    }
    checked = {name for name, only in ONLY.items() if method in only.methods}
    silent = {name for name in file if name not in reads | checked} | ({"layers"} if file["layers"] == [] else set())
    for name in silent | ({"mom2_dataset", "mom2_n_samples", "v_loss_layer", "P_loc"} & set(file)):
        assert name in notice


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [("ft", "rewrite_module_tmp", "transformer.h.{}.attn.c_attn"), ("ft", "rewrite_module_tmp", "transformer.h.{}"),
     ("memit", "rewrite_module_tmp", "model.layers.{}.self_attn.o_proj"), ("rome", "rewrite_module_tmp", None),
     ("emmet", "rewrite_module_tmp", "model.layers.{}.mlp.up_proj.weight"),
     ("pmet", "rewrite_module_tmps", ["transformer.h.{}.mlp.fc_out", "transformer.h.{}.attn.out_proj"]),
     ("mend", "inner_params", ["transformer.h.45.mlp.c_proj.weight", "transformer.h.45.mlp.c_fc.weight"]),
     ("lora", "target_modules", ["q_proj", "v_proj"]), ("lora", "target_modules", ["c_attn"])],
)  # fmt: skip
def test_a_file_for_another_module_is_refused(method: str, field: str, value: object, tmp_path: Path) -> None:
    (tmp_path / "h.json").write_text(json.dumps({"layers": [1], field: value}))
    with pytest.raises(InputError, match=f"{field}.*"):
        read_hparams(tmp_path / "h.json", method)


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


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (tuple[int, ...], "1, 2", (1, 2)), (tuple[int, ...], [1, 2.0], (1, 2)), (tuple[int, ...], (), ()),
        (tuple[float, ...], [1, "2e-1"], (1.0, 0.2)), (tuple[str, ...], ["a", "b c"], ("a", "b c")),
        (int, "1e3", 1000), (int, 2**53 + 1, 2**53 + 1), (int, str(2**53 + 1), 2**53 + 1), (bool, "False", False),
        (int | str, "auto", "auto"), (int | str, "7", "7"), (int | str, 7, 7), (int | float, 1.5, 1.5),
        (float | int, 3, 3), (bool | int, 1, 1), (bool | int, True, True), (int | bool, True, True),
        (float | tuple[float, ...], [1, 2], (1.0, 2.0)), (int | None, "none", None), (int | float | None, "0.5", 0.5),
        (Literal["a", 1], "1", 1), (Literal["a", 1] | None, None, None),
    ],
)  # fmt: skip
def test_a_value_is_read_as_the_member_of_its_kind_that_it_is(kind: Any, value: object, expected: object) -> None:
    found = coerce("x", value, kind)
    assert found == expected
    assert type(found) is type(expected)
    if isinstance(expected, tuple):
        assert [type(part) for part in found] == [type(part) for part in expected]


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (tuple[int, ...], [1.5], "a list of integers"), (tuple[int, ...], [True], "a list of integers"),
        (tuple[int, ...], "1.5", "a list of integers"), (tuple[int, ...], {1: 2}, "a list of integers"),
        (tuple[int, ...], [[1]], "a list of integers"), (tuple[int, ...], 3.5, "a list of integers"),
        (tuple[int, ...], [None], "a list of integers"), (tuple[str, ...], [1], "a list of strings"),
        (tuple[float, ...], [float("nan")], "a list of numbers"), (int, True, "int"), (int, 1.5, "int"),
        (int, "1.5", "int"), (int, float("inf"), "int"), (int, None, "int"), (float, False, "float"),
        (float, "inf", "float"), (float, 10**400, "float"), (bool, 1, "true or false"), (str, 1, "str"),
        (int | None, "x", "int or none"), (int | float | None, True, "int or float or none"),
        (Literal["a", "b"], ["a"], "one of a, b"), (Literal[1, 2], True, "one of 1, 2"),
    ],
)  # fmt: skip
def test_a_value_that_is_of_no_member_of_a_kind_is_refused_and_nothing_is_rounded(
    kind: Any, value: object, message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(f"setting 'x' must be {message}, got {value!r}")):
        coerce("x", value, kind)


@pytest.mark.parametrize("value", [[1.5], [True], "1.5", "true"])
def test_layers_that_are_no_integers_are_refused_by_name(value: object) -> None:
    with pytest.raises(InputError, match="'layers' must be a list of integers"):
        get_method("memit").config.from_dict({"layers": value})


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


@pytest.mark.parametrize("value", [7, "7", "[7]", [7], " [ 7 ] ", "7,"])
def test_a_setting_that_is_a_list_takes_a_single_value_with_or_without_brackets(value: object) -> None:
    assert coerce("layers", value, tuple[int, ...]) == (7,)


def test_a_list_is_read_with_brackets_commas_or_spaces() -> None:
    for text in ("[1, 2]", "1,2", "1 2", "[1 2]"):
        assert coerce("layers", text, tuple[int, ...]) == (1, 2)
    assert method_config("memit", assignments=["layers=[7]"]).layers == (7,)
    assert method_config("memit", settings={"layers": 7}).layers == (7,)


def test_a_word_that_is_nearly_one_of_a_settings_is_suggested() -> None:
    with pytest.raises(InputError, match="did you mean 'even'"):
        method_config("memit", layers="1", spread="evn")


def test_rome_without_second_moments_takes_the_identity_and_reads_no_text() -> None:
    method, identity = get_method("rome"), get_method("rome").config(layers=(0,), shrinkage=1.0)
    assert not method.reads_second_moments(identity)
    added = [{"shrinkage": 0.5}, {"a": 0.1}, {"frobenius_weight": 1.0}, {"protect_earlier": True},
             {"protect_following": True}]  # fmt: skip
    for change in added:
        assert method.reads_second_moments(dataclasses.replace(identity, **change)), change
    alphaedit = get_method("alphaedit")
    settings = alphaedit.config(layers=(0,), shrinkage=1.0, a=0.0, protect_earlier=False)
    assert alphaedit.reads_second_moments(settings)


def test_a_public_file_of_mend_is_read_and_its_checkpoint_is_named_as_without_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = {"lr_scale": 0.5, "n_toks": 1, "model_name": "m", "counterfact": True, "zsre": False, "mini": False}
    (tmp_path / "h.json").write_text(json.dumps(file))
    assert read_hparams(tmp_path / "h.json", "mend") == {"scale": 0.5}
    assert "train-mend" in capsys.readouterr().err


@pytest.mark.parametrize("kind", hyperparameter_files.KINDS, ids=lambda kind: f"{kind.method}, {kind.projects}")
def test_a_kind_of_public_file_is_read_or_refused_as_the_page_says(kind: hyperparameter_files.Kind) -> None:
    read, told = hyperparameter_files.outcome(kind)
    assert read == kind.read
    assert told
    if not read:
        assert "unknown field" not in told


def test_the_page_of_hyperparameter_files_is_as_the_files_are_read() -> None:
    assert hyperparameter_files.PAGE.read_text("utf-8") == hyperparameter_files.page()


def test_blue_writes_the_first_and_the_last_layer_each_with_its_own_residual(tmp_path: Path) -> None:
    for value, expected in ((True, {"layers": [4, 8], "spread": "boundary"}), (False, {"layers": [4, 8]})):
        (tmp_path / "h.json").write_text(json.dumps({"layers": [4, 8], "blue": value}))
        assert read_hparams(tmp_path / "h.json", "memit") == expected
    (tmp_path / "h.json").write_text(json.dumps({"layers": [4, 8], "blue": "yes"}))
    with pytest.raises(InputError, match="field 'blue' must be true or false"):
        read_hparams(tmp_path / "h.json", "memit")
