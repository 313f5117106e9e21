"""Import and pull with signers: asked before anything is written, and an older signed state is not taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger import Ledger
from ledger.bundles.import_bundle import import_bundle
from ledger.bundles.write import plan_bundle, write_bundle
from ledger.upkeep.signers import read_signers
from ledger.upkeep.signing import add_signatures, load_key, new_key, sign
from seqedit.cli.main import run
from seqedit.errors import CheckFailed, InputError
from tests.ledger.helpers import MODEL, TIME, build_adapter

pytest.importorskip("cryptography", reason="signatures need the package cryptography")


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    """Name -> public key; private keys and signers files lie beside, by name."""
    made = {name: new_key(tmp_path / f"{name}.pem") for name in ("ada", "eve")}
    for name, public in made.items():
        (tmp_path / f"{name}.signers").write_text(f"{public} {name}\n")
    return made


def add(place: Path, seed: int, by: Path | None) -> str:
    with Ledger.open(place) as ledger:
        entry = ledger.append(build_adapter(seed), message=f"edit {seed}", time=TIME)
        if by is not None:
            with ledger.database.write() as connection:
                add_signatures(connection, [sign(entry.id, load_key(by))])
        return entry.id


def bundle(place: Path, out: Path, rev: str = "HEAD", *, single: bool = False) -> Path:
    with Ledger.open(place) as ledger:
        write_bundle(ledger, plan_bundle(ledger, rev, single=single), out)
    return out


@pytest.fixture
def source(tmp_path: Path, keys: dict[str, str]) -> Path:
    """Two entries, the second one signed by Ada."""
    with Ledger.create(tmp_path / "source", MODEL, time=TIME):
        pass
    add(tmp_path / "source", 0, None)
    add(tmp_path / "source", 1, tmp_path / "ada.pem")
    return tmp_path / "source"


def files(place: Path) -> dict[str, bytes]:
    names = (path for path in place.rglob("*") if path.is_file() and not path.name.startswith("ledger.db-"))
    return {str(path.relative_to(place)): path.read_bytes() for path in names}


def test_what_a_signer_signed_is_taken_with_all_before_it(source, tmp_path, keys):
    made = import_bundle(tmp_path / "new", bundle(source, tmp_path / "b"), signers=[keys["ada"]])
    assert made.entries == 3
    with Ledger.open(tmp_path / "new") as ledger:
        assert ledger.verify(signers=[keys["ada"]]) == []


@pytest.mark.parametrize("who", ["nobody", "eve"])
def test_what_no_signer_signed_is_refused_and_nothing_is_written(source, tmp_path, keys, who):
    import_bundle(tmp_path / "there", bundle(source, tmp_path / "b"))
    add(source, 2, None if who == "nobody" else tmp_path / "eve.pem")
    newer = bundle(source, tmp_path / "newer")
    before = files(tmp_path / "there")
    for place in ("there", "new"):
        for dry_run in (True, False):
            with pytest.raises(CheckFailed, match="not signed" if who == "nobody" else f"by {keys['eve'][:12]} only"):
                import_bundle(tmp_path / place, newer, signers=[keys["ada"]], dry_run=dry_run)
    assert files(tmp_path / "there") == before
    assert not (tmp_path / "new").exists()


def test_a_signature_that_the_ledger_has_already_counts(source, tmp_path, keys):
    file = bundle(source, tmp_path / "b")
    import_bundle(tmp_path / "there", file)
    with Ledger.open(source) as ledger, ledger.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM signatures")
    assert import_bundle(tmp_path / "there", bundle(source, tmp_path / "c"), signers=[keys["ada"]]).entries == 0


def test_an_older_signed_state_is_refused_on_every_branch_unless_it_is_asked_for(source, tmp_path, keys):
    old = bundle(source, tmp_path / "old")
    newest = add(source, 2, tmp_path / "ada.pem")
    import_bundle(tmp_path / "there", bundle(source, tmp_path / "new"), signers=[keys["ada"]])
    for branch in (None, "other"):
        with pytest.raises(CheckFailed, match=f"older than the signed entry {newest[:12]}"):
            import_bundle(tmp_path / "there", old, branch=branch, signers=[keys["ada"]])
    with Ledger.open(tmp_path / "there") as ledger:
        assert set(ledger.branches()) == {"main"}
    import_bundle(tmp_path / "there", old, branch="other", signers=[keys["ada"]], allow_older=True)
    with Ledger.open(tmp_path / "there") as ledger:
        assert set(ledger.branches()) == {"main", "other"}


def test_a_fresh_ledger_takes_nothing_older_than_the_entry_that_is_known(source, tmp_path, keys):
    old = bundle(source, tmp_path / "old")
    newest = add(source, 2, tmp_path / "ada.pem")
    with pytest.raises(CheckFailed, match="does not have entry"):
        import_bundle(tmp_path / "fresh", old, signers=[keys["ada"]], at_least=newest)
    with pytest.raises(InputError, match="12 digits"):
        import_bundle(tmp_path / "fresh", old, at_least="HEAD")
    assert not (tmp_path / "fresh").exists()
    import_bundle(tmp_path / "fresh", bundle(source, tmp_path / "new"), at_least=newest[:12])


def test_a_single_entry_needs_a_signature_of_its_own_which_travels_with_it(source, tmp_path, keys):
    with Ledger.create(tmp_path / "there", MODEL, time="2020-01-01T00:00:00Z"):
        pass
    unsigned = bundle(source, tmp_path / "a", "HEAD~1", single=True)
    with pytest.raises(CheckFailed, match="not signed"):
        import_bundle(tmp_path / "there", unsigned, signers=[keys["ada"]])
    signed = bundle(source, tmp_path / "b", single=True)
    assert import_bundle(tmp_path / "there", signed, signers=[keys["ada"]]).entries == 1


def test_the_signers_that_a_ledger_keeps_are_asked_where_none_are_given(source, tmp_path, keys):
    import_bundle(tmp_path / "there", bundle(source, tmp_path / "b"))
    ada, eve = read_signers(tmp_path / "ada.signers"), [keys["eve"]]
    with Ledger.open(tmp_path / "there") as ledger:
        ledger.keep_signers(ada)
        assert ledger.kept_signers() == {keys["ada"]: "ada"}
        assert ledger.verify() == []
    add(source, 2, tmp_path / "eve.pem")
    newer = bundle(source, tmp_path / "newer")
    with pytest.raises(CheckFailed, match="vouches"):
        import_bundle(tmp_path / "there", newer)
    import_bundle(tmp_path / "there", newer, signers=eve)  # a file from elsewhere counts instead
    with Ledger.open(tmp_path / "there") as ledger:
        assert {p.code for p in ledger.verify()} == {"unknown-signer"}
        ledger.keep_signers(None)
        assert ledger.verify() == []


@pytest.mark.parametrize("value", ["", "{}", "[]", "null", '{"x": "y"}'])
def test_kept_signers_that_are_malformed_trust_nobody(source, value):
    with Ledger.open(source) as ledger:
        ledger.keep_signers({"a" * 64: "x"})
        with ledger.database.write() as connection:
            connection.exec_driver_sql(f"UPDATE meta SET value = '{value}' WHERE key = 'signers'")
        with pytest.raises(CheckFailed, match="malformed"):
            ledger.verify()


def test_the_command_line_asks_at_import_export_checkout_and_verify(source, tmp_path, keys, capsys, monkeypatch):
    file, there = str(bundle(source, tmp_path / "b")), str(tmp_path / "there")
    ada, eve = str(tmp_path / "ada.signers"), str(tmp_path / "eve.signers")
    assert run(["import", file, "--ledger", there, "--signers", eve]) == 1
    assert not Path(there).exists()
    assert run(["import", file, "--ledger", there, "--signers", ada]) == 0
    assert run(["signers", "--ledger", there, "--set", ada, "--dry-run"]) == 0
    assert run(["export", "--ledger", there, "--format", "peft", "--out", str(tmp_path / "x"), "--signers", eve]) == 1
    assert not (tmp_path / "x").exists()
    monkeypatch.setenv("SEQEDIT_SIGNERS", eve)
    assert run(["export", "--ledger", there, "--format", "bundle", "--out", str(tmp_path / "x")]) == 1
    assert run(["checkout", "main", "--ledger", there]) == 1
    assert run(["verify", "--ledger", there]) == 1
    monkeypatch.delenv("SEQEDIT_SIGNERS")
    assert run(["checkout", "main", "--ledger", there, "--signers", ada]) == 0
    assert run(["signers", "--ledger", there, "--set", ada]) == 0
    capsys.readouterr()
    assert run(["signers", "--ledger", there, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["signers"] == {keys["ada"]: "ada"}
    newest = add(Path(there), 5, None)
    assert run(["verify", "--ledger", there]) == 1
    assert run(["export", "--ledger", there, "--format", "bundle", "--out", str(tmp_path / "x")]) == 1
    assert run(["export", "HEAD~1", "--ledger", there, "--format", "bundle", "--out", str(tmp_path / "x")]) == 0
    assert run(["import", str(tmp_path / "x"), "--ledger", str(tmp_path / "y"), "--at-least", newest]) == 1
    assert run(["signers", "--ledger", there, "--clear"]) == 0
    assert run(["verify", "--ledger", there]) == 0
    assert run(["signers", "--ledger", there, "--set", ada, "--clear"]) == 2
