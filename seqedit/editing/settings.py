"""A method's settings from all the places a user can put them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from seqedit.editing.hyperparameters import read_hparams
from seqedit.errors import InputError
from seqedit.methods import get_method
from seqedit.methods.config import ClosedFormConfig, EditConfig
from seqedit.support.files import read_mapping
from seqedit.support.suggestions import did_you_mean

PRESETS = Path(__file__).parent / "presets"
BY_RULE = "rule"
"""In the place of a preset's name: settings by rule, also for a model that a preset knows."""


@dataclass(frozen=True)
class Given:
    """What a user gave of a method's settings; the rest may depend on the model (`seqedit.editing.rule`).

    Attributes:
        method: Name of the method.
        values: The settings, from all places.
        preset: The preset they start from; None for none, `BY_RULE` where the rule was asked for.
        hparams: Whether a hyperparameter file was among the places.
    """

    method: str
    values: Mapping[str, Any]
    preset: str | None = None
    hparams: bool = False

    @property
    def open(self) -> tuple[str, ...]:
        """Settings that wait for the model, where a preset that knows it may be taken, or the rule."""
        config = get_method(self.method).config
        if self.hparams or self.preset not in (None, BY_RULE) or not issubclass(config, ClosedFormConfig):
            return ()
        deciding = [name for name in ("layers", "learning_rate", config.written_by) if name]
        if all(name in self.values for name in deciding):
            return ()
        return tuple(name for name in (*deciding, "clamp_norm_factor") if name not in self.values)

    def draft(self) -> EditConfig:
        """The settings as far as they were given, and the method's defaults; layers may be missing.

        Raises:
            InputError: an unknown field, or a value that does not fit.
        """
        return get_method(self.method).config.from_dict(self.values)

    def config(self) -> EditConfig:
        """The settings, with the method's defaults where nothing was given.

        Raises:
            InputError: an unknown field, a value that does not fit, or no layers.
        """
        built = self.draft()
        if not built.layers:
            raise InputError(
                f"no layers to edit were given for method '{self.method}'; use --layers, --preset or --hparams"
            )
        return built


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(p.stem for p in PRESETS.glob("*.yaml"))


def is_preset_file(name: str) -> bool:
    """Whether a preset is a file's and not a shipped one's name."""
    return Path(name).suffix in (".yaml", ".yml", ".json")


def read_preset(name: str, method: str) -> dict[str, Any]:
    """Settings of a preset for one method: its common ones, then those of the method.

    Args:
        name: A shipped preset, or a preset file (``.yaml``, ``.yml``, ``.json``), such as `seqedit.tuning` writes.
        method: Name of a registered method.

    Raises:
        InputError: lists the shipped presets; or a file that cannot be read, or says nothing of the method.
    """
    own = is_preset_file(name)
    if not own and name not in preset_names():
        hint = did_you_mean(name, [*preset_names(), BY_RULE])
        raise InputError(f"unknown preset '{name}' (shipped: {', '.join(preset_names())}; or a .yaml file){hint}")
    data = read_mapping(Path(name) if own else PRESETS / f"{name}.yaml")
    if own:
        _check_preset(name, data, method)
    config = get_method(method).config
    known = {f.name for f in fields(config)}
    # What is common is meant for the closed forms: a rate of theirs would be absurd for fine-tuning.
    other = {"layers"} if config.preset_layers else set()
    shared = known if issubclass(config, ClosedFormConfig) else other
    common = {k: v for k, v in data.get("common", {}).items() if k in shared & known}
    return {**common, **data.get("methods", {}).get(method, {})}


def _check_preset(path: str, data: Mapping[str, Any], method: str) -> None:
    for part in ("common", "methods"):
        if not isinstance(data.get(part, {}), Mapping):
            raise InputError(f"{path}: '{part}' must be a mapping, got {data[part]!r}")
    methods = data.get("methods", {})
    if not isinstance(methods.get(method, {}), Mapping):
        raise InputError(f"{path}: the settings of '{method}' must be a mapping")
    if method not in methods and not data.get("common"):
        raise InputError(f"{path}: no settings for method '{method}' (it has {', '.join(map(str, methods)) or 'none'})")


def assigned(assignments: Sequence[str]) -> dict[str, str]:
    """Field -> value, of ``FIELD=VALUE`` strings.

    Raises:
        InputError: a string of another form.
    """
    values = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise InputError(f"--set takes FIELD=VALUE, got {assignment!r}")
        values[name.strip()] = value.strip()
    return values


def given_settings(
    method: str,
    *,
    preset: str | None = None,
    hparams: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    layers: str | None = None,
    spread: str | None = None,
) -> Given:
    """What was given of a method's settings; the arguments and errors of `method_config`, but layers may be missing."""
    config = get_method(method).config
    values: dict[str, Any] = {}
    if preset is not None and preset != BY_RULE:
        values |= read_preset(preset, method)
    if hparams is not None:
        values |= read_hparams(hparams, method)
    values |= settings or {}
    values |= assigned(assignments)
    if layers is not None:
        values["layers"] = layers
    if spread is not None:
        values["spread"] = spread
    config.from_dict(values)  # what does not fit is said before a model is loaded
    return Given(method, values, preset, hparams is not None)


def method_config(
    method: str,
    *,
    preset: str | None = None,
    hparams: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    layers: str | None = None,
    spread: str | None = None,
) -> EditConfig:
    """Settings of a method; later sources win: preset, hyperparameter file, settings, assignments, options.

    Args:
        method: Name of a registered method.
        preset: Name of a shipped preset, or a preset file.
        hparams: Hyperparameter file.
        settings: Settings from a run's configuration.
        assignments: ``FIELD=VALUE`` strings.
        layers: Layers as the command line gives them.
        spread: Spread as the command line gives it.

    Raises:
        InputError: unknown method, preset or field, or a value that does not fit; names it.
    """
    if preset == BY_RULE:
        raise InputError(f"preset '{BY_RULE}' needs a model at hand, which there is none of here")
    return given_settings(
        method, preset=preset, hparams=hparams, settings=settings, assignments=assignments, layers=layers,
        spread=spread,
    ).config()  # fmt: skip


@dataclass(frozen=True)
class MethodChoice:
    """What a user chose of a method and its settings; later sources win, as for `method_config`.

    Attributes:
        method: Name of the method; None for that of an entry whose facts are edited anew.
        preset: Name of a shipped preset, or a preset file.
        hparams: Hyperparameter file.
        settings: Single settings by name.
        assignments: Single settings as ``FIELD=VALUE`` strings.
        layers: Layers as the command line gives them.
        spread: Spread as the command line gives it.
    """

    method: str | None = None
    preset: str | None = None
    hparams: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    assignments: Sequence[str] = ()
    layers: str | None = None
    spread: str | None = None

    @property
    def given(self) -> bool:
        """Whether anything was chosen."""
        return self != MethodChoice()

    def partial(self, method: str, below: Mapping[str, Any] | None = None) -> Given:
        """The settings of a method as far as they were chosen (`given_settings`), over those ``below``."""
        return given_settings(
            method, preset=self.preset, hparams=self.hparams, settings={**(below or {}), **self.settings},
            assignments=self.assignments, layers=self.layers, spread=self.spread,
        )  # fmt: skip

    def settings_of(self, method: str, below: Mapping[str, Any] | None = None) -> EditConfig | Given:
        """The settings of a method; as they were given where some of them wait for the model.

        Whoever has the model settles those (`seqedit.editing.rule.settle`).

        Args:
            method: Its name.
            below: Settings that every single one of the choice goes over.

        Raises:
            InputError: as for `method_config`.
        """
        given = self.partial(method, below)
        return given if given.open else given.config()

    def config(self, method: str, below: Mapping[str, Any] | None = None) -> EditConfig:
        """The settings of a method.

        Args:
            method: Its name.
            below: Settings that every single one of the choice goes over.

        Raises:
            InputError: as for `method_config`.
        """
        return method_config(
            method, preset=self.preset, hparams=self.hparams, settings={**(below or {}), **self.settings},
            assignments=self.assignments, layers=self.layers, spread=self.spread,
        )  # fmt: skip
