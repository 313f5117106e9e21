"""A ledger whose objects are on a real SFTP server, another process, which may be killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest
import torch
from fsspec.config import conf

from ledger import Ledger
from ledger.objects.local import open_store
from ledger.objects.manifest import MANIFEST
from ledger.objects.objects import ObjectStore
from seqedit.adapters.adapter import Adapter
from seqedit.cli.main import run
from seqedit.errors import CheckFailed, EnvironmentFailure, InputError
from tests.ledger.helpers import MODEL, build_adapter, build_base
from tests.ledger.objects.sftp_server import Site
from tests.ledger.objects.test_store import DIGEST, HOSTILE, write_text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("sftp"))
    before = conf.get("ssh")
    conf["ssh"] = made.options
    yield made
    conf.pop("ssh")
    if before is not None:
        conf["ssh"] = before


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Site]:
    """A site whose server runs."""
    with site.running():
        yield site


@pytest.fixture
def store(server: Site, request: pytest.FixtureRequest) -> ObjectStore:
    """A store of the test's own."""
    return open_store(f"{server.url}/{request.node.name[:80].replace('/', '-')}")


class TestStore:
    def test_an_adapter_comes_back_as_it_was_put(self, store):
        adapter = build_adapter(1)
        manifest = store.put(adapter.digest, adapter.save_pretrained)
        assert store.manifest(adapter.digest) == manifest
        with store.directory(adapter.digest) as directory:
            assert Adapter.from_pretrained(directory).digest == adapter.digest

    def test_an_object_that_is_there_is_not_written_again(self, store):
        store.put(DIGEST, write_text())

        def never(directory: Path) -> None:
            raise AssertionError("written twice")

        store.put(DIGEST, never)

    def test_a_missing_object_is_named_and_an_empty_store_is_empty(self, store):
        assert list(store.objects()) == []
        assert store.manifest(DIGEST) is None
        with pytest.raises(CheckFailed, match="abababababab is missing"), store.directory(DIGEST):
            pass

    def test_putting_again_heals_a_damaged_object(self, store):
        store.put(DIGEST, write_text())
        path = f"{store.root}/{store.path(DIGEST)}"
        store.fs.pipe_file(f"{path}/data.txt", b"changed")
        store.fs.pipe_file(f"{path}/extra", b"x")
        store.fs.pipe_file(f"{path}/folder/extra", b"x")
        store.put(DIGEST, write_text())
        with store.open(f"{store.path(DIGEST)}/data.txt") as stream:
            assert stream.read() == b"content"
        assert sorted(store.children(store.path(DIGEST))) == ["data.txt", MANIFEST]

    def test_sizes_and_kinds_are_those_of_the_files(self, store):
        store.put(DIGEST, write_text())
        assert store.children("") == {"ab": ("directory", store.children("")["ab"][1])}
        assert store.children(store.path(DIGEST))["data.txt"] == ("file", len("content"))
        assert list(store.objects()) == [store.path(DIGEST)]

    def test_a_removed_object_is_gone_and_its_size_was_known(self, store):
        manifest = store.put(DIGEST, write_text())
        usage = store.usage(store.path(DIGEST))
        assert usage.size == len("content") + len(manifest.to_bytes())
        assert usage.modified is not None
        store.remove(store.path(DIGEST))
        assert store.usage(store.path(DIGEST)) is None
        assert store.manifest(DIGEST) is None

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_digests_reach_no_path(self, store, name):
        for call in (store.path, store.manifest, lambda d: store.put(d, write_text())):
            with pytest.raises(InputError, match="not a digest"):
                call(name)


class TestLedger:
    def test_history_weights_and_verification_are_those_of_a_local_ledger(self, server, tmp_path):
        base = build_base()
        place = f"sqlite:///{tmp_path}/ledger.db"
        with (
            Ledger.create(place, MODEL, objects=f"{server.url}/whole") as remote,
            Ledger.create(tmp_path / "local", MODEL) as local,
        ):
            for ledger in (remote, local):
                for seed in range(3):
                    ledger.append(build_adapter(seed))
                ledger.revert("HEAD~1")
            state, expected = remote.compose(base), local.compose(base)
            assert all(torch.equal(state[name], expected[name]) for name in expected)
        with Ledger.open(place) as again:
            assert again.verify() == []
            assert again.adapter("HEAD~1").digest == build_adapter(2).digest

    def test_damage_on_the_server_is_found(self, server, tmp_path):
        place = f"sqlite:///{tmp_path}/ledger.db"
        with Ledger.create(place, MODEL, objects=f"{server.url}/damage") as ledger:
            digest = ledger.append(build_adapter(1)).adapter
            path = server.home / "files" / "objects" / "damage" / digest[:2] / digest / "adapter_model.safetensors"
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
            assert [problem.code for problem in ledger.verify()] == ["damaged-file"]
            path.unlink()
            assert [problem.code for problem in ledger.verify(deep=False)] == ["missing-file"]
            with pytest.raises(CheckFailed, match="missing"):
                ledger.compose(build_base())


def test_a_server_killed_in_the_middle_of_any_write_leaves_the_ledger_sound(site, tmp_path, monkeypatch):
    """Its own server, which dies with half of a write done: the N-th, for every N."""
    own = Site(tmp_path)
    monkeypatch.setitem(conf, "ssh", own.options)
    place = f"sqlite:///{tmp_path}/ledger.db"
    with own.running(), Ledger.create(place, MODEL, objects=own.url) as ledger:
        ledger.append(build_adapter(0))
        head = ledger.head()
    outcomes = []
    for number in range(1, 20):
        with own.running(dies_at_write=number) as server, Ledger.open(place) as ledger:
            try:
                ledger.append(build_adapter(1))  # over what the last one left behind
            except EnvironmentFailure as error:
                outcomes.append(error.exit_code)
                assert server.process.wait(60) == -signal.SIGKILL
        with Ledger.open(place, objects=str(tmp_path / "files" / "objects")) as ledger:
            problems = ledger.verify()
            assert [p for p in problems if p.damage] == [], number
            if ledger.head() != head:
                break
            # Killed at its first write an object has no files yet, and may not even have a directory.
            assert {p.code for p in problems} <= {"temporary-file"}
    assert problems == []
    assert outcomes == [3] * (number - 1)
    assert number > 5, "an object has several files, each written at least once"


def test_a_session_goes_on_after_the_server_was_restarted(site, tmp_path, monkeypatch):
    own = Site(tmp_path)
    monkeypatch.setitem(conf, "ssh", own.options)
    with Ledger.create(f"sqlite:///{tmp_path}/ledger.db", MODEL, objects=own.url) as ledger:
        with own.running():
            ledger.append(build_adapter(0))
        with pytest.raises(EnvironmentFailure):
            ledger.append(build_adapter(1))
        with own.running():
            ledger.append(build_adapter(1))
            assert ledger.verify() == []


def test_a_server_that_is_not_there_is_an_environment_failure_but_the_log_can_be_read(site, tmp_path, capsys):
    place, url = f"sqlite:///{tmp_path}/ledger.db", "ssh://tester:secret@127.0.0.1:1/objects"
    with Ledger.create(place, MODEL, objects=url) as ledger:
        assert len(ledger.log()) == 1
        for action in (ledger.verify, lambda: ledger.append(build_adapter(1))):
            with pytest.raises(EnvironmentFailure, match="Refused") as error:
                action()
            assert error.value.exit_code == 3
            assert "secret" not in str(error.value)
    assert run(["log", "--ledger", place]) == 0
    capsys.readouterr()
    assert run(["verify", "--ledger", place]) == 3
    said = capsys.readouterr().err
    assert "Refused" in said
    assert "secret" not in said


def test_a_stranger_is_not_let_in(server, tmp_path, monkeypatch):
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    monkeypatch.setitem(conf, "ssh", {**server.options, "client_keys": [str(tmp_path / "key")], "agent_path": None})
    with pytest.raises(EnvironmentFailure, match="Permission"):
        open_store(server.url).manifest(DIGEST)


def test_another_host_that_answers_is_not_trusted(server, tmp_path, monkeypatch):
    (tmp_path / "known_hosts").write_text("")
    monkeypatch.setitem(conf, "ssh", {**server.options, "known_hosts": str(tmp_path / "known_hosts")})
    with pytest.raises(EnvironmentFailure, match=r"[Hh]ost key"):
        open_store(server.url).manifest(DIGEST)
