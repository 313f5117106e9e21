"""`seqedit gc`, `sign` and `verify --signers`, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger import Ledger
from seqedit.cli.main import run
from tests.ledger.helpers import MODEL, build_adapter


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A ledger with one entry, and one on a deleted branch."""
    with Ledger.create(tmp_path / "ledger", MODEL) as ledger:
        ledger.append(build_adapter(1), message="kept")
        ledger.start_branch("gone")
        ledger.append(build_adapter(2), branch="gone", message="dropped")
        ledger.delete_branch("gone")
    return str(tmp_path / "ledger")


def test_gc_says_what_goes_and_how_many_bytes(place, capsys):
    assert run(["gc", "--ledger", place]) == 0
    assert "removed 0 entries, 0 objects" in capsys.readouterr().out
    assert run(["gc", "--ledger", place, "--prune-now", "--grace", "0", "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert "edit   dropped" in planned
    assert "would remove 1 entries, 1 objects and 0 temporary files" in planned
    assert run(["gc", "--ledger", place, "--prune-now", "--grace", "0"]) == 0
    assert capsys.readouterr().out == planned.replace("would remove", "removed")
    assert run(["verify", "--ledger", place]) == 0


def test_gc_prints_json_and_counts_what_is_too_young(place, capsys):
    assert run(["gc", "--ledger", place, "--prune-now", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["message"] for entry in found["entries"]] == ["dropped"]
    assert (found["objects"], found["young"], found["bytes"]) == ([], 1, 0)
    assert run(["gc", "--ledger", place, "--grace", "-1"]) == 2


def test_signing_makes_verify_with_signers_pass(place, tmp_path, capsys):
    key, signers = str(tmp_path / "key.pem"), tmp_path / "signers"
    assert run(["sign", "--new-key", key]) == 0
    signers.write_text(capsys.readouterr().out)
    verify = ["verify", "--ledger", place, "--signers", str(signers)]
    assert run(verify) == 1
    assert "unsigned-entry" in capsys.readouterr().out
    assert run(["sign", "HEAD", "--key", key, "--ledger", place, "--dry-run"]) == 0
    assert run(verify) == 1
    assert run(["sign", "HEAD", "--key", key, "--ledger", place]) == 0
    capsys.readouterr()
    assert run(verify) == 0
    assert run(["sign", "HEAD", "--key", key, "--ledger", place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.rpartition("damaged\n")[2])["new"] is False


def test_sign_needs_a_key_or_makes_one(place, tmp_path, capsys):
    assert run(["sign", "--ledger", place]) == 2
    assert run(["sign", "--ledger", place, "--key", str(tmp_path / "none")]) == 2
    assert "sign --new-key" in capsys.readouterr().err
