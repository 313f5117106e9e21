"""Long histories: reading them costs a fixed number of queries, and no contents that are not shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from sqlalchemy import event

from benchmarks.__main__ import main as run_benchmarks
from benchmarks.growth_plot import exponent
from benchmarks.ledger_growth import Sizes, run_sizes
from benchmarks.parts import PARTS, load_part
from benchmarks.synthetic_ledger import Shape, build
from ledger import Ledger
from ledger.database import rows
from ledger.history import graph
from ledger.queries.histories import ancestor, load_history
from ledger.queries.taught import history_of_subject
from ledger.states.deltas import load_recorded, read_ahead, read_deltas
from seqedit.adapters.adapter import Adapter
from seqedit.adapters.composition import compose
from seqedit.adapters.files import SIDECAR, WEIGHTS
from seqedit.errors import CheckFailed, InputError
from tests.ledger.helpers import build_adapter, build_base

ENTRIES = 1_203  # more than two chunks of ids


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    place = tmp_path_factory.mktemp("large") / "ledger"
    scores = {"counterfact": {"ES": 0.1 + 0.2, "PS": 600.0, "text": 'a,]"', "none": None}, "samples": {"0": [1]}}
    build(place, ENTRIES, Shape(requests=2, revert_every=50, supersede_every=7, scores=scores), objects=False)
    with Ledger.open(place) as ledger:
        yield ledger


@contextmanager
def statements(ledger: Ledger) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(connection, cursor, statement, parameters, context, many):
        seen.append(statement)

    event.listen(ledger.database.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(ledger.database.engine, "before_cursor_execute", note)


class TestQueries:
    @pytest.mark.parametrize(
        "question",
        [
            lambda ledger: ledger.log_rows(),
            lambda ledger: ledger.log_rows(limit=700, kinds=["counterfact"]),
            lambda ledger: ledger.active_ids(),
            lambda ledger: ledger.live_requests(),
            lambda ledger: ledger.resolve(f"HEAD~{ENTRIES}"),
        ],
        ids=["log", "log -n", "active", "live", "resolve"],
    )
    def test_a_question_takes_few_queries_whatever_the_length_and_no_contents(self, large, question):
        with statements(large) as seen:
            question(large)
        assert len(seen) <= 10
        assert not any("entries.content" in statement for statement in seen)

    def test_the_history_is_that_of_all_nodes(self, large):
        with large.database.read() as connection:
            head = large.head()
            light = load_history(connection, head)
            full = graph.first_parent_history(rows.load_nodes(connection), head)
        assert [tuple(node[:6]) for node in light] == [
            (n.id, n.operation, n.parents, n.adapter, n.targets, n.generation) for n in full
        ]

    def test_the_steps_back_are_counted(self, large):
        history = large.log_rows(kinds=())
        with large.database.read() as connection:
            for steps in (0, 1, 2, 700, ENTRIES):
                assert ancestor(connection, large.head(), steps) == (history[steps]["id"], steps)
            assert ancestor(connection, large.head(), ENTRIES + 5) == (history[-1]["id"], ENTRIES)

    def test_rows_say_what_the_entries_and_scores_say(self, large):
        listed = large.log_rows(limit=120)
        assert listed == large.log_rows()[:120]
        active = set(large.active_ids())
        for row, entry in zip(listed, large.log(limit=120), strict=True):
            assert (row["id"], row["parents"], row["method"]) == (entry.id, list(entry.parents), dict(entry.method))
            assert (row["requests"], row["message"]) == (len(entry.requests), entry.message)
            assert row["active"] == (entry.id in active)
            assert row["scores"] == large.scores(entry.id)
        assert listed[0]["scores"]["counterfact"]["ES"] == 0.1 + 0.2

    def test_other_kinds_of_scores_are_not_listed(self, large):
        assert [set(row["scores"]) for row in large.log_rows(limit=3, kinds=["samples", "nothing"])] == [
            {"samples"}
        ] * 3
        listed = large.log_rows(limit=3, kinds=["counterfact"], keys=["PS"])
        assert [row["scores"] for row in listed] == [{"counterfact": {"PS": 600.0}}] * 3
        assert large.log_rows(limit=0) == []

    def test_live_requests_are_those_of_the_algebra(self, large):
        batches = [(entry.id, [request.fact for request in entry.requests]) for entry in large.active()]
        assert large.live_requests() == graph.live_facts(batches)
        assert any(len(positions) == 1 for positions in large.live_requests().values())

    def test_blame_reads_an_index(self, large):
        with large.database.read() as connection, statements(large) as seen:
            found = history_of_subject(connection, "Subject 77-1")
            assert [taught.target_new for taught in found] == ["answer 77"]
            plan = connection.exec_driver_sql(
                "EXPLAIN QUERY PLAN SELECT * FROM requests WHERE subject_digest = ?",
                (hashlib.sha256(b"Subject 77-1").hexdigest(),),
            ).all()
        assert "USING INDEX" in plan[0][-1]
        assert len(seen) == 2

    def test_a_synthetic_ledger_is_a_sound_one(self, tmp_path):
        build(tmp_path / "ledger", 40, Shape(requests=3, revert_every=9, supersede_every=4))
        with Ledger.open(tmp_path / "ledger") as ledger:
            assert ledger.verify() == []


class TestPlaces:
    """The same answers on SQLite and PostgreSQL, where histories have branches and merges."""

    def test_questions_about_a_history_with_a_merge(self, filled):
        filled.start_branch("other", "HEAD~1")
        other = filled.append(build_adapter(7), branch="other")
        first, second = filled.active()[:2]
        merged = filled.append(
            build_adapter(8), operation="merge", targets=[second.id, first.id], others=[other.id],
            scores={"counterfact": {"ES": 1, "note": "x"}},
        )  # fmt: skip
        with filled.database.read() as connection:
            (node,) = load_history(connection, merged.id)[-1:]
            full = rows.load_nodes(connection)[merged.id]
        assert (node.parents, node.targets) == (full.parents, full.targets) == (merged.parents, (second.id, first.id))
        row = filled.log_rows(limit=1)[0]
        assert (row["parents"], row["scores"]) == (list(merged.parents), {"counterfact": {"ES": 1, "note": "x"}})
        assert filled.active_ids() == [entry.id for entry in filled.active()]
        assert filled.resolve("HEAD~3") == filled.log()[3].id
        batches = [(entry.id, [request.fact for request in entry.requests]) for entry in filled.active()]
        assert filled.live_requests() == graph.live_facts(batches)

    def test_a_missing_parent_and_a_circle_are_named(self, filled):
        ids = [entry.id for entry in filled.log()]
        with filled.database.read() as connection, pytest.raises(InputError, match="is missing"):
            load_history(connection, "0" * 64)
        with filled.database.write() as connection:
            connection.exec_driver_sql(
                f"UPDATE entry_parents SET parent = '{ids[0]}' WHERE entry = '{ids[2]}' AND position = 0"
            )
        with pytest.raises(InputError, match="circle"):
            filled.active_ids()

    def test_a_wrong_generation_is_damage_that_log_names(self, filled):
        with filled.database.write() as connection:
            connection.exec_driver_sql("UPDATE entries SET generation = 99 WHERE message = 'edit 1'")
        with pytest.raises(CheckFailed, match="wrong generation"):
            filled.log_rows(limit=3)


def never(digest: str) -> Adapter:
    raise AssertionError(f"adapter {digest} was loaded as a whole")


class TestReading:
    def digests(self, ledger) -> list[str]:
        return [entry.adapter for entry in ledger.active()]

    def recorded(self, ledger):
        with ledger.database.read() as connection:
            return load_recorded(connection, self.digests(ledger))

    def test_deltas_are_those_of_the_whole_adapter_and_only_two_files_are_opened(self, ledger, monkeypatch):
        for seed in range(6):
            ledger.append(build_adapter(seed, dense=seed % 2 == 1))
        opened = []
        original = type(ledger.store).open
        monkeypatch.setattr(type(ledger.store), "open", lambda self, path: opened.append(path) or original(self, path))
        found = list(read_ahead(ledger.store, self.digests(ledger), self.recorded(ledger), never))
        assert {path.rpartition("/")[2] for path in opened} == {SIDECAR, WEIGHTS}
        for deltas, adapter in zip(found, ledger.adapters(), strict=True):
            assert (deltas.digest, deltas.deltas.keys()) == (adapter.digest, adapter.deltas.keys())
            for name, delta in adapter.deltas.items():
                assert torch.equal(deltas.deltas[name].dense(), delta.dense())

    @pytest.mark.parametrize("name", [SIDECAR, WEIGHTS])
    @pytest.mark.parametrize("harm", ["flip", "cut", "longer", "gone"])
    def test_a_file_that_is_not_what_was_recorded_is_read_by_the_full_check_alone(self, filled, place, name, harm):
        digest = self.digests(filled)[1]
        path = place / "objects" / filled.store.path(digest) / name
        data = bytearray(path.read_bytes())
        if harm == "flip":
            data[len(data) // 2] ^= 1
        path.write_bytes(data[:-9] if harm == "cut" else data + b" " if harm == "longer" else data)
        if harm == "gone":
            path.unlink()
        assert read_deltas(filled.store, digest, self.recorded(filled)[digest]) is None
        if (name, harm) != (SIDECAR, "longer"):  # a space after JSON changes nothing that the digest covers
            with pytest.raises(CheckFailed, match=digest[:12]):
                filled.compose(build_base())

    def test_other_bytes_of_the_same_adapter_are_that_adapter(self, filled, place):
        expected = filled.compose(build_base())
        path = place / "objects" / filled.store.path(self.digests(filled)[1]) / SIDECAR
        path.write_text(json.dumps(json.loads(path.read_text())))
        weights = filled.compose(build_base())
        assert all(torch.equal(weights[name], expected[name]) for name in expected)

    def test_an_adapter_that_was_never_recorded_is_checked_as_a_whole(self, filled):
        digests = self.digests(filled)
        nothing = {digest: {} for digest in digests}
        loaded = list(read_ahead(filled.store, digests, nothing, filled.adapter))
        assert all(isinstance(adapter, Adapter) for adapter in loaded)
        assert [adapter.digest for adapter in loaded] == digests

    def test_reading_stays_within_its_bytes_ahead(self, filled, monkeypatch):
        monkeypatch.setattr("ledger.states.deltas.AHEAD_BYTES", 1)
        monkeypatch.setattr("ledger.states.deltas.READERS", 1)
        weights = filled.compose(build_base())
        expected = compose(build_base(), filled.adapters())
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


class TestBenchmark:
    SIZES = Sizes(entries=(10, 30), requests=2, adapters=(3, 6), large=2, verified=(5, 10))

    def test_it_measures_everything_and_draws_it(self, tmp_path, monkeypatch):
        monkeypatch.setattr("benchmarks.ledger_growth.LARGE", (16, 32))
        monkeypatch.setattr("benchmarks.ledger_growth._command", lambda *_: None)
        figures = run_sizes(self.SIZES, tmp_path / "growth.png")
        json.dumps(figures, allow_nan=False)
        assert {"ratio", "seconds", "baseline_seconds", "peak_bytes"} <= set(figures)
        assert all(set(by) in ({"10", "30"}, {"3", "6"}, {"5", "10"}) for by in figures["operations"].values())
        assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")

    def test_an_exponent_is_that_of_the_two_largest_sizes(self):
        assert exponent({1: 5.0, 10: 1.0, 100: 100.0}) == pytest.approx(2.0)
        assert exponent({1: 5.0}) is None

    def test_the_command_runs_the_parts_asked_for_and_writes_json(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(
            "benchmarks.__main__.in_child", lambda function, name, quick: {"ratio": 1.0, "quick": quick}
        )
        file = tmp_path / "figures.json"
        assert run_benchmarks(["--only", "ledger_growth", "--quick", "--json", str(file)]) == 0
        assert json.loads(file.read_text()) == {"ledger_growth": {"ratio": 1.0, "quick": True}}
        assert run_benchmarks(["--only", "ledger_growth,nothing"]) == 2
        assert "known: ledger_growth" in capsys.readouterr().err
        assert all(callable(load_part(name)) for name in PARTS)
