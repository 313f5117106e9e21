"""Bundles: what goes in comes out, equal content gives equal bytes, nothing is believed unchecked."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ledger import Ledger
from ledger.bundles import import_bundle as import_module
from ledger.bundles.format import MANIFEST_NAME
from ledger.bundles.import_bundle import Diverged, Imported, import_bundle
from ledger.bundles.read import Bundle
from ledger.bundles.write import plan_bundle, write_bundle
from seqedit.adapters.adapter import Adapter, BaseModel
from seqedit.adapters.delta import Dense
from seqedit.errors import CheckFailed, InputError, SeqeditError
from tests.ledger.helpers import MODEL, TIME, build_adapter, build_base
from tests.reliability.processes import in_child, kill_at


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A ledger of three edits, one of them reverted, with scores."""
    place = tmp_path / "source"
    with Ledger.create(place, MODEL, time=TIME, author="somebody", message="the base") as ledger:
        for seed in range(3):
            ledger.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
        ledger.revert("HEAD~1", time=TIME)
        ledger.add_scores("HEAD", "counterfact", {"ES": 99.5, "earlier": None})
    return place


def bundle_of(place: Path, out: Path, rev: str = "HEAD", **options: Any) -> Path:
    with Ledger.open(place) as ledger:
        write_bundle(ledger, plan_bundle(ledger, rev, **options), out)
    return out


def sound(place: Path) -> bool:
    with Ledger.open(place) as ledger:
        return not any(problem.damage for problem in ledger.verify())


def test_a_bundle_gives_a_fresh_ledger_the_same_entries_scores_and_bit_equal_weights(
    source: Path, tmp_path: Path
) -> None:
    file = bundle_of(source, tmp_path / "b.zip")
    imported = import_bundle(tmp_path / "fresh", file)
    assert imported.created
    base = build_base()
    with Ledger.open(source) as old, Ledger.open(tmp_path / "fresh") as new:
        assert [e.content for e in new.log()] == [e.content for e in old.log()]
        assert imported.new == new.head() == old.head()
        assert new.scores() == old.scores()
        assert new.verify() == []
        for steps in range(5):
            expected, found = old.compose(base, f"HEAD~{steps}"), new.compose(base, f"HEAD~{steps}")
            assert all(torch.equal(expected[name], found[name]) for name in base)


def test_equal_content_gives_equal_bytes(source: Path, tmp_path: Path) -> None:
    first = bundle_of(source, tmp_path / "a.zip")
    import_bundle(tmp_path / "copy", first)
    second = bundle_of(tmp_path / "copy", tmp_path / "b.zip")
    assert first.read_bytes() == second.read_bytes()


def test_importing_twice_changes_nothing(source: Path, tmp_path: Path) -> None:
    file = bundle_of(source, tmp_path / "b.zip")
    import_bundle(tmp_path / "fresh", file)
    again = import_bundle(tmp_path / "fresh", file)
    assert (again.entries, again.objects, again.created) == (0, 0, False)
    assert again.old == again.new


def test_what_was_added_since_moves_the_branch_forward_and_older_bundles_move_nothing(
    source: Path, tmp_path: Path
) -> None:
    old = bundle_of(source, tmp_path / "old.zip")
    fresh = tmp_path / "fresh"
    import_bundle(fresh, old)
    with Ledger.open(source) as ledger:
        entry = ledger.append(build_adapter(7), message="later", time=TIME)
    new = bundle_of(source, tmp_path / "new.zip")
    dry = import_bundle(fresh, new, dry_run=True)
    with Ledger.open(fresh) as ledger:
        assert ledger.head() == dry.old
    imported = import_bundle(fresh, new)
    assert imported == dry == Imported("main", dry.old, entry.id, 1, 1, False)
    behind = import_bundle(fresh, old)
    assert (behind.old, behind.new) == (entry.id, entry.id)
    assert sound(fresh)


def test_a_branch_that_went_another_way_is_left_alone_unless_another_branch_is_named(
    source: Path, tmp_path: Path
) -> None:
    file = bundle_of(source, tmp_path / "b.zip", "HEAD~1")
    fresh = tmp_path / "fresh"
    import_bundle(fresh, file)
    with Ledger.open(fresh) as ledger:
        mine = ledger.append(build_adapter(8), message="mine", time=TIME).id
    whole = bundle_of(source, tmp_path / "whole.zip")
    with pytest.raises(Diverged, match="--branch"):
        import_bundle(fresh, whole)
    imported = import_bundle(fresh, whole, branch="theirs")
    with Ledger.open(fresh) as ledger:
        assert ledger.head() == mine
        assert ledger.branches()["theirs"] == imported.new
    assert sound(fresh)


def test_a_merge_travels_with_the_branch_it_brought_in(tmp_path: Path) -> None:
    place = tmp_path / "source"
    with Ledger.create(place, MODEL, time=TIME) as ledger:
        for seed in range(2):
            ledger.append(build_adapter(seed), time=TIME, message=f"main {seed}")
        ledger.start_branch("side", "HEAD~1")
        for seed in range(2, 6):  # longer than main, so that generations alone would order it after the merge
            ledger.append(build_adapter(seed), time=TIME, message=f"side {seed}", branch="side")
        ledger.append(build_adapter(9), operation="merge", targets=["HEAD"], others=["side"], time=TIME)
        ledger.append(build_adapter(10), operation="swap", targets=["HEAD~2"], time=TIME)
        weights, ids = ledger.compose(build_base()), [e.id for e in ledger.log()]
    import_bundle(tmp_path / "fresh", bundle_of(place, tmp_path / "b.zip"))
    with Ledger.open(tmp_path / "fresh") as ledger:
        assert [e.id for e in ledger.log()] == ids
        assert ledger.verify() == []
        found = ledger.compose(build_base())
        assert all(torch.equal(weights[name], found[name]) for name in weights)


def test_one_entry_is_appended_to_a_history_of_its_own(source: Path, tmp_path: Path) -> None:
    file = bundle_of(source, tmp_path / "e.zip", "HEAD~2", single=True)
    other = tmp_path / "other"
    with Ledger.create(other, MODEL, message="another root") as ledger:
        ledger.append(build_adapter(20))
    imported = import_bundle(other, file)
    with Ledger.open(other) as ledger, Ledger.open(source) as origin:
        entry, original = ledger.entry(), origin.entry("HEAD~2")
        assert entry.id == imported.new
        assert (entry.adapter, entry.requests, entry.message) == (original.adapter, original.requests, original.message)
        assert len(ledger.log()) == 3
    assert sound(other)
    with pytest.raises(InputError, match="active on branch 'main' already"):
        import_bundle(other, file)
    assert import_bundle(tmp_path / "new", file, branch="taken").created
    with Ledger.open(tmp_path / "new") as ledger:
        assert ledger.branch() == "taken"


def test_another_root_or_base_model_is_refused_with_a_way_out(source: Path, tmp_path: Path) -> None:
    file = bundle_of(source, tmp_path / "b.zip")
    Ledger.create(tmp_path / "root", MODEL, message="another root").close()
    with pytest.raises(InputError, match="--entry"):
        import_bundle(tmp_path / "root", file)
    Ledger.create(tmp_path / "model", BaseModel("other", "a" * 64)).close()
    with pytest.raises(InputError, match="fingerprint aaaaaaaaaaaa"):
        import_bundle(tmp_path / "model", file)


def test_the_ledgers_own_scores_stay_and_missing_kinds_are_added(source: Path, tmp_path: Path) -> None:
    with Ledger.open(source) as ledger:
        ledger.add_scores("HEAD", "tasks", {"cola": {"mcc": 0.5}})
    file = bundle_of(source, tmp_path / "b.zip")
    import_bundle(tmp_path / "fresh", file)
    with Ledger.open(tmp_path / "fresh") as ledger:
        ledger.add_scores("HEAD", "counterfact", {"ES": 1.0})
    with Ledger.open(source) as ledger:
        ledger.add_scores("HEAD", "perplexity", {"world": 3.5})
    again = bundle_of(source, tmp_path / "again.zip")
    import_bundle(tmp_path / "fresh", again)
    with Ledger.open(tmp_path / "fresh") as ledger:
        assert ledger.scores()["counterfact"]["ES"] == 1.0
        assert ledger.scores()["perplexity"] == {"world": 3.5}
    bare = bundle_of(source, tmp_path / "bare.zip", scores=False)
    import_bundle(tmp_path / "bare", bare)
    with Ledger.open(tmp_path / "bare") as ledger:
        assert ledger.scores() == {}


def test_a_damaged_object_is_not_exported(source: Path, tmp_path: Path) -> None:
    file = next((source / "objects").rglob("adapter_model.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckFailed, match=r"adapter_model\.safetensors is damaged"):
        bundle_of(source, tmp_path / "b.zip")
    file.unlink()
    with pytest.raises(CheckFailed, match="missing"):
        bundle_of(source, tmp_path / "b.zip")
    assert not list(tmp_path.glob("*b.zip*")), "something was left behind"


def test_an_existing_file_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    (tmp_path / "b.zip").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        bundle_of(source, tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_text() == "mine"


def test_memory_is_bounded_by_one_object(tmp_path: Path) -> None:
    """Ten objects of 1 MB: neither writing nor importing holds much more than one of them."""
    place = tmp_path / "source"
    with Ledger.create(place, MODEL, time=TIME) as ledger:
        for seed in range(10):
            adapter = build_adapter(seed)
            big = {"h.0.mlp": Dense(torch.full((500, 500), float(seed + 1)))}
            ledger.append(Adapter(big, adapter.requests, adapter.method, MODEL), time=TIME)
    file = tmp_path / "b.zip"
    peaks = []
    for action in (lambda: bundle_of(place, file), lambda: import_bundle(tmp_path / "fresh", file)):
        tracemalloc.start()
        action()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert file.stat().st_size > 10_000_000
    assert max(peaks) < 6_000_000, peaks  # torch's own memory is not traced; the file's bytes would be


def test_signatures_travel_and_one_that_does_not_hold_is_refused(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from ledger.upkeep.signing import add_signatures, load_key, new_key, sign, signatures_of

    public = new_key(tmp_path / "key")
    with Ledger.open(source) as ledger, ledger.database.write() as connection:
        add_signatures(connection, [sign(ledger.head(), load_key(tmp_path / "key"))])
    file = bundle_of(source, tmp_path / "b.zip")
    import_bundle(tmp_path / "fresh", file)
    with Ledger.open(tmp_path / "fresh") as ledger, ledger.database.read() as connection:
        (found,) = signatures_of(connection, [ledger.head()])
    assert found.key == public
    assert sound(tmp_path / "fresh")
    members = members_of(file)
    name = first(members, "signatures/")
    values = json.loads(members[name])
    members[name] = json.dumps([{**values[0], "signature": "0" * 128}]).encode()
    with pytest.raises(CheckFailed, match="did not sign it"):
        import_bundle(tmp_path / "other", rebuilt(members, tmp_path / "bad.zip"))


# Attacks: each takes the members of a good bundle and gives the members of a bad one.

Members = dict[str, bytes]


def members_of(file: Path) -> Members:
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rebuilt(members: Members, out: Path, *, remake: bool = True) -> Path:
    """A bundle of these members; with ``remake`` its manifest fits them, as an attacker would see to."""
    import hashlib

    members = dict(members)
    if remake:
        manifest = json.loads(members[MANIFEST_NAME])
        manifest["members"] = {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            for name, data in members.items()
            if name != MANIFEST_NAME
        }
        members[MANIFEST_NAME] = json.dumps(manifest).encode()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out


def first(members: Members, start: str, end: str = "") -> str:
    return next(name for name in sorted(members) if name.startswith(start) and name.endswith(end))


def edited_manifest(members: Members, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads(members[MANIFEST_NAME])
    change(manifest)
    members[MANIFEST_NAME] = json.dumps(manifest).encode()


def escape(members: Members) -> None:
    members["objects/" + "a" * 64 + "/../../../evil"] = b"x"


def absolute(members: Members) -> None:
    members["/tmp/evil"] = b"x"


def pickled(members: Members) -> None:
    members[first(members, "objects/").rsplit("/", 1)[0] + "/adapter_model.bin"] = b"x"


def entry_changed(members: Members) -> None:
    name = first(members, "entries/")
    members[name] = members[name].replace(b'"author":"', b'"author":"x')


def entry_deep(members: Members) -> None:
    members[first(members, "entries/")] = b"[" * 100_000


def entry_missing(members: Members) -> None:
    tip = json.loads(members[MANIFEST_NAME])["entries"][1]
    del members[f"entries/{tip}.json"]
    edited_manifest(members, lambda m: m["entries"].remove(tip))


def order_swapped(members: Members) -> None:
    edited_manifest(members, lambda m: m["entries"].__setitem__(slice(0, 2), m["entries"][1::-1]))


def object_missing(members: Members) -> None:
    folder = first(members, "objects/").rsplit("/", 1)[0]
    for name in [name for name in members if name.startswith(folder)]:
        del members[name]


def object_extra(members: Members) -> None:
    folder = first(members, "objects/").rsplit("/", 1)[0]
    for name in [name for name in members if name.startswith(folder)]:
        members["objects/" + "b" * 64 + "/" + name.rsplit("/", 1)[1]] = members[name]


def object_swapped(members: Members) -> None:
    weights = [name for name in sorted(members) if name.endswith("adapter_model.safetensors")]
    members[weights[0]] = members[weights[1]]


def object_garbage(members: Members) -> None:
    members[first(members, "objects/", "adapter_model.safetensors")] = b"\xff" * 200


def requests_changed(members: Members) -> None:
    name = first(members, "objects/", "seqedit.json")
    members[name] = members[name].replace(b'"target_new": "x"', b'"target_new": "y"')


def scores_of_nobody(members: Members) -> None:
    members["scores/" + "c" * 64 + ".json"] = b"{}"


def scores_malformed(members: Members) -> None:
    members[first(members, "scores/")] = b'{"counterfact": {"ES": NaN}}'


def base_model_changed(members: Members) -> None:
    edited_manifest(members, lambda m: m["base_model"].__setitem__("fingerprint", "d" * 64))


def tip_changed(members: Members) -> None:
    edited_manifest(members, lambda m: m.__setitem__("tip", m["entries"][0]))


def entry_twice(members: Members) -> None:
    edited_manifest(members, lambda m: m["entries"].insert(0, m["entries"][0]))


ATTACKS = {
    escape: "which no bundle has",
    absolute: "which no bundle has",
    pickled: "which no bundle has",
    entry_changed: "its content is not what its id names",
    entry_deep: "cannot be read",
    entry_missing: "its parent .* is missing",
    order_swapped: "its parent .* is missing",
    object_missing: "lacks object",
    object_extra: "no entry of the bundle adds its object",
    object_swapped: "is no adapter",
    object_garbage: "is no adapter",
    requests_changed: "is no adapter: .* it was altered",
    scores_of_nobody: "about an entry that it does not hold",
    scores_malformed: "is malformed",
    base_model_changed: "of another base model than the bundle",
    tip_changed: "tip is not its last entry",
    entry_twice: "lists other entries",
}


@pytest.mark.parametrize(("attack", "message"), ATTACKS.items(), ids=[attack.__name__ for attack in ATTACKS])
def test_a_bundle_made_up_with_a_manifest_that_fits_is_refused_before_anything_is_written(
    attack: Callable[[Members], None], message: str, source: Path, tmp_path: Path
) -> None:
    members = members_of(bundle_of(source, tmp_path / "good.zip"))
    attack(members)
    bad = rebuilt(members, tmp_path / "bad.zip")
    with pytest.raises(CheckFailed, match=message):
        import_bundle(tmp_path / "fresh", bad)
    assert not (tmp_path / "fresh").exists()
    assert not (tmp_path / "evil").exists()


def test_the_rebuilding_of_these_tests_alone_is_not_what_is_refused(source: Path, tmp_path: Path) -> None:
    members = members_of(bundle_of(source, tmp_path / "good.zip"))
    assert import_bundle(tmp_path / "fresh", rebuilt(members, tmp_path / "same.zip")).created


def test_files_that_the_digest_does_not_cover_are_written_anew(source: Path, tmp_path: Path) -> None:
    members = members_of(bundle_of(source, tmp_path / "good.zip"))
    name = first(members, "objects/", "adapter_config.json")
    config = json.loads(members[name])
    members[name] = json.dumps({**config, "lora_alpha": 1000}).encode()
    members[first(members, "objects/", "README.md")] = b"<script>"
    import_bundle(tmp_path / "fresh", rebuilt(members, tmp_path / "bad.zip"))
    configs = [json.loads(file.read_text()) for file in (tmp_path / "fresh").rglob("adapter_config.json")]
    assert all(config["lora_alpha"] == config["r"] for config in configs)
    assert not any("<script>" in file.read_text() for file in (tmp_path / "fresh").rglob("README.md"))


def test_after_any_flipped_byte_the_bundle_is_refused_or_says_exactly_the_same(source: Path, tmp_path: Path) -> None:
    good_file = bundle_of(source, tmp_path / "good.zip")
    good, content = good_file.read_bytes(), members_of(good_file)
    bad = tmp_path / "bad.zip"
    refused, positions = 0, range(0, len(good), len(good) // 97)
    for position in positions:
        data = bytearray(good)
        data[position] ^= 1
        bad.write_bytes(data)
        try:
            with Bundle(bad) as bundle:
                bundle.verify()
                # The flip hit a field of the zip that says nothing about a member, such as its time.
                assert {name: bundle._read(name) for name in bundle.manifest.members} == {
                    name: value for name, value in content.items() if name != MANIFEST_NAME
                }
        except SeqeditError:
            refused += 1
    assert refused > 0.7 * len(positions)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(share: float, source: Path, tmp_path: Path) -> None:
    good = bundle_of(source, tmp_path / "good.zip").read_bytes()
    bad = tmp_path / "bad.zip"
    bad.write_bytes(good[: int(share * len(good))])
    with pytest.raises(InputError, match="no bundle, or only part of one"):
        import_bundle(tmp_path / "fresh", bad)


def test_zips_that_are_no_bundles_and_newer_formats_are_named(tmp_path: Path, source: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(InputError, match=r"manifest\.json is missing"):
        import_bundle(tmp_path / "fresh", tmp_path / "empty.zip")
    with pytest.raises(InputError, match="no bundle at"):
        import_bundle(tmp_path / "fresh", tmp_path / "none.zip")
    members = members_of(bundle_of(source, tmp_path / "good.zip"))
    edited_manifest(members, lambda m: m.__setitem__("format", 2))
    with pytest.raises(InputError, match="install a newer seqedit"):
        import_bundle(tmp_path / "fresh", rebuilt(members, tmp_path / "new.zip"))


def test_compressed_members_are_refused_unread(source: Path, tmp_path: Path) -> None:
    members = members_of(bundle_of(source, tmp_path / "good.zip"))
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr("scores/" + "e" * 64 + ".json", b"0" * 50_000_000)
    tracemalloc.start()
    with pytest.raises(CheckFailed, match="compressed"):
        import_bundle(tmp_path / "fresh", bomb)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_links_and_members_named_twice_are_refused(source: Path, tmp_path: Path) -> None:
    members = members_of(bundle_of(source, tmp_path / "good.zip"))
    name = first(members, "objects/", "README.md")
    link = tmp_path / "link.zip"
    with zipfile.ZipFile(link, "w") as archive:
        for member, data in members.items():
            info = zipfile.ZipInfo(member)
            if member == name:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, data)
    with pytest.raises(CheckFailed, match="link"):
        import_bundle(tmp_path / "fresh", link)
    twice = tmp_path / "twice.zip"
    with zipfile.ZipFile(twice, "w") as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(zipfile.ZipInfo(name), b"other")
    with pytest.raises(CheckFailed, match="twice"):
        import_bundle(tmp_path / "fresh", twice)


def test_members_that_claim_more_than_the_file_holds_are_refused(source: Path, tmp_path: Path) -> None:
    """Overlapping members: the directory names one stretch of bytes many times."""
    good = bundle_of(source, tmp_path / "good.zip")
    with zipfile.ZipFile(good) as archive:
        infos = archive.infolist()
    weights = max(infos, key=lambda info: info.file_size)
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr(zipfile.ZipInfo(weights.filename), members_of(good)[weights.filename])
        (only,) = archive.filelist
        for number in range(50):
            info = zipfile.ZipInfo(f"scores/{number:064x}.json")
            for field in ("file_size", "compress_size", "header_offset", "CRC", "external_attr"):
                setattr(info, field, getattr(only, field))
            archive.filelist.append(info)
    with pytest.raises((CheckFailed, InputError)):
        import_bundle(tmp_path / "fresh", bad)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("sample", [12, pytest.param(10**6, marks=pytest.mark.slow, id="all")])
def test_an_import_killed_at_any_call_leaves_a_sound_ledger_that_takes_the_bundle_afterwards(
    sample: int, source: Path, tmp_path: Path
) -> None:
    """Into a new place, so that the making of the ledger is killed too."""
    file = bundle_of(source, tmp_path / "b.zip")
    fresh = tmp_path / "fresh"

    def action() -> object:
        return import_bundle(fresh, file)

    action()  # imports what it needs, so that every child makes the same calls
    with Ledger.open(fresh) as ledger:
        after, entries = ledger.head(), len(ledger.log())
    shutil.rmtree(fresh)
    assert in_child(lambda: kill_at(0, action, tmp_path / "count")) == 0
    total = int((tmp_path / "count").read_text())
    found = set()
    for point in sorted({*random.Random(1).sample(range(1, total + 1), min(sample, total)), total}):
        shutil.rmtree(fresh)
        assert in_child(lambda point=point: kill_at(point, action)) == -signal.SIGKILL, point  # type: ignore[misc]
        if (fresh / "ledger.db").is_file() and not import_module._unfinished(fresh):
            assert sound(fresh), point
            with Ledger.open(fresh) as ledger:
                found.add(len(ledger.log()))
        import_bundle(fresh, file)
        with Ledger.open(fresh) as ledger:
            assert (ledger.head(), len(ledger.log())) == (after, entries), point
        assert sound(fresh), point
        fresh.mkdir(exist_ok=True)
    assert found == {1, entries}, "the sample must hold kills between making the ledger and the commit, and after it"
