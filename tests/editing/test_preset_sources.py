"""Every value of a shipped preset is the one of the public file that the preset names, or the preset says why not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from seqedit.editing.hyperparameter_fields import READ
from seqedit.editing.settings import PRESETS, method_config, preset_names
from seqedit.methods import get_method
from seqedit.support.files import read_mapping

TABLE: Any = read_mapping(Path(__file__).resolve().parents[1] / "data" / "public_settings.yaml")
PUBLIC = [
    name for name in preset_names() if "evidence" not in read_mapping(PRESETS / f"{name}.yaml") and "demo-" not in name
]
SPREADS = {"memit": "even", "emmet": "even", "alphaedit": "even", "evoedit": "even", "pmet": "sqrt", "rome": "single"}


def test_the_table_of_sources_covers_every_method_of_every_preset_for_a_public_model() -> None:
    named = {preset: set(read_mapping(PRESETS / f"{preset}.yaml")["methods"]) for preset in PUBLIC}
    assert named == {preset: set(methods) for preset, methods in TABLE.items()}


@pytest.mark.parametrize(("preset", "method"), [(p, m) for p, methods in TABLE.items() for m in methods])
def test_every_setting_of_a_preset_is_that_of_its_source(preset: str, method: str) -> None:
    row = dict(TABLE[preset][method])
    assert ("source" in row) != ("derived" in row)
    source = row.pop("source", None) or row.pop("derived")
    plain = row.pop("mom2_adjustment", True)
    config_class = get_method(method).config
    expected = {READ[method][name]: value for name, value in row.items()}
    if not plain:
        expected["shrinkage"] = 1.0
    if method in SPREADS:
        expected["spread"] = SPREADS[method] if len(row["layers"]) > 1 else "single"
    found = method_config(method, preset=preset)
    for field in dataclasses.fields(config_class):
        # What the file does not say is what the method is published with: its default.
        if field.name in expected or field.name not in {"spread", "second_moment_weight"}:
            wanted = expected.get(field.name, field.default)
            wanted = tuple(wanted) if isinstance(wanted, list) else wanted
            assert getattr(found, field.name) == wanted, f"{preset} {method} {field.name}, from {source}"


@pytest.mark.parametrize("preset", PUBLIC)
def test_a_preset_s_header_says_which_methods_settings_nobody_published(preset: str) -> None:
    header = " ".join(
        line.removeprefix("#").strip()
        for line in (PRESETS / f"{preset}.yaml").read_text("utf-8").split("common:")[0].splitlines()
    )
    derived = [method for method, row in TABLE[preset].items() if "derived" in row]
    sentences = [s for s in header.split(". ") if " derived:" in s]
    assert len(sentences) == bool(derived)
    assert {m for s in sentences for m in TABLE[preset] if m in s.split(" derived:")[0].split()} == set(derived)
