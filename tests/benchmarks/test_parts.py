"""Every part of ``python -m benchmarks`` runs and says what it promises to say."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import score
from benchmarks.__main__ import main, table
from benchmarks.children import in_child
from benchmarks.figures import Rates, fitted_exponent, side_by_side
from benchmarks.gpu import Sizes, run_sizes
from benchmarks.parts import PARTS, draw_part, load_part
from benchmarks.timing import Cost, measure_between, peak_bytes
from benchmarks.world import Subject, corpus, groups_of, records, synthetic_moments
from seqedit.errors import InputError
from seqedit.facts.requests import check_batch, requests_of

QUICK = [name for name in PARTS if name not in ("ledger_growth", "solves")]  # these have tests of their own


def in_process(function: str, **arguments):
    module, _, name = function.partition(":")
    return {"peak_bytes": peak_bytes(), **getattr(importlib.import_module(module), name)(**arguments)}


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_part_gives_the_promised_figures_and_a_plot(name, tmp_path, monkeypatch):
    if name == "target_values":  # `edit` measures its peaks in real processes
        monkeypatch.setattr("benchmarks.target_values.in_child", in_process)
    figures = load_part(name)(True)
    json.dumps(figures, allow_nan=False)
    for key in ("ratio", "seconds", "baseline_seconds", "cpu_seconds", "peak_bytes", "threads"):
        assert figures[key] > 0, key
    assert "seconds" in figures["ratio_is"]
    assert {"processor", "torch"} <= figures["machine"].keys()
    assert figures["sizes"]
    for row in figures["sizes"]:
        assert row["seconds"] > 0
    if name not in ("edit", "run"):
        assert figures["floor"]["operations"] > 0
        assert figures["floor"]["bytes"] > 0
        assert figures["floor"]["seconds"] > 0
    if name in ("target_values", "edit"):
        assert figures["memory_ratio"] == figures["peak_bytes"] / figures["baseline_peak_bytes"]
    if name in ("target_values", "second_moments", "compose"):
        assert isinstance(figures["exponent"], float)
    draw_part(name, figures, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_peak_of_a_child_is_not_that_of_its_parent():
    ballast = torch.ones(2**28)  # 1 GiB
    child = in_child("benchmarks.solves:run", quick=True)["peak_bytes"]
    assert peak_bytes() > ballast.numel() * 4
    assert child < ballast.numel() * 4


def test_the_command_measures_in_a_process_of_its_own_writes_json_and_draws(tmp_path, capfd):
    file = tmp_path / "figures.json"
    assert main(["--only", "solves", "--quick", "--json", str(file), "--plots", str(tmp_path / "plots")]) == 0
    figures = json.loads(file.read_text())["solves"]
    assert figures["options"]["d_in"] == [64, 128]
    assert figures["sizes"][0]["factor_bytes"] == 64 * 64 * 8
    assert (tmp_path / "plots" / "solves.png").read_bytes().startswith(b"\x89PNG")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "solves" in captured.err.splitlines()[-2]


def test_a_part_that_fails_is_named_and_the_others_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "benchmarks.__main__._measured", lambda name, quick: {"failed": "why"} if name == "keys" else {}
    )
    file = tmp_path / "figures.json"
    assert main(["--only", "keys,score", "--json", str(file)]) == 1
    assert json.loads(file.read_text()) == {"keys": {"failed": "why"}, "score": {}}


def test_a_wrong_part_is_wrong_usage(capsys):
    assert main(["--only", "target_value"]) == 2
    assert "known: ledger_growth, target_values" in capsys.readouterr().err


class TestOptions:
    def test_sizes_are_options(self, tmp_path, capsys):
        from benchmarks.solves import COMMAND

        file = tmp_path / "figures.json"
        assert COMMAND.main(["--quick", "--d-in", "16,32", "--json", str(file)]) == 0
        figures = json.loads(file.read_text())
        assert [row["d_in"] for row in figures["sizes"]] == [16, 32]
        assert figures["options"]["requests"] == [4]
        assert COMMAND.main(["--quick", "--d-in", "16", "--plot", str(tmp_path / "plot.png")]) == 0
        assert (tmp_path / "plot.png").is_file()
        assert json.loads(capsys.readouterr().out)["options"]["d_in"] == [16]

    def test_a_wrong_value_is_wrong_input(self, capsys):
        from benchmarks.keys import COMMAND

        assert COMMAND.main(["--quick", "--requests", "1000000"]) == 2
        assert "1000000 were asked for" in capsys.readouterr().err

    @pytest.mark.parametrize("name", PARTS)
    def test_every_part_has_them(self, name, capsys):
        with pytest.raises(SystemExit, match="0"):
            importlib.import_module(PARTS[name]).COMMAND.main(["--help"])
        assert "--json" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without an accelerator")
def test_without_an_accelerator_the_gpu_part_says_that_it_needs_one(monkeypatch, capsys):
    assert "accelerator" in run_sizes(Sizes())["skipped"]
    monkeypatch.setattr("benchmarks.__main__._measured", lambda name, quick: load_part(name)(quick))
    assert main(["--only", "gpu"]) == 3
    captured = capsys.readouterr()
    assert "accelerator" in json.loads(captured.out)["gpu"]["skipped"]
    monkeypatch.setattr("benchmarks.__main__.PARTS", {"gpu": PARTS["gpu"]})
    assert main([]) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_gpu_part_takes_dtypes(dtype):
    sizes = Sizes(("gpt2-xl",), (dtype,), 2, 1, 4, 4096, "cpu", True)
    (row,) = run_sizes(sizes)["sizes"]
    assert row["dtype"] == dtype
    assert row["extrapolated"]["edits"] == 4
    assert 0 < row["peak_rate_share"] < 1


@pytest.mark.slow
def test_two_processes_score_as_one_does():
    found = score.two_processes("demo-llama", 32, 1)
    assert found["ratio"] > 0
    assert found["threads"] == 1


class TestFigures:
    def test_ratios_are_ours_to_theirs_or_the_other_way_round(self):
        ours, theirs = Cost(2.0, 1.0), Cost(8.0, 3.0)
        assert (side_by_side(ours, theirs)["ratio"], side_by_side(ours, theirs)["cpu_ratio"]) == (4.0, 3.0)
        assert side_by_side(ours, theirs, speedup=False)["ratio"] == 0.25

    def test_the_floor_is_the_slower_of_computing_and_moving(self):
        rates = Rates(operations=100.0, bytes=10.0)
        assert rates.floor(1000, 1)["seconds"] == 10.0
        assert rates.floor(1000, 500)["seconds"] == 50.0

    def test_the_exponent_is_fitted_over_all_sizes(self):
        assert fitted_exponent({n: 3.0 * n**1.5 for n in (2, 4, 16)}) == pytest.approx(1.5)
        assert fitted_exponent({4: 1.0}) is None

    def test_a_long_baseline_is_the_sum_of_its_pieces_between_runs_of_ours(self):
        order = []
        ours, theirs = measure_between(lambda: order.append("ours"), [lambda: order.append("piece")] * 2)
        assert order == ["ours", "piece", "ours", "piece", "ours"]
        assert ours.seconds > 0
        assert theirs.seconds > 0

    def test_the_table_has_a_line_for_each_part(self):
        shown = table({
            "keys": {"ratio": 8.25, "seconds": 0.5, "baseline_seconds": 250.0, "peak_bytes": 2e9, "ratio_is": "a / b"},
            "gpu": {"skipped": "needs one"},
        })  # fmt: skip
        assert "8.25" in shown
        assert "2 GB" in shown
        assert "needs one" in shown
        assert "a / b" in shown


class TestWorld:
    def test_records_are_a_batch_that_can_be_edited(self):
        chosen = records(1024)
        check_batch(requests_of(chosen))
        assert chosen[:5] == records(5)
        with pytest.raises(InputError, match="facts"):
            records(10**6)

    def test_the_corpus_is_cut_at_a_line(self):
        assert sum(map(len, corpus(1000)[:-1])) < 1000 <= sum(map(len, corpus(1000)))

    def test_synthetic_moments_are_positive_definite(self):
        matrix = synthetic_moments({"layer": 32}, rank=8).matrices["layer"]
        assert float(torch.linalg.eigvalsh(matrix.double())[0]) > 0.5
        assert torch.equal(matrix, matrix.T)

    def test_groups_are_consecutive_and_not_empty(self):
        assert groups_of([1, 2, 3, 4, 5], 2) == [[1, 2], [3, 4, 5]]
        assert groups_of([1], 3) == [[1]]

    def test_the_middle_layer_is_not_the_presets(self):
        subject = Subject.load("demo-gpt2")
        assert subject.middle not in subject.config.layers


def test_all_parts_are_modules_that_can_be_started():
    for module in PARTS.values():
        assert Path(importlib.util.find_spec(module).origin).is_file()
    assert sys.modules["benchmarks.parts"].PARTS is PARTS
