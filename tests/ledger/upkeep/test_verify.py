from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from ledger import Code, Ledger
from ledger.objects.local import LocalStore
from ledger.objects.manifest import MANIFEST, Manifest
from seqedit.errors import CheckFailed
from tests.ledger.database.databases import alter
from tests.ledger.helpers import build_adapter

FILES = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    MANIFEST,
    "seqedit.json",
    "seqedit_values.safetensors",
]


def object_path(ledger: Ledger, place: Path, rev: str = "HEAD") -> Path:
    digest = ledger.entry(rev).adapter
    assert digest is not None
    return place / "objects" / digest[:2] / digest


def shown(path: Path, place: Path) -> str:
    return str(path.relative_to(place / "."))


def found(ledger: Ledger, deep: bool = True) -> list[tuple[str, str]]:
    return [(problem.code, problem.path) for problem in ledger.verify(deep)]


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << (position % 8)
    path.write_bytes(data)


def codes(place: Path) -> set[str]:
    """Codes of the problems of a ledger, which may be so broken that it does not even open."""
    try:
        with Ledger.open(place) as ledger:
            return {problem.code for problem in ledger.verify()}
    except CheckFailed:
        return {"damaged-database"}


def test_a_sound_ledger_has_no_problems(filled):
    filled.revert("HEAD~1")
    assert filled.verify() == []
    assert filled.verify(deep=False) == []


class TestObjects:
    def test_this_test_knows_every_file_of_an_object(self, filled, place):
        assert sorted(p.name for p in object_path(filled, place).iterdir()) == FILES

    @pytest.mark.parametrize("name", FILES)
    def test_a_flipped_byte_anywhere_is_found_and_the_file_named(self, filled, place, name):
        path = object_path(filled, place, "HEAD~1") / name
        whole = path.read_bytes()
        # Every byte of what precedes the data (headers, JSON), and a sample of the rest.
        for position in sorted({*range(0, min(40, len(whole))), *range(0, len(whole), 23), len(whole) - 1}):
            flip(path, position)
            assert found(filled) == [("damaged-file", shown(path, place))], position
            path.write_bytes(whole)
        assert filled.verify() == []

    @pytest.mark.parametrize("name", FILES)
    @pytest.mark.parametrize("deep", [True, False])
    def test_a_truncated_grown_or_missing_file_is_found_without_reading_data(self, filled, place, name, deep):
        path = object_path(filled, place) / name
        whole = path.read_bytes()
        for data in (whole[:-1], b"", whole + b"\0"):
            path.write_bytes(data)
            assert found(filled, deep) == [("damaged-file", shown(path, place))]
        path.unlink()
        assert found(filled, deep) == [("missing-file", shown(path, place))]

    def test_a_file_replaced_by_a_link_is_found(self, filled, place, tmp_path):
        path = object_path(filled, place) / "README.md"
        shutil.move(path, tmp_path / "copy")
        path.symlink_to(tmp_path / "copy")
        assert found(filled) == [("damaged-file", shown(path, place))]

    def test_an_extra_file_in_an_object_is_found(self, filled, place):
        path = object_path(filled, place) / "adapter_model.bin"
        path.write_bytes(b"x")
        assert found(filled, deep=False) == [("extra-file", shown(path, place))]

    def test_a_missing_object_is_found(self, filled, place):
        path = object_path(filled, place)
        shutil.rmtree(path)
        assert found(filled, deep=False) == [("missing-object", shown(path, place))]

    def test_two_swapped_objects_are_found_as_such(self, filled, place):
        one, two = object_path(filled, place), object_path(filled, place, "HEAD~1")
        one.rename(place / "x")
        two.rename(one)
        (place / "x").rename(two)
        assert set(found(filled, deep=False)) == {("swapped-object", shown(p, place)) for p in (one, two)}

    @pytest.mark.parametrize("new", ["0" * 64, "backup", "x"])
    def test_a_renamed_object_is_found_under_both_names(self, filled, place, new):
        path = object_path(filled, place)
        target = path.parent / new if new != "0" * 64 else place / "objects" / "00" / new
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        assert found(filled) == [("missing-object", shown(path, place)), ("renamed-object", shown(target, place))]

    def test_stray_files_in_the_store_are_found(self, filled, place):
        (place / "objects" / "stray").write_text("x")
        (object_path(filled, place).parent / "stray").mkdir()
        assert {code for code, _ in found(filled)} == {"extra-file"}
        assert len(found(filled)) == 2

    def test_what_an_interrupted_writer_leaves_is_a_notice_and_no_damage(self, filled, place):
        adapter = build_adapter(77)
        LocalStore(place / "objects").put(adapter.digest, adapter.save_pretrained)
        (place / "objects" / "tmp" / "abc-123").mkdir(parents=True)
        problems = filled.verify()
        assert [(p.code, p.damage) for p in problems] == [("orphan-object", False), ("temporary-file", False)]
        filled.append(adapter)
        assert [p.code for p in filled.verify()] == ["temporary-file"]

    def test_files_that_agree_with_a_forged_record_but_not_with_the_digest_are_found(self, filled, place):
        """Another adapter's files under this digest, manifest and database record rewritten to match."""
        path, digest = object_path(filled, place), filled.entry().adapter
        shutil.rmtree(path)
        build_adapter(5).save_pretrained(path)
        manifest = Manifest.of_directory(digest, path)
        (path / MANIFEST).write_bytes(manifest.to_bytes())
        for name, info in manifest.files.items():
            alter(
                filled,
                "UPDATE objects SET sha256 = :sha256, size = :size WHERE digest = :digest AND file = :file",
                **{"sha256": info.sha256, "size": info.size, "digest": digest, "file": name},
            )
        assert found(filled) == [("adapter-digest-mismatch", shown(path, place))]

    def test_an_object_that_was_never_recorded_is_found(self, filled, place):
        digest = filled.entry().adapter
        alter(filled, "DELETE FROM objects WHERE digest = :digest", digest=digest)
        assert ("unrecorded-object", shown(object_path(filled, place), place)) in found(filled)

    @pytest.mark.parametrize("file", ["../../escape", "/etc/passwd", "a/b"])
    def test_a_hostile_file_name_in_the_database_is_found_and_never_followed(self, filled, file):
        alter(filled, "UPDATE objects SET file = :file WHERE file = 'README.md'", file=file)
        assert {problem.code for problem in filled.verify()} >= {Code.UNRECORDED_OBJECT}


class TestDatabase:
    @pytest.mark.parametrize(
        ("statement", "code"),
        [
            ("UPDATE entries SET content = replace(content, 'edit 1', 'edit X')", "entry-id-mismatch"),
            ("UPDATE entries SET content = 'garbage' WHERE message = 'edit 1'", "entry-id-mismatch"),
            ("UPDATE entries SET message = 'forged' WHERE message = 'edit 1'", "entry-row-mismatch"),
            ("UPDATE entries SET n_requests = 7 WHERE message = 'edit 1'", "entry-row-mismatch"),
            ("UPDATE entries SET method = '{}' WHERE message = 'edit 1'", "entry-row-mismatch"),
            ("UPDATE entries SET generation = 9 WHERE message = 'edit 1'", "entry-row-mismatch"),
            ("UPDATE requests SET target_new = 'forged' WHERE subject = 'subject 1'", "entry-row-mismatch"),
            ("DELETE FROM requests WHERE subject = 'subject 1'", "entry-row-mismatch"),
            ("UPDATE entry_parents SET parent = entry", "entry-row-mismatch"),
            ("DELETE FROM entries WHERE message = 'edit 1'", "broken-parent"),
            ("DELETE FROM entries WHERE operation = 'root'", "broken-parent"),
            ("UPDATE refs SET symbolic = 'elsewhere' WHERE name = 'HEAD'", "ref-to-nowhere"),
            ("DELETE FROM refs WHERE name = 'HEAD'", "ref-to-nowhere"),
            ("DELETE FROM refs WHERE name = 'main'", "ref-to-nowhere"),
            ("UPDATE refs SET entry = 'nothing' WHERE name = 'main'", "ref-to-nowhere"),
            (
                "UPDATE refs SET entry = (SELECT parent FROM entry_parents WHERE entry = refs.entry) "
                "WHERE name = 'main'",
                "ref-not-as-logged",
            ),
            ("UPDATE meta SET value = 'e' WHERE key = 'base_fingerprint'", "invalid-history"),
        ],
    )
    def test_each_kind_of_alteration_has_its_code(self, filled, place, statement, code):
        alter(filled, statement)
        with Ledger.open(place) as ledger:
            problems = ledger.verify()
            assert code in {problem.code for problem in problems}
            assert all(problem.damage for problem in problems)

    @pytest.mark.sqlite_file("PostgreSQL refuses such values")
    @pytest.mark.parametrize("value", ["method = '{'", "message = CAST(x'ff' AS TEXT)"])
    def test_values_that_are_no_json_or_no_text_are_found(self, filled, place, value):
        alter(filled, f"UPDATE entries SET {value} WHERE message = 'edit 1'")
        assert codes(place) == {"damaged-database"}

    @pytest.mark.sqlite_file("pages of the file")
    def test_a_broken_page_of_the_database_is_found(self, filled, place):
        filled.close()
        path = place / "ledger.db"
        data = bytearray(path.read_bytes())
        size = int.from_bytes(data[16:18], "big")
        for page in range(1, len(data) // size):
            data[page * size : page * size + 8] = b"\xff" * 8
        path.write_bytes(data)
        assert codes(place) == {"damaged-database"}


def test_verifying_a_hundred_entries_without_data_takes_less_than_a_second(ledger):
    """The promise is one second for 1,000 entries; a tenth of them here leaves room for a busy machine."""
    for seed in range(100):
        ledger.append(build_adapter(seed))
    start = time.perf_counter()
    assert ledger.verify(deep=False) == []
    assert time.perf_counter() - start < 1
