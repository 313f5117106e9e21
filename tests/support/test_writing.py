"""What is written is there whole, or what was there before is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from seqedit.support.writing import new_directory, new_file, write_whole


def test_a_file_is_replaced_whole_with_the_rights_of_any_new_file(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file"
    write_whole(file, "first")
    write_whole(file, b"second")
    assert file.read_bytes() == b"second"
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert list(file.parent.iterdir()) == [file]


def _fail_in(path: Path) -> None:
    with new_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stopped")


def test_a_failure_leaves_the_file_before_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_whole(file, "first")
    with pytest.raises(RuntimeError, match="stopped"):
        _fail_in(file)
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]


def test_a_directory_appears_at_the_end_and_never_half(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "new"
    with new_directory(target) as directory:
        (directory / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert list(target.parent.iterdir()) == [target]


def _fail_in_directory(path: Path) -> None:
    with new_directory(path) as directory:
        (directory / "file").write_text("x")
        raise RuntimeError("stopped")


def test_a_failure_leaves_no_directory_and_another_one_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        _fail_in_directory(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OSError, match=r"not empty|exists"), new_directory(tmp_path / "full"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
