"""Callbacks of a run: what they are told and when; TensorBoard for real, wandb and trackio where they are installed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run
from seqedit.errors import InputError
from seqedit.runs.callbacks import Callback
from seqedit.runs.config import read_run_config
from seqedit.runs.runner import run as run_batches
from seqedit.runs.trackers import TrackerSink, baseline_metrics, make_sinks, step_metrics
from seqedit.scoring.summary_types import RunSummary, StepSummary
from tests.runs.test_run import change, folder  # noqa: F401

STEP = {
    "step": 3, "entry": "ab", "operation": "edit", "message": "m", "active": True, "requests": 2, "ES": 100, "GE": None,
    "earlier": {"ES": 90.0}, "tasks": {"cola": {"mcc": 0.5, "metric": "mcc", "change": -0.1}},
    "drift": {"weight_norm": 0.1, "modules": {}}, "gates": [{"tripped": True}, {"tripped": False}],
    "timings": {"edit": 1.5}, "seconds": 1.5, "facts": [],
}  # fmt: skip


def test_numbers_of_a_step_have_flat_names_and_the_unmeasured_is_left_out() -> None:
    assert step_metrics(STEP) == {
        "new/requests": 2.0, "new/ES": 100.0, "new/seconds": 1.5, "earlier/ES": 90.0, "tasks/cola/mcc": 0.5,
        "tasks/cola/change": -0.1, "drift/weight_norm": 0.1, "seconds/edit": 1.5, "gates/tripped": 1.0,
    }  # fmt: skip
    assert baseline_metrics({"cola": {"mcc": 0.6}, "counterfact": {"ES": 5, "GE": None}}) == {
        "tasks/cola/mcc": 0.6,
        "new/ES": 5.0,
    }


class Heard(Callback):
    """Writes down what it is told; fails at a step if asked to."""

    def __init__(self, fail: bool = False) -> None:
        self.heard: list[str] = []
        self.fail = fail

    def on_run_begin(self, config: Any) -> None:
        self.heard.append(f"begin {config.method}")

    def on_baseline(self, baseline: dict[str, Any]) -> None:
        assert "counterfact" in baseline
        self.heard.append("baseline")

    def on_step(self, step: StepSummary) -> None:
        self.heard.append(f"step {step['step']}")
        if self.fail:
            raise RuntimeError("no more")

    def on_run_end(self, summary: RunSummary) -> None:
        self.heard.append(f"end {len(summary['steps'])}")

    def close(self) -> None:
        self.heard.append("close")


def test_callbacks_hear_a_run_in_order_and_a_resumed_one_from_the_first_step(folder: Path) -> None:  # noqa: F811
    config = read_run_config(change(folder, steps=2))
    first, broken = Heard(), Heard(fail=True)
    with pytest.raises(RuntimeError, match="no more"):
        run_batches(config, callbacks=[broken, first])
    begin = f"begin {config.method}"
    assert broken.heard == [begin, "baseline", "step 1", "close"]
    assert first.heard == [begin, "baseline", "close"]  # the one before it broke the run off
    again = Heard()
    run_batches(config, resume=True, callbacks=[again])
    assert again.heard == [begin, "baseline", "step 1", "step 2", "end 2", "close"]


def test_tensorboard_has_every_step_once_also_after_a_resume(folder: Path) -> None:  # noqa: F811
    pytest.importorskip("tensorboard", reason="needs the package tensorboard")
    config = change(folder, steps=2)
    assert run(["run", str(config), "--log-to", "tensorboard"]) == 0
    assert run(["run", str(config), "--resume", "--log-to", "tensorboard", "--json"]) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "out" / "tensorboard"))
    events.Reload()
    summary = json.loads((folder / "out" / "summary.json").read_text())
    scalars = events.Scalars("new/ES")
    assert [event.step for event in scalars] == [0, 1, 2]
    assert [event.value for event in scalars][1:] == pytest.approx([step["ES"] for step in summary["steps"]])
    assert [event.step for event in events.Scalars("earlier/ES")] == [2]
    assert {"seconds/edit", "drift/weight_norm"} <= set(events.Tags()["scalars"])
    entry = events.Tensors("entry/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert summary["steps"][-1]["entry"] in entry


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_library_that_is_missing_is_named_with_how_to_get_it(
    name: str,
    folder: Path,  # noqa: F811
    monkeypatch: Any,
    capsys: Any,
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert run(["run", str(change(folder)), "--log-to", name]) == 2
    assert f'pip install "seqedit[{name}]"' in capsys.readouterr().err
    assert not (folder / "out").exists()  # nothing was begun


def test_an_unknown_sink_is_refused_by_name(folder: Path, capsys: Any) -> None:  # noqa: F811
    assert run(["run", str(change(folder)), "--log-to", "paper"]) == 2
    assert "'paper'" in capsys.readouterr().err


class Library:
    """Stands for a tracker that works."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def init(self, **fields: Any) -> None:
        print("hello from the tracker")
        self.calls.append(("init", fields))

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.calls.append(("log", (step, metrics)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def test_trackers_get_project_settings_and_steps_and_keep_stdout_clean(
    folder: Path,  # noqa: F811
    monkeypatch: Any,
    capsys: Any,
) -> None:
    library = Library()
    monkeypatch.setitem(sys.modules, "trackio", library)
    assert run(["run", str(change(folder, steps=2)), "--log-to", "trackio:months", "--json"]) == 0
    shown = capsys.readouterr()
    json.loads(shown.out)
    assert "hello from the tracker" in shown.err
    assert [name for name, _ in library.calls] == ["init", "log", "log", "log", "finish"]
    fields = library.calls[0][1]
    assert fields["project"] == "months"
    assert fields["config"]["batch_size"] == read_run_config(folder / "run.yaml").batch_size
    assert [step for name, value in library.calls if name == "log" for step in [value[0]]] == [0, 1, 2]


def test_a_tracker_that_fails_ends_the_run_with_its_name_and_is_closed(
    folder: Path,  # noqa: F811
    monkeypatch: Any,
    capsys: Any,
) -> None:
    library = Library()

    def broken(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(library, "log", broken)
    monkeypatch.setitem(sys.modules, "wandb", library)
    assert run(["run", str(change(folder, steps=1)), "--log-to", "wandb"]) == 3
    assert "wandb failed: gone" in capsys.readouterr().err
    assert library.calls[-1][0] == "finish"


@pytest.mark.parametrize("name", ["wandb", "trackio"])
@pytest.mark.filterwarnings("ignore")  # what these libraries warn of is not ours
def test_real_trackers_log_locally(name: str, folder: Path, monkeypatch: Any) -> None:  # noqa: F811
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"needs the package {name} (pip install 'seqedit[{name}]')")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(folder / "store"))
    config = read_run_config(change(folder, steps=1))
    run_batches(config, callbacks=make_sinks([f"{name}:tried"]))
    found = list(config.out.rglob("*.wandb")) if name == "wandb" else list((folder / "store").glob("tried*"))
    assert found
    assert found[0].stat().st_size > 0


def test_closing_a_sink_that_never_began_does_nothing(monkeypatch: Any, tmp_path: Path) -> None:
    library = Library()
    monkeypatch.setitem(sys.modules, "wandb", library)
    sink = TrackerSink("wandb")
    sink.close()
    assert library.calls == []
    with pytest.raises(InputError, match="known"):
        make_sinks(["wandb", "csv"])
