from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from sqlalchemy import text

from ledger import Conflict, Ledger
from ledger.database import rows
from seqedit.adapters.adapter import BaseModel
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError
from seqedit.facts.requests import Request
from tests.ledger.database.databases import create
from tests.ledger.helpers import MODEL, TIME, build_adapter, build_base


def tree(path: Path) -> set[str]:
    return {str(p.relative_to(path / ".")) for p in path.rglob("*")}


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class TestPlaces:
    def test_a_new_ledger_holds_the_root_that_names_the_base_model(self, ledger):
        (root,) = ledger.log()
        assert (root.operation, root.adapter, root.base_model) == ("root", None, MODEL)
        assert ledger.branch() == "main"

    def test_creating_twice_is_refused_and_changes_nothing(self, ledger, place):
        head = ledger.head()
        with pytest.raises(InputError, match="holds a ledger already"):
            create(place, BaseModel("other", "e" * 64))
        assert ledger.head() == head

    @pytest.mark.sqlite_file("an empty file")
    def test_a_creation_that_was_killed_can_be_repeated(self, place):
        place.mkdir()
        (place / "ledger.db").touch()
        with pytest.raises(InputError, match="no ledger at"):
            Ledger.open(place)
        Ledger.create(place, MODEL).close()
        Ledger.open(place).close()

    def test_opening_nothing_says_how_to_make_a_ledger_and_makes_nothing(self, tmp_path):
        for place in (tmp_path / "none", tmp_path):
            with pytest.raises(InputError, match=r"make one: `seqedit init .*\(in Python: Ledger.create\)"):
                Ledger.open(place)
        with pytest.raises(InputError, match="does not exist"):
            Ledger.open(f"sqlite:///{tmp_path}/none.db")
        assert tree(tmp_path) == set()

    def test_another_base_model_is_refused_with_both_named(self, ledger, place):
        with pytest.raises(InputError, match=r"'tiny' \(fingerprint ffffffffffff\).*'huge' \(fingerprint eeeeeeeeeeee"):
            Ledger.open(place, BaseModel("huge", "e" * 64))
        Ledger.open(place, BaseModel("the same from elsewhere", "f" * 64)).close()

    def test_reading_leaves_the_directory_as_it_was(self, filled, place):
        filled.close()
        before = tree(place)
        with Ledger.open(place) as ledger:
            ledger.log_rows()
            ledger.compose(build_base())
            assert ledger.verify() == []
        assert tree(place) == before

    def test_a_directory_with_url_characters_in_its_name_works(self, tmp_path):
        place = tmp_path / "a b?c#d%41&é"
        with Ledger.create(place, MODEL) as ledger:
            ledger.append(build_adapter(1))
        with Ledger.open(place) as ledger:
            assert ledger.verify() == []
        assert sorted(tree(tmp_path) & {place.name, f"{place.name}/ledger.db"}) == [
            place.name,
            f"{place.name}/ledger.db",
        ]

    @pytest.mark.sqlite_file("moves the file")
    def test_a_moved_directory_is_the_same_ledger(self, filled, place, tmp_path):
        filled.close()
        place.rename(tmp_path / "moved")
        with Ledger.open(tmp_path / "moved") as ledger:
            assert ledger.verify() == []

    def test_database_and_objects_may_lie_apart(self, tmp_path):
        url = f"sqlite:///{tmp_path}/team.db"
        with pytest.raises(InputError, match="objects="):
            Ledger.create(url, MODEL)
        with Ledger.create(url, MODEL, objects=f"file://{tmp_path}/store") as ledger:
            ledger.append(build_adapter(1))
        with Ledger.open(url) as ledger:
            assert ledger.verify() == []
            assert equal(ledger.compose(build_base()), ledger.compose(build_base()))

    def test_objects_in_memory_work_like_a_directory(self, tmp_path):
        with Ledger.create(f"sqlite:///{tmp_path}/l.db", MODEL, objects="memory://ledger-objects") as ledger:
            entry = ledger.append(build_adapter(1))
            assert ledger.adapter(entry).digest == build_adapter(1).digest
            assert ledger.verify() == []

    @pytest.mark.parametrize(
        "url", ["sqlite://", "sqlite:///:memory:", "nonsense://x", "postgresql+nothing://u:secret@h/d"]
    )
    def test_a_database_that_cannot_hold_a_ledger_is_an_input_error(self, url):
        with pytest.raises(InputError) as error:
            Ledger.create(url, MODEL, objects="memory://x")
        assert "secret" not in str(error.value)

    def test_a_newer_format_is_refused(self, ledger, place):
        with ledger.database.write() as connection:
            connection.exec_driver_sql("UPDATE meta SET value = '99' WHERE key = 'schema'")
        with pytest.raises(InputError, match=r"schema 99.* install a newer seqedit"):
            Ledger.open(place)

    def test_a_database_without_its_description_is_damaged(self, ledger, place):
        with ledger.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM meta WHERE key = 'objects'")
        with pytest.raises(CheckFailed, match="meta table lacks 'objects'"):
            Ledger.open(place)

    def test_a_score_that_is_no_json_any_more_is_told_by_what_reads_it(self, tmp_path):
        with Ledger.create(tmp_path / "l", MODEL) as ledger:
            entry = ledger.append(build_adapter(1))
            ledger.add_scores(entry.id, "drift", {"curve": [1, 2]})
            with ledger.database.write() as connection:
                connection.exec_driver_sql("UPDATE scores SET value = '[1, 2'")
            for read in (ledger.scores, ledger.log_rows):
                with pytest.raises(CheckFailed, match=r"a text in it is no JSON .*run verify"):
                    read(entry.id)
            assert [problem.code for problem in ledger.verify()] == ["damaged-database"]

    def test_a_read_only_directory_is_read_and_refuses_writes(self):
        with tempfile.TemporaryDirectory() as directory:  # its parents, unlike tmp_path's, are open to all
            os.chmod(directory, 0o755)
            place = Path(directory) / "ledger"
            with Ledger.create(place, MODEL) as ledger:
                ledger.append(build_adapter(1))
            for path in (place, *place.rglob("*")):
                path.chmod(0o555 if path.is_dir() else 0o444)
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    if os.geteuid() == 0:
                        os.setuid(65534)  # permissions do not bind the superuser
                    check_read_only(place)
                    status = 0
                finally:
                    os._exit(status)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            for path in (place, *place.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            assert status == 0

    @pytest.mark.sqlite_file("a file that cannot be written")
    def test_a_directory_on_a_read_only_mount_is_read_and_refuses_writes(self, filled, place, monkeypatch):
        monkeypatch.setattr("ledger.database.database.os.access", lambda *_: False)
        filled.close()
        with Ledger.open(place) as ledger:
            assert len(ledger.log()) == 4
            assert ledger.verify() == []
            with pytest.raises(EnvironmentFailure, match="readonly"):
                ledger.revert("HEAD")


def check_read_only(place: Path) -> None:
    before = tree(place)
    assert not os.access(place, os.W_OK)
    with Ledger.open(place) as ledger:
        assert len(ledger.log()) == 2
        assert ledger.verify() == []
        with pytest.raises(EnvironmentFailure):
            ledger.revert("HEAD")
        with pytest.raises(EnvironmentFailure):
            ledger.append(build_adapter(9))
        with pytest.raises(EnvironmentFailure):
            ledger.add_scores("HEAD", "kind", {"key": 1})
    assert tree(place) == before


class TestAppend:
    def test_entries_chain_from_the_root(self, filled):
        newest_first = filled.log()
        assert [e.message for e in newest_first] == ["edit 2", "edit 1", "edit 0", "base model"]
        for child, parent in pairwise(newest_first):
            assert child.parents == (parent.id,)
        assert filled.head() == newest_first[0].id

    def test_equal_steps_have_equal_ids_in_two_ledgers(self, filled, tmp_path):
        with Ledger.create(tmp_path / "other", MODEL, time=TIME) as other:
            for seed in range(3):
                other.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
            assert other.head() == filled.head()

    def test_an_entry_reads_back_with_its_requests_and_method(self, filled):
        entry, adapter = filled.entry("HEAD"), build_adapter(2)
        assert entry.requests == adapter.requests
        assert entry.method == adapter.method
        assert filled.adapter(entry).digest == filled.adapter("HEAD").digest == adapter.digest
        assert filled.adapter(adapter.digest).digest == adapter.digest

    def test_an_object_is_a_directory_that_peft_knows(self, filled, place):
        digest = filled.entry().adapter
        names = {p.name for p in (place / "objects" / digest[:2] / digest).iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= names

    def test_another_base_model_is_refused_and_nothing_written(self, ledger, place):
        before = tree(place)
        with pytest.raises(InputError, match=r"'tiny'.*'huge' \(fingerprint eeee"):
            ledger.append(build_adapter(1, base_model=BaseModel("huge", "e" * 64)))
        assert tree(place) == before

    def test_what_is_refused_leaves_no_object(self, ledger, place):
        head, before = ledger.head(), tree(place)
        with pytest.raises(InputError, match="NUL"):
            ledger.append(build_adapter(1), message="a\0b")
        with pytest.raises(InputError, match=r"request 0: field 'subject' is not valid Unicode"):
            ledger.append(build_adapter(1, subject="\ud800"))
        with pytest.raises(InputError, match="not JSON"):
            ledger.append(build_adapter(1), scores={"counterfact": {"ES": float("nan")}})
        with pytest.raises(InputError, match="unknown operation"):
            ledger.append(build_adapter(1), operation="sorcery")
        assert ledger.head() == head
        assert tree(place) == before

    def test_an_active_adapter_is_refused_a_second_time(self, filled):
        with pytest.raises(InputError, match="already active"):
            filled.append(build_adapter(1))

    def test_it_can_be_appended_again_after_its_revert(self, filled):
        filled.revert("HEAD~1")
        filled.append(build_adapter(1))
        assert [e.adapter for e in filled.active()] == [build_adapter(s).digest for s in (0, 2, 1)]
        assert filled.verify() == []

    def test_text_of_any_script_is_kept(self, ledger):
        entry = ledger.append(build_adapter(1, subject="Łódź 東京 🏙 'x'; DROP TABLE entries;--"), message="naïve\n2")
        assert ledger.entry(entry.id).requests[0].subject.startswith("Łódź 東京 🏙")
        assert ledger.verify() == []

    def test_writes_whose_disk_fails_leave_head_and_no_temporary_files(self, filled, place, monkeypatch):
        head, before = filled.head(), tree(place / "objects")

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("ledger.objects.local.os.fsync", fail)
        with pytest.raises(EnvironmentFailure, match="No space left") as error:
            filled.append(build_adapter(9))
        assert error.value.exit_code == 3
        assert filled.head() == head
        assert tree(place / "objects") == before


class TestCompose:
    def test_reverting_is_bit_equal_to_never_having_appended(self, filled, tmp_path):
        base = build_base(torch.bfloat16)
        filled.revert("HEAD~1")
        with Ledger.create(tmp_path / "without", MODEL) as without:
            for seed in (0, 2):
                without.append(build_adapter(seed))
            assert equal(filled.compose(base), without.compose(base))

    def test_reverting_everything_gives_the_base_back(self, filled):
        base = build_base()
        for entry in filled.active():
            filled.revert(entry.id)
        assert equal(filled.compose(base), base)

    def test_reverting_the_revert_is_bit_equal_to_the_state_before(self, filled):
        base = build_base()
        before = filled.compose(base)
        revert = filled.revert("HEAD~2")
        assert not equal(filled.compose(base), before)
        filled.revert(revert.id)
        assert equal(filled.compose(base), before)
        assert equal(filled.compose(base, revert.parents[0]), before)

    def test_a_state_of_the_past_is_the_state_of_then(self, ledger):
        base, states = build_base(), {}
        for seed in range(4):
            entry = ledger.append(build_adapter(seed, dense=seed == 2))
            states[entry.id] = ledger.compose(base)
        for identifier, state in states.items():
            assert equal(ledger.compose(base, identifier), state)

    def test_reverting_the_root_is_refused(self, filled):
        with pytest.raises(InputError, match="root"):
            filled.revert("HEAD~3")

    def test_a_damaged_object_is_never_composed(self, filled, place):
        digest = filled.entry().adapter
        path = place / "objects" / digest[:2] / digest / "adapter_model.safetensors"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        with pytest.raises(CheckFailed, match=f"object {digest[:12]}"):
            filled.compose(build_base())

    def test_another_whole_adapter_in_an_objects_place_is_never_composed(self, filled, place):
        digest = filled.entry().adapter
        path = place / "objects" / digest[:2] / digest
        shutil.rmtree(path)
        build_adapter(9).save_pretrained(path)
        with pytest.raises(CheckFailed, match=f"object {digest[:12]} holds adapter {build_adapter(9).digest[:12]}"):
            filled.compose(build_base())


class TestQuestions:
    @pytest.mark.parametrize("content", ["garbage", "{}"])
    def test_an_entry_whose_content_was_altered_is_never_shown(self, filled, content):
        with filled.database.write() as connection:
            connection.execute(text("UPDATE entries SET content = :new WHERE message = 'edit 1'"), {"new": content})
        for question in (filled.log, filled.active, lambda: filled.entry("HEAD~1")):
            with pytest.raises(CheckFailed, match="not what its id names"):
                question()

    def test_revisions(self, filled):
        ids = [e.id for e in filled.log()]
        assert filled.resolve("HEAD") == filled.resolve("main") == filled.resolve(ids[0]) == ids[0]
        assert filled.resolve("HEAD~") == filled.resolve("main~1") == filled.resolve(ids[1][:8]) == ids[1]
        assert filled.resolve("HEAD~~1") == filled.resolve(f"{ids[1][:8]}~1") == ids[2]
        assert filled.resolve("HEAD~0") == ids[0]

    @pytest.mark.parametrize(
        ("rev", "message"),
        [
            ("HEAD~4", "has only 3 before it"),
            ("nothing", "no entry or branch 'nothing'"),
            ("abc", "at least 4 hex digits"),
            ("0" * 64, "no entry '0000"),
            ("", "no revision"),
            ("~1", "no revision"),
            ("HEAD^", "no entry or branch"),
            ("%", "no entry or branch"),
        ],
    )
    def test_what_names_no_entry_is_an_input_error(self, filled, rev, message):
        with pytest.raises(InputError, match=message):
            filled.resolve(rev)

    def test_an_ambiguous_prefix_lists_the_candidates(self, filled):
        with filled.database.write() as connection:
            for digit in "12":
                connection.execute(
                    text(
                        "INSERT INTO entries SELECT :id, generation, operation, adapter, base_fingerprint, method, "
                        "n_requests, author, time, message, content FROM entries LIMIT 1"
                    ),
                    {"id": "cafe" + digit * 60},
                )
        with pytest.raises(InputError, match=r"'cafe' is ambiguous: cafe11111111, cafe22222222"):
            filled.resolve("cafe")

    def test_log_rows_have_the_fields_of_the_command_line(self, filled):
        filled.revert("HEAD~1")
        rows = filled.log_rows()
        assert [set(row) for row in rows] == [
            {"id", "parents", "operation", "adapter", "method", "requests", "active", "message", "time", "scores"}
        ] * 5
        assert [row["operation"] for row in rows] == ["revert", "edit", "edit", "edit", "root"]
        assert [row["active"] for row in rows] == [False, True, False, True, False]
        assert [row["requests"] for row in rows] == [0, 1, 1, 1, 0]
        assert len(filled.log_rows(limit=2)) == len(filled.log(limit=2)) == 2
        assert [row["active"] for row in filled.log_rows("HEAD~1")] == [True, True, True, False]

    def test_a_later_edit_of_a_fact_supersedes_the_earlier_until_it_is_reverted(self, ledger):
        first = ledger.append(build_adapter(1, subject="Rome", target="a"))
        second = ledger.append(build_adapter(2, subject="Rome", target="b"))
        assert ledger.live_requests() == {first.id: (), second.id: (0,)}
        ledger.revert(second.id)
        assert ledger.live_requests() == {first.id: (0,)}
        assert ledger.live_requests("HEAD~2") == {first.id: (0,)}

    def test_requests_are_found_by_their_fact_in_the_database(self, filled):
        with filled.database.read() as connection:
            query = "SELECT entry FROM requests WHERE subject = 'subject 1' AND relation = 'P31'"
            assert connection.exec_driver_sql(query).scalars().all() == [filled.resolve("HEAD~1")]

    def test_root_and_reverts_have_no_adapter_to_load(self, filled):
        with pytest.raises(InputError, match="adds no adapter"):
            filled.adapter("HEAD~3")


class TestScores:
    def test_scores_come_with_the_entry_or_later_and_are_no_part_of_it(self, ledger):
        entry = ledger.append(build_adapter(1), scores={"counterfact": {"ES": 99.5, "PS": None}})
        assert ledger.scores(entry.id) == {"counterfact": {"ES": 99.5, "PS": None}}
        ledger.add_scores("HEAD", "tasks", {"cola": {"mcc": 0.5, "ci": [0.1, 0.9]}})
        ledger.add_scores("HEAD~1", "tasks", {"cola": {"mcc": 0.6}})
        assert ledger.scores(kind="tasks") == {"tasks": {"cola": {"mcc": 0.5, "ci": [0.1, 0.9]}}}
        assert ledger.scores("HEAD~1") == {"tasks": {"cola": {"mcc": 0.6}}}
        assert ledger.entry() == entry
        assert ledger.log_rows()[0]["scores"]["counterfact"]["ES"] == 99.5
        assert ledger.verify() == []

    def test_measuring_again_replaces_the_keys_given_and_keeps_the_others(self, ledger):
        ledger.add_scores("HEAD", "samples", {str(i): i for i in range(1200)})
        ledger.add_scores("HEAD", "samples", {"7": "again", "new": 1})
        scores = ledger.scores()["samples"]
        assert (scores["7"], scores["8"], scores["new"], len(scores)) == ("again", 8, 1, 1201)

    @pytest.mark.parametrize("values", [{"a": float("inf")}, {"a": object()}, {"": 1}, {"k" * 256: 1}, {3: 1}])
    def test_what_is_not_json_is_refused(self, ledger, values):
        with pytest.raises(InputError, match="scores"):
            ledger.add_scores("HEAD", "kind", values)
        assert ledger.scores() == {}


class TestConflict:
    def test_an_append_on_a_head_that_has_moved_is_refused_and_leaves_nothing(self, filled, place):
        with Ledger.open(place) as other:
            head = filled.head()
            winner = other.append(build_adapter(8), parent=head)
            before = tree(place / "objects")
            with pytest.raises(Conflict, match=r"expected at .* another writer was faster") as error:
                filled.append(build_adapter(9), parent=head)
            assert (error.value.expected, error.value.found, error.value.exit_code) == (head, winner.id, 1)
            with pytest.raises(Conflict):
                filled.revert("HEAD", parent=head)
            assert filled.head() == winner.id
            assert tree(place / "objects") == before

    def test_a_writer_that_is_overtaken_after_its_object_was_written_is_refused(self, filled, place, monkeypatch):
        head = filled.head()
        put = filled.store.put

        def overtaken(*arguments):
            manifest = put(*arguments)
            with Ledger.open(place) as other:
                other.append(build_adapter(8))
            return manifest

        monkeypatch.setattr(filled.store, "put", overtaken)
        with pytest.raises(Conflict):
            filled.append(build_adapter(9), parent=head)
        assert [e.adapter for e in filled.active()][-1] == build_adapter(8).digest
        assert [(p.code, p.damage) for p in filled.verify()] == [("orphan-object", False)]

    def test_the_ref_itself_moves_by_compare_and_swap(self, filled):
        with filled.database.write() as connection, pytest.raises(Conflict):
            rows.move_ref(connection, "main", "0" * 64, filled.resolve("HEAD~1"), time=TIME, message="")
        assert filled.verify() == []

    def test_without_a_parent_an_entry_follows_whatever_head_is_at(self, filled, place):
        with Ledger.open(place) as other:
            first = other.append(build_adapter(8))
            assert filled.append(build_adapter(9)).parents == (first.id,)


def test_a_request_without_relation_is_identified_by_its_prompt(ledger):
    adapter = build_adapter(1)
    bare = dataclasses.replace(adapter, requests=(Request("Rome", "{} is in", "x", case_id=5),))
    ledger.append(bare)
    assert ledger.entry().requests[0].case_id == 5
    assert ledger.verify() == []
