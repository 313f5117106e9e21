"""Configuration of a run: model, facts, method, evaluations, ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from evals.gates import Gate, parse_gates
from evals.tasks.examples import TaskRows
from ledger.database.defaults import defaults_at
from seqedit.defaults.run_file import with_kept
from seqedit.demo.location import DEMO_FILE, resolve_demo_file
from seqedit.editing.settings import Given, MethodChoice
from seqedit.errors import InputError
from seqedit.facts.files import FactFile, fact_files
from seqedit.facts.layouts import check_convention
from seqedit.methods import get_method
from seqedit.methods.config import EditConfig
from seqedit.moments.providing import SecondMomentSettings
from seqedit.planning.order import ORDERS, Order
from seqedit.scoring.gate_check import check_measured
from seqedit.scoring.settings import EvalSettings
from seqedit.support.config import Config, setting
from seqedit.support.files import read_mapping
from seqedit.support.suggestions import did_you_mean
from seqedit.text.framing import Framing

ROOT = "root"
"""What ``onto`` calls the unedited model."""
Action = Literal["stop", "revert", "retry"]
Then = Literal["stop", "continue"]


@dataclass(frozen=True)
class OnGate:
    """What a run does when a step trips a gate.

    Attributes:
        action: ``stop``: the run ends, the entry stays; ``revert``: the entry is reverted; ``retry``: it is reverted
            and its facts are edited once more, in smaller batches or by another method.
        then: Whether the run goes on with the next batch after a revert, or after a retry that tripped too.
        batch_size: Batch size of a retry.
        method: Method of a retry; None for the run's.
        settings: Its settings; as they were given where some wait for the model.
        preset: The preset that they start from.
    """

    action: Action = "stop"
    then: Then = "stop"
    batch_size: int | None = None
    method: str | None = None
    settings: EditConfig | Given | None = None
    preset: str | None = None


@dataclass(frozen=True)
class RunConfig:
    """A whole run.

    Attributes:
        model: Hub id, directory or shipped model.
        facts: Fact file or Hub dataset; of several files, their names.
        zsre: What zsRE records teach (`seqedit.facts.layouts.ZSRE_CONVENTIONS`).
        skip_unusable: Whether records that cannot be used are left out and counted, instead of refused.
        framing: How facts are put to the model: their joint and the chat template (``join``, ``chat_template``).
        method: Name of the editing method.
        settings: Its settings; as they were given where some wait for the model (`seqedit.runs.settling`).
        batch_size: Requests per step.
        steps: Number of batches; None means all facts.
        second_moments: Where second moments come from.
        evals: What is measured.
        tasks: lm-eval task name -> local JSONL file, or rows with examples, or None for the packaged data.
        context_templates: Groups of context templates; None means sampled from the model.
        ledger: Ledger directory or database URL.
        branch: Branch of the ledger that the run's entries go to.
        onto: Where the run begins: a revision, ``root`` for the unedited model, or None for the head of ``branch``, of
            HEAD's branch where that is a new one.
        files: The files of facts where there are several, each in batches of its own; None for ``facts`` alone.
        whole_files: Whether every file is one batch, whatever its size.
        out: Folder of summary, report and plots.
        seed: Seed of everything random.
        dtype: Weight type, ``auto`` keeps the checkpoint's.
        device: Device, None for the GPU where there is one.
        title: Title of the report.
        shuffle: Whether the facts are put into a random order by the seed before they are cut into batches.
        order: ``file``: batches are cut from the facts as they come; ``clustered``: facts with near keys share a batch
            (`seqedit.planning.order`).
        gates: Limits that every step must keep.
        on_gate: What happens when one does not.
        preset: The preset that the settings start from; a model of another shape than it was made for is warned of.
        defaults: What of all this the ledger's configuration gave: option -> value.
    """

    model: str
    facts: str
    method: str
    settings: EditConfig | Given
    batch_size: int
    ledger: str
    out: Path
    steps: int | None = None
    second_moments: SecondMomentSettings = field(default_factory=SecondMomentSettings)
    evals: EvalSettings = field(default_factory=EvalSettings)
    tasks: Mapping[str, str | TaskRows | None] = field(default_factory=dict)
    context_templates: list[list[str]] | None = None
    branch: str = "main"
    onto: str | None = None
    files: tuple[FactFile, ...] | None = None
    whole_files: bool = False
    seed: int = 0
    dtype: str = "auto"
    device: str | None = None
    title: str = "Sequential editing"
    shuffle: bool = False
    order: Order = "file"
    zsre: str = "mend"
    skip_unusable: bool = False
    framing: Framing = Framing()
    gates: tuple[Gate, ...] = ()
    on_gate: OnGate = OnGate()
    preset: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_convention(self.zsre)
        if self.batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps must be at least 1, got {self.steps}")
        if self.order not in ORDERS:
            hint = did_you_mean(str(self.order), ORDERS)
            raise InputError(f"field 'order' must be {' or '.join(ORDERS)}, got {self.order!r}{hint}")
        if self.whole_files and self.order == "clustered":
            raise InputError("field 'order': every file is one batch; give 'batch_size' to cut files into batches")


_KNOWN = (
    "model", "facts", "method", "preset", "settings", "batch_size", "steps", "second_moments", "evals", "tasks",
    "context_templates", "ledger", "branch", "onto", "out", "seed", "dtype", "device", "title", "shuffle", "order",
    "gates", "on_gate", "zsre", "skip_unusable", "join", "chat_template",
)  # fmt: skip
_NEEDED = ("model", "facts", "method", "out")


def read_run_config(path: str | Path) -> RunConfig:
    """A run's YAML (or JSON) configuration; relative paths are relative to the file.

    What it does not say is taken from what its ledger keeps (`seqedit config`), if it is there.

    Raises:
        InputError: a field is unknown, missing or does not fit; names the file and the field.
    """
    data = read_mapping(path)
    try:
        place = _ledger_of(data, Path(path).parent)
        data, found = with_kept(data, {} if place is None else defaults_at(place))
        return replace(run_config(data, Path(path).parent), defaults=found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _ledger_of(data: Mapping[str, Any], folder: Path) -> str | None:
    """Where a run's ledger is; None where its file says neither that nor where its results go."""
    ledger = data.get("ledger")
    if ledger is not None:
        return str(ledger) if "://" in str(ledger) else str(folder / str(ledger))
    return None if data.get("out") is None else str(folder / str(data["out"]) / "ledger")


def run_config(data: Mapping[str, Any], folder: Path) -> RunConfig:
    """A run's configuration from JSON types; relative paths are relative to ``folder``."""
    for name in data:
        if name not in _KNOWN:
            hint = did_you_mean(str(name), _KNOWN)
            raise InputError(f"unknown field '{name}' (known: {', '.join(_KNOWN)}){hint}")
    for name in _NEEDED:
        if data.get(name) is None:
            raise InputError(f"field '{name}' is missing")
    for name in ("second_moments", "evals", "settings"):
        if not isinstance(data.get(name) or {}, Mapping):
            raise InputError(f"field '{name}' must be a mapping")
    integers = RunNumbers.from_dict({k: data[k] for k in ("batch_size", "steps", "seed") if data.get(k) is not None})

    def local(value: str | None) -> str | None:
        """A path relative to the file where one exists there; a Hub id or URL stays."""
        if value is None or "://" in value:
            return value
        if value.startswith(DEMO_FILE):
            return resolve_demo_file(value)
        return str(folder / value) if (folder / value).exists() else value

    moments = dict(data.get("second_moments") or {})
    for name in ("file", "text"):
        if moments.get(name) is not None:
            moments[name] = local(str(moments[name]))
    evals = dict(data.get("evals") or {})
    if evals.get("perplexity_text") is not None:
        evals["perplexity_text"] = local(str(evals["perplexity_text"]))
    if evals.get("attribute_snippets") is not None:
        evals["attribute_snippets"] = local(str(evals["attribute_snippets"]))
    files = fact_files(data["facts"], folder, local)
    whole_files = files is not None and data.get("batch_size") is None
    onto = None if data.get("onto") is None else str(data["onto"])
    out = folder / str(data["out"])
    gates = parse_gates(data.get("gates"))
    chosen = EvalSettings.from_dict(evals)
    on_gate = _on_gate(data.get("on_gate"), None if whole_files else integers.batch_size, data.get("preset"))
    trained = [name for name in (str(data["method"]), on_gate.method) if name and not _diagnosed(name)]
    check_measured(
        gates, counterfact=chosen.counterfact, generation=chosen.generation, drift=chosen.drift,
        text=chosen.perplexity_text is not None, moments=get_method(str(data["method"])).needs_second_moments,
        undiagnosed=trained[0] if trained else None,
    )  # fmt: skip
    return RunConfig(
        model=str(local(str(data["model"]))),
        facts=str(local(str(data["facts"]))) if files is None else _named(data["facts"], files),
        method=str(data["method"]),
        settings=_settings(str(data["method"]), data.get("preset"), data.get("settings")),
        batch_size=integers.batch_size,
        steps=integers.steps,
        second_moments=SecondMomentSettings.from_dict(moments),
        evals=chosen,
        tasks=_tasks(data.get("tasks") or {}, local),
        context_templates=data.get("context_templates"),
        ledger=str(_ledger_of(data, folder)),
        branch=str(data.get("branch") or (onto if onto not in (None, ROOT) else "main")),
        onto=onto,
        files=files,
        whole_files=whole_files,
        out=out,
        seed=integers.seed,
        dtype=str(data.get("dtype", "auto")),
        device=data.get("device"),
        zsre=str(data.get("zsre", "mend")),
        skip_unusable=_flag("skip_unusable", data.get("skip_unusable", False)),
        framing=Framing(data.get("join"), _flag("chat_template", data.get("chat_template", False))),
        order=data.get("order", "file"),
        shuffle=_flag("shuffle", data.get("shuffle", False)),
        gates=gates,
        preset=data.get("preset"),
        on_gate=on_gate,
        title=str(data.get("title", f"Sequential editing of {Path(str(data['model'])).name} by {data['method']}")),
    )


def _settings(method: str, preset: str | None, settings: Mapping[str, Any] | None) -> EditConfig | Given:
    return MethodChoice(preset=preset, settings=dict(settings or {})).settings_of(method)


def _named(given: Any, files: Sequence[FactFile]) -> str:
    """Several files as messages name them."""
    return given if isinstance(given, str) else ", ".join(file.name for file in files)


def _diagnosed(method: str) -> bool:
    """Whether the diagnosis of a method's edits tells what converged and what was written: the closed forms' does."""
    return get_method(method).needs_second_moments


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"field '{name}' must be true or false, got {value!r}")
    return value


def _on_gate(value: Any, batch_size: int | None, preset: str | None) -> OnGate:
    """``stop``, ``revert``, ``retry``, or a mapping with ``action``, ``then`` and what a retry changes."""
    data: dict[str, Any] = {}
    if isinstance(value, str):
        data = {"action": value}
    elif isinstance(value, Mapping):
        data = {str(k): v for k, v in value.items()}
    known = {"action", "then", "batch_size", "method", "preset", "settings"}
    unknown = sorted(set(data) - known)
    if (value is not None and not isinstance(value, str | Mapping)) or unknown:
        raise InputError(
            f"field 'on_gate' must be stop, revert or retry, or a mapping with 'action', 'then', 'batch_size', "
            f"'method', 'preset' and 'settings', got {value!r}{did_you_mean(unknown[0], known) if unknown else ''}"
        )
    action: Action = data.get("action", "stop")
    then: Then = data.get("then", "stop")
    if action not in get_args(Action) or then not in get_args(Then):
        hint = did_you_mean(str(action), get_args(Action)) or did_you_mean(str(then), get_args(Then))
        raise InputError(f"on_gate: 'action' is stop, revert or retry and 'then' stop or continue, got {value!r}{hint}")
    size = data.get("batch_size")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size <= 0):
        raise InputError(f"on_gate: batch_size must be a positive integer, got {size!r}")
    method = data.get("method")
    settings = None
    if method is not None:
        settings = _settings(str(method), data.get("preset", preset), data.get("settings"))
    if action == "retry" and method is None and (size is None or (batch_size is not None and size >= batch_size)):
        raise InputError("on_gate: a retry needs a smaller 'batch_size' or another 'method'")
    named = None if method is None else data.get("preset", preset)
    return OnGate(action, then, size, None if method is None else str(method), settings, named)


@dataclass(frozen=True, kw_only=True)
class RunNumbers(Config):
    """The integers of a run."""

    batch_size: int = setting(16, "requests per step")
    steps: int | None = setting(None, "number of batches")
    seed: int = setting(0, "seed of everything random")


_TASK_FIELDS = {"file": "fewshot_file", "folder": "fewshot_folder"}
"""What a task's rows are called, and a group's, and what its examples are called then."""


def _tasks(value: Any, local: Any) -> dict[str, str | TaskRows | None]:
    if isinstance(value, Mapping):
        return {str(name): _task(str(name), given, local) for name, given in value.items()}
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value)
    raise InputError(
        "field 'tasks' must be a list of lm-eval task names, or a mapping of names to local JSONL files (of groups to "
        "folders of them)"
    )


def _task(name: str, given: Any, local: Any) -> str | TaskRows | None:
    """A task's local file, or a mapping of its rows and examples; for a group folders."""
    if not isinstance(given, Mapping):
        found: str | None = local(None if given is None else str(given))
        return found
    number = given.get("num_fewshot")
    rows = [field for field in _TASK_FIELDS if given.get(field) is not None]
    if len(rows) != 1 or set(given) - {rows[0], "num_fewshot", _TASK_FIELDS[rows[0]], "same_examples"}:
        raise InputError(
            f"task '{name}' needs 'file' and may have 'num_fewshot' and 'fewshot_file', a group of tasks needs "
            f"'folder' and may have 'num_fewshot' and 'fewshot_folder', and both 'same_examples'; got: "
            f"{', '.join(map(str, given))}"
        )
    if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
        raise InputError(f"task '{name}': num_fewshot must be a whole number, got {number!r}")
    same = _flag(f"tasks.{name}.same_examples", given.get("same_examples", False))
    examples = given.get(_TASK_FIELDS[rows[0]])
    return TaskRows(local(str(given[rows[0]])), number, None if examples is None else local(str(examples)), same)


def settings_of(settings: EditConfig | Given) -> EditConfig:
    """Settings that were settled.

    Raises:
        TypeError: they were not.
    """
    if isinstance(settings, Given):
        raise TypeError(f"the settings of '{settings.method}' wait for the model: see seqedit.runs.settling.settle_run")
    return settings
