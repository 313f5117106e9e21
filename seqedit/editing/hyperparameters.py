"""Hyperparameter files of ROME, MEMIT, unified-model-editing, AlphaEdit, PMET and EasyEdit, mapped onto our settings.

Their files hold more than the code of their method reads: a MEMIT file may carry an ``emmet_lambda``. So a field has an
effect for exactly the methods whose public code reads it (`seqedit.editing.hyperparameter_fields` says which); what
else is known is named in one notice, what asks for another edit than is done here is refused, and so is what nobody
knows.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from seqedit.editing.hyperparameter_fields import (
    CHOICES,
    IDENTITY,
    KNOWN,
    NAMED_LAYERS,
    NO_EFFECT,
    OFF,
    ONLY,
    READ,
    SPELT,
    edited_modules,
)
from seqedit.errors import InputError
from seqedit.methods import get_method
from seqedit.support.files import read_mapping
from seqedit.support.suggestions import did_you_mean


@dataclass(frozen=True)
class HparamsFile:
    """What a hyperparameter file says for a method.

    Attributes:
        settings: Settings with our names.
        without_effect: Fields that the file has and that change nothing, in its order.
    """

    settings: Mapping[str, Any]
    without_effect: tuple[str, ...]

    def notice(self, path: str | Path, method: str) -> str:
        """One line that names the fields without effect, with what to use instead where there is something."""
        named = [f"{name} ({NO_EFFECT[name]})" if NO_EFFECT.get(name) else name for name in self.without_effect]
        return f"{path}: without effect for method '{method}': {', '.join(named)}"


def read_hparams(path: str | Path, method: str) -> dict[str, Any]:
    """Settings of a method from a JSON or YAML file, with our names; fields without effect are named on stderr.

    Args:
        path: The file: our own field names, or those of the public implementations.
        method: Which method they are for.

    Raises:
        InputError: the file cannot be read, or a field is unknown or asks for something else; names it.
    """
    found = parse_hparams(path, method)
    if found.without_effect:
        print(f"seqedit: {found.notice(path, method)}", file=sys.stderr)
    return dict(found.settings)


def parse_hparams(path: str | Path, method: str) -> HparamsFile:
    """As `read_hparams`, without a word."""
    own = {f.name for f in fields(get_method(method).config)}
    reads = READ.get(method, {})
    settings: dict[str, Any] = {}
    ignored: list[str] = []
    for name, value in read_mapping(path).items():
        ours = reads.get(name, name if name in own else None)
        only = ONLY.get(name)
        if name in edited_modules(method):
            _check_modules(path, name, value)
            if method in NAMED_LAYERS:
                settings["layers"] = _layers(path, name, value)
        elif name == "layers" and value == []:
            ignored.append(name)  # EasyEdit's LoRA: none named
        elif ours is not None:
            if ours in settings:
                raise InputError(f"{path}: '{name}' gives the setting '{ours}' a second time")
            theirs = SPELT.get(ours, {})
            value = theirs.get(value, value) if isinstance(value, str) else value
            settings[ours] = OFF[ours] if value is False and ours in OFF else value
        elif name in CHOICES and CHOICES[name][0] in own:
            if value not in (True, False):
                raise InputError(f"{path}: field '{name}' must be true or false, got {value!r}")
            if value:
                settings[CHOICES[name][0]] = CHOICES[name][1]
        elif name == "mom2_adjustment" and value is False and method in IDENTITY:
            settings["shrinkage"] = 1.0  # the identity for C0; its scale cancels at a = 0
        elif only is not None and method in only.methods:
            if value not in only.values:
                wanted = f"must be {only.values[0]!r} here, got {value!r}" if only.values else f"is {value!r}"
                raise InputError(f"{path}: field '{name}' {wanted}{': ' if only.why else ''}{only.why}")
        elif name in KNOWN:
            ignored.append(str(name))
        else:
            hint = did_you_mean(str(name), [*own, *reads])
            raise InputError(f"{path}: unknown field '{name}' for method '{method}'{hint}")
    return HparamsFile(settings, tuple(ignored))


def _layers(path: str | Path, name: str, value: Any) -> list[int]:
    """The layers that modules are of, from the one number in each name."""
    found = [[int(part) for part in template.split(".") if part.isdigit()] for template in value]
    if any(len(numbers) != 1 for numbers in found):
        raise InputError(f"{path}: field '{name}' must name modules with the number of their layer, got {value!r}")
    return sorted({number for (number,) in found})


_INPUTS = {"c_fc", "dense_h_to_4h", "fc1", "fc_in", "gate_proj", "gate_up_proj", "up_proj", "w1", "w3", "wi"}


def _check_modules(path: str | Path, name: str, value: Any) -> None:
    """Refuse module templates that name something else than an FFN's output projection.

    Only what a name says can be found without the model: attention, an FFN's input projection, a whole layer. The
    projection that is edited is found in the model itself.
    """
    for template in [value] if isinstance(value, str) else value if isinstance(value, list) else [None]:
        if not isinstance(template, str):
            raise InputError(f"{path}: field '{name}' must name a module, got {value!r}")
        parts = template.removesuffix(".weight").split(".")
        attention = any("attn" in part.lower() or "attention" in part.lower() for part in parts)
        queries = parts[-1] in ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value")
        layer = parts[-1] == "{}" and len(parts) > 2  # such as model.layers.{}
        if attention or queries or layer or parts[-1] in _INPUTS:
            raise InputError(
                f"{path}: {name} is '{template}', but the FFN output projection (such as mlp.c_proj or mlp.down_proj) "
                "is what is edited here; edits of other modules are not supported"
            )
