"""Tags are names that stay: revisions resolve them, gc keeps them, bundles carry them, nothing moves them unasked."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.bundles.format import BundleManifest
from ledger.bundles.import_bundle import import_bundle, take_bundle
from ledger.bundles.write import plan_bundle, write_bundle
from ledger.database import rows
from ledger.problems import Code
from seqedit.errors import CheckFailed, InputError
from tests.ledger.helpers import TIME, build_adapter


def test_a_tag_is_a_revision_and_keeps_what_is_said_of_it(filled: Ledger) -> None:
    made = filled.tag("v1", "HEAD~1", message="first release", author="ada", time=TIME)
    assert filled.tags() == [made]
    assert (made.message, made.author, made.time) == ("first release", "ada", TIME)
    assert filled.resolve("v1") == filled.resolve("tag:v1") == filled.resolve("HEAD~1")
    assert filled.resolve("v1~1") == filled.resolve("HEAD~2")
    assert filled.verify() == []


def test_a_tag_stays_when_the_branch_goes_on_and_moves_only_by_force(filled: Ledger) -> None:
    at = filled.tag("v1").entry
    filled.append(build_adapter(9))
    assert filled.resolve("v1") == at
    with pytest.raises(InputError, match="--force"):
        filled.tag("v1")
    with pytest.raises(InputError, match="--force"):
        filled.check_tag("v1")
    assert filled.tag("v1", force=True, message="moved").entry == filled.head()
    assert filled.tags()[0].message == "moved"
    assert filled.verify() == []


def test_a_tag_is_no_branch(filled: Ledger) -> None:
    filled.tag("v1")
    assert filled.branches() == {"main": filled.head()}
    for act in (filled.switch, filled.branch_entry, filled.delete_branch, filled.undo):
        with pytest.raises(InputError, match="'v1' is a tag"):
            act("v1")
    with pytest.raises(InputError, match="is a tag"):
        filled.start_branch("v1")
    with pytest.raises(InputError, match="is a branch"):
        filled.tag("main")
    with pytest.raises(InputError, match="tag"):
        filled.reset("HEAD~1", branch="tag:v1")
    assert filled.tags()[0].entry == filled.head()


@pytest.mark.parametrize("name", ["HEAD", "abcd", "tag:x", "", "-x", "a b", "x" * 101])
def test_names_that_could_be_something_else_are_refused(name: str, ledger: Ledger) -> None:
    with pytest.raises(InputError, match="cannot name a tag"):
        ledger.tag(name)


def test_a_deleted_tag_is_gone_and_a_missing_one_is_named(filled: Ledger) -> None:
    at = filled.tag("v1", message="x").entry
    assert filled.delete_tag("v1") == at
    assert filled.tags() == []
    with pytest.raises(InputError, match=r"no tag 'v1' \(there are: none\)"):
        filled.delete_tag("v1")
    assert filled.tag("v1").message == ""
    assert filled.verify() == []


def test_gc_keeps_what_a_tag_leads_to(filled: Ledger) -> None:
    kept = filled.tag("v1").entry
    filled.reset(filled.root())
    assert filled.gc(keep_days=None, grace=0).entries == ()
    filled.delete_tag("v1")
    assert kept in {entry.id for entry in filled.gc(keep_days=None, grace=0).entries}


def test_a_bundle_carries_the_tags_of_its_history_and_moves_none(filled: Ledger, tmp_path: Path) -> None:
    made = filled.tag("v1", "HEAD~1", message="first", author="ada", time=TIME)
    filled.start_branch("side", "HEAD~2")
    filled.append(build_adapter(8), branch="side")
    filled.tag("elsewhere", "side")
    file = tmp_path / "history.zip"
    write_bundle(filled, plan_bundle(filled), file)
    assert import_bundle(tmp_path / "theirs", file).tags == 1
    with Ledger.open(tmp_path / "theirs") as theirs:
        assert theirs.tags() == [made]
        theirs.tag("v1", force=True, message="ours")
        assert take_bundle(theirs, file).tags == 0
        assert theirs.tags()[0].message == "ours"
        assert theirs.verify() == []


def test_a_bundle_without_tags_is_what_it_was_and_one_with_a_made_up_tag_is_refused(
    filled: Ledger, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.zip"
    write_bundle(filled, plan_bundle(filled), plain)
    with zipfile.ZipFile(plain) as archive:
        data = json.loads(archive.read("manifest.json"))
    assert "tags" not in data
    tag = {"name": "v1", "entry": filled.head(), "message": "", "author": "", "time": TIME}
    assert BundleManifest.from_bytes(json.dumps({**data, "tags": [tag]}).encode()).tags[0].name == "v1"
    wrongs = ({"entry": "0" * 64}, {"name": "HEAD"}, {"name": "a b"}, {"message": 3}, {"more": "x"}, {"time": "now"})
    for wrong in wrongs:
        with pytest.raises(CheckFailed):
            BundleManifest.from_bytes(json.dumps({**data, "tags": [{**tag, **wrong}]}).encode())


def test_an_entry_that_tells_something_is_noted_and_verify_misses_the_note(filled: Ledger) -> None:
    made = filled.revert("HEAD", reason="wrong source")
    assert filled.verify() == []
    with filled.database.write() as connection:
        rows.forget_telling(connection, [made.id])
    assert [(problem.code, problem.path) for problem in filled.verify()] == [(Code.ENTRY_ROW, f"entries/{made.id}")]
