"""Pushing to and pulling from a stand-in of the HuggingFace Hub, a server process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from ledger import Ledger
from seqedit import Session
from seqedit.adapters.adapter import Adapter
from seqedit.adapters.delta import LowRank
from seqedit.cli.main import run
from seqedit.errors import InputError
from seqedit.models.edited import EditedModel
from seqedit.models.loading import load_model
from tests.conftest import REFERENCE
from tests.ledger.helpers import TIME, build_adapter

# The client itself uses what its transport deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=<...>' to upload:DeprecationWarning")

SERVER = Path(__file__).with_name("hub_server.py")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of the stand-in."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    port = int(process.stdout.readline())
    yield f"http://127.0.0.1:{port}"
    process.stdin.close()
    process.stdout.close()
    assert process.wait(10) == 0


def point_to(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What HF_ENDPOINT does where it is set before the client is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The stand-in as the client's endpoint, with a token that may write."""
    point_to(monkeypatch, server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    return server


@pytest.fixture(scope="module")
def edited() -> EditedModel:
    return EditedModel(*load_model(str(REFERENCE / "model"), device="cpu"), name="tester/base")


@pytest.fixture
def place(edited: EditedModel, tmp_path: Path) -> Path:
    """A ledger with two edits of the reference model."""
    with Ledger.create(tmp_path / "ledger", edited.base_model, time=TIME) as ledger:
        for seed in range(2):
            ledger.append(adapter_for(edited, seed), message=f"edit {seed}", time=TIME)
    return tmp_path / "ledger"


def adapter_for(edited: EditedModel, seed: int) -> Adapter:
    random = torch.Generator().manual_seed(seed)
    (projection,) = edited.parts.projections_of((1,))
    rows, columns = projection.matrix().shape
    delta = LowRank(torch.randn(rows, 2, generator=random), torch.randn(2, columns, generator=random) / 50)
    source = build_adapter(seed)
    return Adapter({projection.name: delta}, source.requests, source.method, edited.base_model, fan_in_fan_out=True)


def get(address: str) -> Any:
    request = urllib.request.Request(address, headers={"Authorization": "Bearer hf_good"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)


def test_a_push_is_one_commit_and_its_history_can_be_pulled(hub: str, place: Path, tmp_path: Path, capsys: Any) -> None:
    assert run(["push", "tester/edits", "--ledger", str(place), "-m", "first", "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    assert pushed["created"]
    assert pushed["repository"] == "tester/edits"
    found = get(f"{hub}/api/models/tester/edits")
    assert found["sha"] == pushed["commit"]
    assert found["messages"] == ["initial commit", "first"], "one push is one commit"
    names = {item["rfilename"] for item in found["siblings"]}
    assert names == {
        ".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors", "seqedit.json",
        "seqedit_values.safetensors", "ledger/bundle.zip", "ledger/tip.json",
    }  # fmt: skip

    with Ledger.open(place) as ledger:
        head = ledger.head()
    assert run(["pull", "tester/edits", "--ledger", str(tmp_path / "pulled"), "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    assert (pulled["created"], pulled["new"], pulled["entries"]) == (True, head, 3)
    with Ledger.open(tmp_path / "pulled") as ledger:
        assert ledger.verify() == []


def test_a_session_takes_in_what_was_pushed_and_its_model_follows(
    hub: str, edited: EditedModel, place: Path, tmp_path: Path, capsys: Any
) -> None:
    shutil.copytree(place, tmp_path / "behind")
    assert run(["push", "tester/edits", "--ledger", str(place)]) == 0
    with Ledger.open(tmp_path / "behind") as ledger:
        ahead = ledger.head()
        ledger.reset(ledger.resolve("HEAD~1"))
        session = Session(edited, ledger)
        before = [p.matrix().clone() for p in edited.parts.projections]
        try:
            assert session.pull("tester/edits", dry_run=True).new == ahead
            assert session.tip != ahead
            pulled = session.pull("tester/edits")
            assert (pulled.branch, pulled.new, session.tip, ledger.head()) == ("main", ahead, ahead, ahead)
            after = [p.matrix() for p in edited.parts.projections]
            assert not all(torch.equal(x, y) for x, y in zip(before, after, strict=True))
        finally:
            session.checkout(ledger.root())


def test_what_others_pushed_is_not_replaced_and_can_be_pulled_first(
    hub: str, edited: EditedModel, place: Path, tmp_path: Path, capsys: Any
) -> None:
    mine, theirs = str(place), str(tmp_path / "theirs")
    assert run(["push", "tester/shared", "--ledger", mine]) == 0
    assert run(["pull", "tester/shared", "--ledger", theirs]) == 0
    with Ledger.open(theirs) as ledger:
        ledger.append(adapter_for(edited, 7), message="theirs", time=TIME)
    assert run(["push", "tester/shared", "--ledger", theirs]) == 0
    with Ledger.open(mine) as ledger:
        ledger.append(adapter_for(edited, 8), message="mine", time=TIME)
    capsys.readouterr()
    assert run(["push", "tester/shared", "--ledger", mine]) == 1
    assert "not in the history" in capsys.readouterr().err
    assert run(["pull", "tester/shared", "--ledger", mine]) == 1
    assert "--branch" in capsys.readouterr().err
    assert run(["pull", "tester/shared", "--ledger", mine, "--branch", "theirs"]) == 0
    assert run(["push", "tester/shared", "--ledger", mine, "--force"]) == 0


def test_a_commit_between_looking_and_pushing_is_a_conflict(hub: str, place: Path, capsys: Any) -> None:
    assert run(["push", "tester/busy", "--ledger", str(place)]) == 0
    with Ledger.open(place) as ledger:
        ledger.revert("HEAD")
    urllib.request.urlopen(urllib.request.Request(f"{hub}/test/meddle", method="POST")).close()
    before = get(f"{hub}/api/models/tester/busy")["messages"]
    assert run(["push", "tester/busy", "--ledger", str(place)]) == 1
    assert "changed while this was pushed" in capsys.readouterr().err
    assert get(f"{hub}/api/models/tester/busy")["messages"] == [*before, "someone else"]
    assert run(["push", "tester/busy", "--ledger", str(place)]) == 0


def test_private_repositories_revisions_and_short_names(hub: str, place: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = ["push", "secret", "--ledger", str(place), "--private", "--revision", "v1", "--json"]
    assert run(arguments) == 0
    assert json.loads(capsys.readouterr().out)["repository"] == "tester/secret"
    assert get(f"{hub}/api/models/tester/secret")["private"]
    assert run(["pull", "tester/secret", "--ledger", str(tmp_path / "a")]) == 2
    assert "holds no ledger/bundle.zip" in capsys.readouterr().err
    assert run(["pull", "tester/secret", "--revision", "v1", "--ledger", str(tmp_path / "a")]) == 0
    assert run(["pull", "tester/secret", "--revision", "v2", "--ledger", str(tmp_path / "b")]) == 2
    assert "no such revision" in capsys.readouterr().err


def test_a_dry_run_changes_nothing(hub: str, place: Path, tmp_path: Path, capsys: Any) -> None:
    assert run(["push", "tester/dry", "--ledger", str(place), "--dry-run", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["created"], result["commit"], result["dry_run"], result["entries"]) == (True, None, True, 2)
    assert run(["pull", "tester/dry", "--ledger", str(tmp_path / "x")]) == 2
    assert run(["push", "tester/dry", "--ledger", str(place)]) == 0
    assert run(["pull", "tester/dry", "--ledger", str(tmp_path / "x"), "--dry-run"]) == 0
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [("no token", "hf auth login"), ("no network", "cannot be reached"), ("offline", "HF_HUB_OFFLINE")],
)
def test_a_dry_push_without_login_or_network_checks_what_is_here_and_says_that_it_did_not_look(
    trouble: str, said: str, hub: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if trouble == "no token":
        monkeypatch.delenv("HF_TOKEN")
    elif trouble == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        point_to(monkeypatch, "http://127.0.0.1:9")  # nobody listens there
    push = ["push", "tester/edits", "--ledger", str(place), "--dry-run"]
    assert run([*push, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["dry_run"], found["created"], found["replaced"], found["entries"]) == (True, None, None, 2)
    assert said in found["not_looked"]
    assert run(push) == 0
    assert said in capsys.readouterr().err
    assert run(["push", "../evil", *push[2:]]) == 2  # what is wrong here is refused all the same
    assert "no repository id" in capsys.readouterr().err


def test_the_card_names_no_path_of_this_machine(hub: str, edited: EditedModel, tmp_path: Path, capsys: Any) -> None:
    from seqedit.adapters.adapter import BaseModel

    local = BaseModel(str(tmp_path / "base"), edited.base_model.fingerprint)
    with Ledger.create(tmp_path / "ledger", local, time=TIME) as ledger:
        ledger.append(adapter_for(edited, 0), time=TIME)
    assert run(["push", "tester/path", "--ledger", str(tmp_path / "ledger")]) == 2
    assert "--base-name" in capsys.readouterr().err
    assert run(["push", "tester/path", "--ledger", str(tmp_path / "ledger"), "--base-name", "tester/base"]) == 0
    for name in ("README.md", "adapter_config.json", "seqedit.json"):
        request = urllib.request.Request(f"{hub}/tester/path/resolve/main/{name}")
        with urllib.request.urlopen(request) as response:
            text = response.read().decode()
        assert str(tmp_path) not in text, name
        assert "tester/base" in text, name


@pytest.mark.parametrize(
    ("arguments", "token", "code", "message"),
    [
        (["push", "tester/new"], "hf_wrong", 2, "does not accept the token"),
        (["push", "tester/new"], None, 2, "hf auth login"),
        (["push", "someone/new"], "hf_good", 2, "may not do this"),
        (["push", "reader/new"], "hf_reader", 2, "may not do this"),
        (["push", "../evil"], "hf_good", 2, "no repository id"),
        (["pull", "tester/none"], "hf_good", 2, "no repository tester/none"),
        (["pull", "tester/none"], None, 2, "no repository tester/none"),
        (["pull", "tester/none"], "hf_wrong", 2, "does not accept the token"),
    ],
)
def test_what_the_hub_refuses_is_an_error_that_says_what_to_do(
    arguments: list[str], token: str | None, code: int, message: str, hub: str, place: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Any,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_TOKEN", token) if token else monkeypatch.delenv("HF_TOKEN")
    ledger = place if arguments[0] == "push" else tmp_path / "fresh"
    assert run([*arguments, "--ledger", str(ledger)]) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize("verb", ["push", "pull"])
@pytest.mark.parametrize("trouble", ["no network", "offline"])
def test_without_a_network_the_environment_is_to_blame(
    verb: str, trouble: str, hub: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if trouble == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        point_to(monkeypatch, "http://127.0.0.1:9")  # nobody listens there
    assert run([verb, "tester/edits", "--ledger", str(place)]) == 3
    error = capsys.readouterr().err
    assert ("HF_HUB_OFFLINE" if trouble == "offline" else "cannot be reached") in error
    assert error.count("\n") == 1


LOAD = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sys.argv[1]), sys.argv[2])
with torch.no_grad():
    torch.save(model(torch.arange(12)[None]).logits, sys.argv[3])
"""


def test_with_endpoint_and_token_in_the_environment_push_pull_and_stock_peft_work(
    server: str, edited: EditedModel, place: Path, tmp_path: Path
) -> None:
    environment = {
        **os.environ, "HF_ENDPOINT": server, "HF_TOKEN": "hf_good", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
    }  # fmt: skip
    logits = tmp_path / "logits.pt"
    for arguments in (
        ["-m", "seqedit", "push", "tester/env", "--ledger", str(place)],
        ["-m", "seqedit", "pull", "tester/env", "--ledger", str(tmp_path / "pulled")],
        ["-c", LOAD, str(REFERENCE / "model"), "tester/env", str(logits)],
    ):
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    with Ledger.open(tmp_path / "pulled") as pulled, Ledger.open(place) as ledger:
        assert pulled.head() == ledger.head()
        modules = sorted({name for adapter in pulled.adapters() for name in adapter.deltas})
        edited.write(pulled.compose(edited.base_weights(modules)))
    with torch.no_grad():
        expected = edited.model(torch.arange(12)[None]).logits
    edited.write({})
    torch.testing.assert_close(torch.load(logits, weights_only=True), expected, rtol=1e-5, atol=1e-5)


def test_push_and_pull_ask_for_signers_before_anything_is_written(
    hub: str, place: Path, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("cryptography")
    key, signers = tmp_path / "key.pem", tmp_path / "signers"
    assert run(["sign", "--new-key", str(key)]) == 0
    signers.write_text(capsys.readouterr().out)
    push = ["push", "tester/signed", "--ledger", str(place)]
    pull = ["pull", "tester/signed", "--ledger", str(tmp_path / "new"), "--signers", str(signers)]
    assert run([*push, "--signers", str(signers)]) == 1
    assert "vouches" in capsys.readouterr().err
    assert run(push) == 0  # nobody asked
    assert run(pull) == 1
    assert "not signed" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert run(["signers", "--ledger", str(place), "--set", str(signers)]) == 0
    assert run(push) == 1
    assert run(["sign", "HEAD", "--key", str(key), "--ledger", str(place)]) == 0
    assert run(push) == 0
    assert run(pull) == 0
    assert run(["verify", "--ledger", str(tmp_path / "new"), "--signers", str(signers)]) == 0


def test_an_adapter_goes_to_a_repository_and_comes_back(hub: str, edited: EditedModel) -> None:
    adapter = adapter_for(edited, 5)
    adapter.push_to_hub("tester/one-adapter", message="one")
    assert Adapter.from_pretrained("tester/one-adapter").digest == adapter.digest
    found = get(f"{hub}/api/models/tester/one-adapter")
    assert found["messages"] == ["initial commit", "one"]


def test_an_adapter_that_is_neither_here_nor_on_the_hub_is_named(hub: str) -> None:
    with pytest.raises(InputError, match="the Hub has no repository tester/nothing"):
        Adapter.from_pretrained("tester/nothing")
