"""Settings that nobody gave: those of the preset that knows the model, or by a rule from the model's own numbers.

The rule is what `seqedit.tuning` begins its search with (`seqedit.editing.layer_figures`): no number of another model
enters. It is measured on the unedited model at the subjects of `FACTS`, not at those that are to be edited, so a model
has the same settings for every batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from seqedit.editing.diagnosis import REACH
from seqedit.editing.editor import Editor
from seqedit.editing.layer_figures import candidate_layers, layer_figures, window
from seqedit.editing.pilot import SUBJECTS
from seqedit.editing.preset_model import preset_for, preset_warning
from seqedit.editing.settings import BY_RULE, Given, read_preset
from seqedit.facts.requests import Request
from seqedit.methods import get_method
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.models.anatomy import Anatomy
from seqedit.text.lookup import BARE

RULE_SHARE = 0.9
"""Share of a lone fact's residual that the rule's weight writes."""
RULE_CLAMP = REACH + 1
"""Bound on a target value's way, in hidden norms: one beyond `REACH`, so that the rate decides and not the bound."""
FACTS = tuple(Request(name, "Many people have heard of {}, which is", "known") for name in SUBJECTS)
"""Subjects of many kinds, at whose last tokens norms are taken; words stand before them, as a text's first token has
norms of its own in many models."""


@dataclass(frozen=True)
class Settled:
    """A method's settings for a model.

    Attributes:
        config: The settings.
        by_rule: Those that the rule gave: setting -> value.
        preset: The preset that was taken because it knows the model; None where none was.
        notes: What the user is to be told of it, one line each.
        warnings: What speaks against the settings, one line each.
    """

    config: EditConfig
    by_rule: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def provenance(self) -> dict[str, Any]:
        """What an adapter's provenance says of it; nothing where all settings were given."""
        return {
            **({"by_rule": dict(self.by_rule)} if self.by_rule else {}),
            **({"preset": self.preset} if self.preset else {}),
        }


@dataclass(frozen=True)
class Recorded:
    """Settings that a batch was edited with, and where they came from.

    Attributes:
        method: The method's name and settings, as an entry records them.
        provenance: `Settled.provenance` of them, as the adapter records it, among other things.
    """

    method: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)


def settle(given: EditConfig | Given, editor: Editor, recorded: Sequence[Recorded] = ()) -> Settled:
    """Fill in what was not given: nothing where a preset or hyperparameter file was; else for the closed forms.

    A shipped preset that was made for a model of this very shape is taken where no layers were given, and so nothing
    was chosen; a model that no preset knows has learning rate, weight, bound and layers by rule.

    Args:
        given: What the user gave; all settings are taken as they are.
        editor: The model and its second moments.
        recorded: What an earlier part of the same work was done with; what it had is taken before anything is chosen.

    Raises:
        InputError: no layers, for a method that the rule is not for; or layers that the model does not have.
    """
    if isinstance(given, EditConfig):
        return Settled(given)
    name, parts = editor.edited.base_model.name, editor.edited.parts
    if given.hparams or given.preset not in (None, BY_RULE):
        warning = preset_warning(given.preset, parts, name)
        return Settled(given.config(), warnings=() if warning is None else (warning,))
    config_class = get_method(given.method).config
    if not issubclass(config_class, ClosedFormConfig) or not given.open:
        return Settled(given.config())
    if (begun := next((one for one in recorded if _agrees(given, one)), None)) is not None:
        return _as_recorded(given, begun)
    known = preset_for(parts) if given.preset is None else None
    if known is None:
        return _by_rule(given, config_class, editor)
    if given.values.get("layers"):
        return Settled(given.config(), notes=(_own_defaults(known),))
    values = {**read_preset(known, given.method), **given.values}
    filled = Given(given.method, values, known)
    return Settled(filled.config(), preset=known, notes=(_preset_taken(known),))


@dataclass(frozen=True)
class Planned:
    """What `settle` would come to, as far as it is known where nothing is measured.

    Attributes:
        config: The settings; layers may be missing where there is no model at all.
        waiting: Those whose value is another: it waits for the model.
        notes: What the user is to be told of it, one line each.
    """

    config: EditConfig
    waiting: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """As JSON types; None for what waits."""
        return {**self.config.to_dict(), **dict.fromkeys(self.waiting)}


def planned(given: EditConfig | Given, parts: Anatomy | None) -> Planned:
    """What `settle` would come to, for a plan that measures nothing.

    Args:
        given: What the user gave.
        parts: The model's anatomy, which needs no weights; None where there is not even that.
    """
    if isinstance(given, EditConfig):
        return Planned(given)
    if not given.open:
        return Planned(given.config())
    if parts is None:
        note = f"{', '.join(given.open)}: by rule, unless a preset knows the model"
        return Planned(given.draft(), given.open, (note,))
    config_class = get_method(given.method).config
    assert issubclass(config_class, ClosedFormConfig)
    known, values = preset_for(parts) if given.preset is None else None, dict(given.values)
    if known is not None:
        if values.get("layers"):
            return Planned(given.config(), notes=(_own_defaults(known),))
        values = {**read_preset(known, given.method), **values}
        return Planned(Given(given.method, values).config(), notes=(_preset_taken(known),))
    if not values.get("layers"):
        values["layers"] = _layers(given, config_class, parts)
    names = ("learning_rate", config_class.written_by, "clamp_norm_factor")
    waiting = tuple(name for name in names if name and name not in values)
    return Planned(Given(given.method, values).config(), waiting, (f"{', '.join(given.open)}: by rule",))


def _own_defaults(known: str) -> str:
    return f"preset '{known}' knows this model; without --preset {known} what is not given has the method's default"


def _preset_taken(known: str) -> str:
    return f"settings of preset '{known}', which knows this model"


def _agrees(given: Given, one: Recorded) -> bool:
    """Whether a batch was edited with all that was given."""
    wanted = given.draft().to_dict()
    return one.method.get("name") == given.method and all(one.method.get(n) == wanted[n] for n in given.values)


def _as_recorded(given: Given, one: Recorded) -> Settled:
    preset, ruled = one.provenance.get("preset"), one.provenance.get("by_rule") or {}
    names = read_preset(preset, given.method) if preset else given.open
    taken = {name: one.method[name] for name in names if name not in given.values and name in one.method}
    shown = [f"{name} {_text(taken[name])}" for name in given.open if name in taken]
    config = Given(given.method, {**given.values, **taken}).config()
    return Settled(config, {n: taken[n] for n in ruled if n in taken}, preset, (f"{', '.join(shown)} as before",))


def _layers(given: Given, config_class: type[ClosedFormConfig], parts: Anatomy) -> tuple[int, ...]:
    last = parts.nearest_layers(candidate_layers(len(parts.layers))[:1])[0]
    spread = given.values.get("spread", next(f.default for f in fields(config_class) if f.name == "spread"))
    return (last,) if spread == "single" else tuple(i for i in window(last) if i in parts.projections.layers)


def _by_rule(given: Given, config_class: type[ClosedFormConfig], editor: Editor) -> Settled:
    edited, values = editor.edited, dict(given.values)
    ruled: dict[str, Any] = {}

    def fill(name: str, value: Any) -> None:
        if name not in values:
            values[name] = ruled[name] = value

    if not values.get("layers"):
        values.pop("layers", None)
        fill("layers", list(_layers(given, config_class, edited.parts)))
    start = config_class.from_dict(values)
    layers = edited.parts.check_layers(start.layers)
    setting = start.written_by
    factors, invert = editor.factorizations(layers), get_method(given.method).precondition
    assert invert is not None  # a closed form has one
    with edited.unedited():
        layer = start.target_layers[-1]
        found = layer_figures(
            edited.model, edited.parts, edited.tokenizer, FACTS, [[BARE]], layer,
            invert(factors, edited.parts.projections[layer], start), steps=start.steps,
            weight=1.0 if setting is None else float(getattr(start, setting)), place=start.target_place,
        )  # fmt: skip
    fill("learning_rate", found.learning_rate)
    if setting is not None and start.a > 0:  # with a = 0 the weight cancels
        fill(setting, found.weight_for(RULE_SHARE, start.a))
    fill("clamp_norm_factor", RULE_CLAMP)
    if ruled.get("clamp_norm_factor") == config_class.clamp_norm_factor:  # the method's own: nothing to tell
        told = {name: value for name, value in ruled.items() if name != "clamp_norm_factor"}
    else:
        told = ruled
    order = ("learning_rate", setting, "clamp_norm_factor", "layers")
    shown = [f"{name} {_text(told[name])}" for name in order if name in told]
    why = "no preset knows this model" if given.preset is None else "no preset"
    notes = (f"{why}: {', '.join(shown)} by rule; seqedit tune finds better",) if shown else ()
    return Settled(config_class.from_dict(values), by_rule=ruled, notes=notes)


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else f"{value:g}"
