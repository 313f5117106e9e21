"""A creation that was killed anywhere can be repeated by whoever makes ledgers, whatever it left."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, event

from ledger import Ledger
from ledger.database.database import Database
from ledger.database.places import DATABASE, has_ledger
from seqedit.adapters.adapter import BaseModel
from seqedit.cli.main import run
from seqedit.errors import CheckFailed, InputError
from tests.conftest import REFERENCE
from tests.ledger.database import databases
from tests.ledger.database.databases import ServerPlace
from tests.ledger.helpers import MODEL, TIME, build_adapter
from tests.reliability.processes import in_child

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def kill_at_first_table(place: Any, base_model: BaseModel = MODEL) -> None:
    """A creation that dies when the database file is there and its one transaction is not committed."""

    def act() -> None:
        @event.listens_for(Engine, "before_cursor_execute")
        def stop(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.lstrip().upper().startswith("CREATE TABLE"):
                os.kill(os.getpid(), signal.SIGKILL)

        databases.create(place, base_model)

    assert in_child(act) == -signal.SIGKILL


def test_a_place_where_a_creation_was_killed_holds_no_ledger_and_can_get_one(place: Path | ServerPlace) -> None:
    kill_at_first_table(place)
    assert not has_ledger(place)
    with pytest.raises(InputError, match="no ledger at"):
        Ledger.open(place)
    with databases.create(place, time=TIME) as ledger:
        ledger.append(build_adapter(1))
        assert ledger.verify() == []
    assert has_ledger(place)
    with pytest.raises(InputError, match="holds a ledger already"):
        databases.create(place)


@pytest.mark.parametrize("left", ["an empty file", "killed"])
def test_init_and_run_take_up_what_a_killed_creation_left(tmp_path: Path, left: str, capsys: Any) -> None:
    if left == "killed":
        kill_at_first_table(tmp_path / "a")
        kill_at_first_table(tmp_path / "b")
    else:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / DATABASE).touch()
    model = str(REFERENCE / "model")
    assert run(["init", "--model", model, "--ledger", str(tmp_path / "a")]) == 0
    assert run(["init", "--model", model, "--ledger", str(tmp_path / "a")]) == 2
    assert "holds a ledger already" in capsys.readouterr().err
    case = REFERENCE / "multi_layer_batch8" / "case.json"
    (tmp_path / "facts.json").write_text(json.dumps(json.loads(case.read_text())["records"][:2]))
    configuration = {
        "model": model, "facts": str(tmp_path / "facts.json"), "method": "ft", "batch_size": 1, "steps": 1,
        "out": str(tmp_path / "out"), "ledger": str(tmp_path / "b"), "settings": {"layers": [1], "steps": 1},
        "evals": {"generation": False},
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(configuration))
    assert run(["run", str(tmp_path / "run.yaml")]) == 0
    for name in ("a", "b"):
        assert run(["verify", "--ledger", str(tmp_path / name)]) == 0


def test_a_url_of_a_file_where_a_creation_was_killed_holds_no_ledger(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'l.db'}"
    assert not has_ledger(url)
    database = Database(url, create=True)
    with database.read():
        pass
    database.close()
    assert (tmp_path / "l.db").is_file()
    assert not has_ledger(url)
    Ledger.create(url, MODEL, objects=str(tmp_path / "objects")).close()
    assert has_ledger(url)


def test_what_is_no_database_is_neither_a_ledger_nor_room_for_one(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_text("notes of somebody" * 100)
    with pytest.raises(CheckFailed, match="damaged"):
        has_ledger(tmp_path)
    with pytest.raises(CheckFailed, match="damaged"):
        Ledger.create(tmp_path, MODEL)
    assert (tmp_path / DATABASE).read_text() == "notes of somebody" * 100


def test_a_creation_that_is_refused_leaves_no_database(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes").touch()
    with pytest.raises(InputError, match="not empty"):
        Ledger.create(tmp_path / "ledger", MODEL, objects=str(tmp_path / "data"))
    assert not (tmp_path / "ledger").exists()
