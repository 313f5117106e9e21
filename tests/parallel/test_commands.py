"""The command line in two processes: the same results as in one, and what is left when a process is lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ledger import Ledger
from seqedit.moments.store import read_second_moments
from tests.conftest import REFERENCE
from tests.parallel.conftest import StartRanks
from tests.parallel.processes import alone, finish, python

MODEL = str(REFERENCE / "model")
RECORDS = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
COLA = [{"sentence": "Venxa plays golf.", "label": 1}, {"sentence": "Venxa of golf the.", "label": 0}]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's configuration and its files: six facts in three batches; nothing is cached yet."""
    monkeypatch.setenv("SEQEDIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "facts.json").write_text(json.dumps(RECORDS))
    (tmp_path / "cola.jsonl").write_text("\n".join(json.dumps({**row, "idx": i}) for i, row in enumerate(COLA)))
    lines = [f"Visitor {i} came to the market on day {i % 7} and stayed {i % 11} hours.\n" for i in range(2000)]
    (tmp_path / "text.txt").write_text("".join(lines))
    (tmp_path / "short.txt").write_text("".join(lines[:40]))
    configuration = {
        "model": MODEL, "facts": "facts.json", "method": "memit", "batch_size": 2, "steps": 3, "out": "out",
        "settings": {"layers": [1, 2], "steps": 20, "second_moment_weight": 50, "shrinkage": 0.01},
        "second_moments": {"text": "text.txt", "max_tokens": 20_000},
        "context_templates": [["{}"], ["It rained. {}", "A man who had come from far away said that {}"]],
        "tasks": {"cola": "cola.jsonl"},
        "evals": {"generation_tokens": 5, "resamples": 50, "perplexity_text": "short.txt"},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(configuration))
    return tmp_path


def adapters(folder: Path) -> list[str]:
    """Digests of a run's adapters: equal where every bit of them is."""
    with Ledger.open(str(folder / "out" / "ledger")) as ledger:
        return [str(entry.adapter) for entry in ledger.log()[:-1]]


def scores(folder: Path) -> Any:
    """A run's summary without times and the ids that times are a part of."""
    changing = ("seconds", "timings", "entry", "time")

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(part) for name, part in value.items() if name not in changing}
        return [kept(part) for part in value] if isinstance(value, list) else value

    return kept(json.loads((folder / "out" / "summary.json").read_text()))


def wait_for_step(leader: subprocess.Popen[str], step: int) -> None:
    """Until the table on stdout has the line of a step."""
    assert leader.stdout is not None
    for line in leader.stdout:
        if line.split()[:1] == [str(step)]:
            return
    raise AssertionError(f"the run ended before step {step}: {leader.communicate()[1]}")


def test_torchrun_scores_as_one_process(tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text(json.dumps(RECORDS))
    command = ["score", "--model", MODEL, "--records", str(tmp_path / "facts.json"), "--json"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "seqedit"]
    code, out, err = finish(python(*launcher, *command))
    assert code == 0, err
    assert json.loads(out) == json.loads(alone(*command)[1])


def test_a_run_in_two_processes_is_that_of_one_and_a_lost_one_leaves_it_resumable(
    folder: Path, start_two: StartRanks
) -> None:
    run = ["run", str(folder / "run.yaml")]
    code, _, err = alone(*run)
    assert code == 0, err
    undisturbed = adapters(folder), scores(folder)
    shutil.rmtree(folder / "out")
    shutil.rmtree(folder / "cache")

    both = [finish(process) for process in start_two(run)]
    assert [code for code, _, _ in both] == [0, 0], both
    assert both[1][1:] == ("", "")
    assert (adapters(folder), scores(folder)) == undisturbed
    shutil.rmtree(folder / "out")

    leader, worker = start_two(run)
    wait_for_step(leader, 1)
    worker.kill()
    code, _, err = finish(leader)
    assert code == 3
    assert "is gone" in err
    assert "--resume" in err
    assert finish(worker)[0] == -signal.SIGKILL
    assert len(adapters(folder)) in (1, 2)
    code, _, err = alone(*run, "--resume")
    assert code == 0, err
    assert (adapters(folder), scores(folder)) == undisturbed


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_an_interrupted_leader_ends_with_130_and_takes_the_worker_along(
    folder: Path, start_two: StartRanks, number: signal.Signals
) -> None:
    leader, worker = start_two(["run", str(folder / "run.yaml")])
    wait_for_step(leader, 1)
    leader.send_signal(number)
    code, _, err = finish(leader)
    assert code == 130, err
    assert "Traceback" not in err
    assert finish(worker)[0] in (130, 3)  # 3 where it was amid a job and saw the connection end
    assert len(adapters(folder)) in (1, 2)


def test_stats_are_those_of_one_process(folder: Path, start_two: StartRanks) -> None:
    text = str(folder / "text.txt")
    command = ["stats", "--model", MODEL, "--text", text, "--max-tokens", "20000", "--layers", "0,2"]
    together = [finish(p) for p in start_two([*command, "--out", str(folder / "two.safetensors")])]
    assert [code for code, _, _ in together] == [0, 0], together
    shutil.rmtree(folder / "cache")
    assert alone(*command, "--out", str(folder / "one.safetensors"))[0] == 0
    one, two = (read_second_moments(folder / f"{name}.safetensors") for name in ("one", "two"))
    assert one.tokens == two.tokens
    for name, matrix in one.matrices.items():
        assert (two.matrices[name] - matrix).norm() <= 1e-6 * matrix.norm()


def test_a_wrong_command_is_told_once_and_ends_all_with_its_code(tmp_path: Path, start_two: StartRanks) -> None:
    both = [finish(p) for p in start_two(["score", "--model", MODEL, "--records", str(tmp_path / "none.json")])]
    assert [code for code, _, _ in both] == [2, 2]
    assert "none.json" in both[0][2]
    assert both[1][1:] == ("", "")


def test_a_command_that_needs_no_model_works_in_several_processes(start_two: StartRanks) -> None:
    leader, worker = (finish(process) for process in start_two(["--version"]))
    assert leader[0] == worker[0] == 0
    assert leader[1].startswith("seqedit ")
    assert worker[1:] == ("", "")
