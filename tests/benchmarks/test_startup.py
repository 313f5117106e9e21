"""The benchmark of starting runs commands as a user would, and makes a table of what they cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.startup import Cost, main, table


def test_a_command_is_run_and_stands_in_the_table(tmp_path: Path) -> None:
    assert main(["--only", "version", "--repeats", "1", "--out", str(tmp_path / "startup.md")]) == 0
    text = (tmp_path / "startup.md").read_text("utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| version |")]
    code, seconds, processor = (cell.strip() for cell in row.split("|")[2:5])
    assert code == "0"
    assert float(seconds) > 0
    assert float(processor) >= 0


def test_checkouts_stand_beside_each_other_the_slowest_command_first() -> None:
    text = table("Slips", {"a": [Cost(2, 4.0, 3.0), Cost(2, 0.2, 0.1)], "b": [Cost(2, 5.0, 4.0), Cost(2, 0.4, 0.3)]},
                 ["old", "here"])  # fmt: skip
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == "| command | old exit | old seconds | old processor | here exit | here seconds | here processor |"
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["b", "a"]
    assert "2 commands, the slowest 0.40 s." in text


def test_a_name_of_no_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such command"]) == 2
    assert "no command's name holds 'no such command'" in capsys.readouterr().err
