"""The password in a database URL is never printed, wherever in the URL it stands and whatever goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ledger.database.database import Database
from ledger.errors import failures
from ledger.objects.local import open_store
from ledger.url_secrets import without_password, without_secrets
from seqedit.cli.main import run
from seqedit.errors import SeqeditError

URL = "postgresql://someone:secret-word@nowhere.invalid/ledger"


@pytest.mark.parametrize("json_", [[], ["--json"]])
def test_a_dry_run_of_init_names_the_place_without_its_password(
    json_: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.database.places.has_ledger", lambda place: False)  # no server answers there
    assert run(["init", "--model", "demo-llama", "--ledger", URL, "--objects", "objects", "--dry-run", *json_]) == 0
    said = capsys.readouterr()
    assert "nowhere.invalid" in said.out
    assert "secret-word" not in said.out + said.err


def test_a_dry_run_of_a_run_names_the_ledger_without_its_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = tmp_path / "facts.jsonl"
    facts.write_text(json.dumps({"subject": "Lyon", "prompt": "The twin city of {} is", "target_new": "Manila"}))
    config = tmp_path / "run.yaml"
    config.write_text(
        json.dumps({
            "model": "demo-llama", "facts": str(facts), "method": "memit", "preset": "demo-llama", "batch_size": 1,
            "steps": 1, "ledger": URL, "out": str(tmp_path / "out"), "tasks": [],
        })
    )  # fmt: skip
    assert run(["run", str(config), "--dry-run"]) == 3  # as the run itself: nothing answers there
    said = capsys.readouterr()
    assert "nowhere.invalid" in said.err
    assert "secret-word" not in said.out + said.err


HOST = "127.0.0.1:1"  # nothing answers there
HIDING = {
    "before the host": f"postgresql://u:SECRETWORD@{HOST}/db",
    "the query": f"postgresql://u@{HOST}/db?password=SECRETWORD",
    "the query, with the user": f"postgresql://{HOST}/db?user=u&password=SECRETWORD",
    "another field of the query": f"postgresql://u@{HOST}/db?sslpassword=SECRETWORD",
    "a field named in capitals, escaped": f"postgresql://u@{HOST}/db?PASS%57ORD=SECRETWORD",
    "with a slash": f"postgresql://u:SECRETWORD/x@{HOST}/db",
    "with an at": f"postgresql://u:a@SECRETWORD@{HOST}/db",
    "with a hash": f"postgresql://u:SECRETWORD#1@{HOST}/db",
    "with a question mark": f"postgresql://u:SECRETWORD?x=1@{HOST}/db",
    "with a space": f"postgresql://u:SECRETWORD @{HOST}/db",
    "escaped": f"postgresql://u:SECRET%57ORD@{HOST}/db",
    "a wrong port": f"postgresql://u:SECRETWORD@{HOST}x/db",
    "no host": "postgresql://u:SECRETWORD",
    "another database": f"mysql://u:SECRETWORD@{HOST}/db",
    "another database's query": f"mysql://{HOST}/db?password=SECRETWORD",
    "an unknown database": f"nosuch://u:SECRETWORD@{HOST}/db",
    "an unknown option": f"postgresql://u:SECRETWORD@{HOST}/db?nosuchoption=1",
    "a driver that is not there": f"postgresql+asyncpg://u:SECRETWORD@{HOST}/db",
    "sqlite": "sqlite:///nowhere/ledger.db?password=SECRETWORD",
}
VERBS = [["log"], ["verify"], ["report"], ["import", "b.zip"], ["import", "b.zip", "--dry-run", "--json"],
         ["init", "--model", "demo-llama", "--objects", "o", "--dry-run"]]  # fmt: skip


@pytest.mark.parametrize("url", HIDING.values(), ids=HIDING)
def test_no_verb_prints_a_password_wherever_in_the_url_it_stands(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cli.test_terminal import make_bundle

    monkeypatch.chdir(tmp_path)
    make_bundle(tmp_path / "b.zip")
    for verb in VERBS:
        code = run([*verb, "--ledger", url])
        said = capsys.readouterr()
        assert code in (0, 2, 3), verb
        assert "SECRET" not in said.out + said.err, verb
        assert said.out + said.err, verb


@pytest.mark.parametrize("url", HIDING.values(), ids=HIDING)
def test_neither_a_places_name_nor_an_error_about_it_holds_its_password(url: str) -> None:
    assert "SECRET" not in without_password(url)
    for said in (f"cannot connect to {url}", "no host SECRETWORD", "option 'SECRETWORD' of SECRET%57ORD"):
        with pytest.raises(SeqeditError) as raised, failures("it", url):
            raise OSError(said)
        assert "SECRETWORD" not in str(raised.value)


@pytest.mark.parametrize("kind", ["a wrong port", "an unknown database", "no host"])
def test_an_error_of_a_malformed_url_has_no_cause_that_quotes_it(kind: str) -> None:
    with pytest.raises(SeqeditError) as raised:
        Database(HIDING[kind])
    error: BaseException | None = raised.value
    while error is not None:
        assert "SECRET" not in str(error)
        error = error.__cause__


def test_the_key_of_an_object_store_is_hidden_too() -> None:
    with pytest.raises(SeqeditError) as raised:
        open_store("nosuch://key:SECRETWORD@bucket/folder?token=SECRETWORD")
    assert "SECRETWORD" not in str(raised.value)
    assert "bucket/folder" in str(raised.value)


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        ("a/folder@home", "a/folder@home"),
        ("s3://bucket/a@b/c", "s3://bucket/a@b/c"),
        ("postgresql://host:5432/db?sslmode=require", "postgresql://host:5432/db?sslmode=require"),
        ("postgresql://u:p@[::1]:5432/db", "postgresql://***@[::1]:5432/db"),
        ("sqlite:////tmp/ledger.db", "sqlite:////tmp/ledger.db"),
    ],
)
def test_what_is_no_secret_is_shown(place: str, shown: str) -> None:
    assert without_password(place) == shown


def test_a_short_password_is_hidden_as_a_word_only() -> None:
    assert without_secrets("a bad password: b at b.example", "postgresql://u:b@host/db") == (
        "a bad password: *** at ***.example"
    )
