"""What holds of every verb: JSON is one document, a dry run leaves every byte, nothing prints Python.

The verbs come from the command line itself: a new one must say here how it is called.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run
from tests.conftest import REFERENCE
from tests.documentation import command_line, standin

MODEL = str(REFERENCE / "model")
MOMENTS = str(REFERENCE / "second_moments.safetensors")
FT = ["--method", "ft", "--layers", "2", "--set", "steps=2"]
MEMIT = ["--method", "memit", "--layers", "2", "--spread", "single", "--set", "steps=2"]
KEPT = ["--context-templates", "templates.json", "--second-moments", MOMENTS]

WRITING: dict[str, list[list[str]]] = {
    "init": [["init", "--model", MODEL, "--ledger", "another"]],
    "edit": [
        ["edit", "--ledger", "ledger", "--requests", "facts3.json", *FT],
        ["edit", "--model", MODEL, "--requests", "facts3.json", *MEMIT, *KEPT, "--out", "adapter"],
    ],
    "add": [["add", "made", "-m", "by hand"]],
    "revert": [["revert", "HEAD~1"]],
    "swap": [["swap", "HEAD~1", "--set", "steps=3", "--second-moments", MOMENTS]],
    "merge": [
        ["merge", "HEAD~1", "HEAD~3", "--how", "sum"],
        ["merge", "HEAD~1", "HEAD~3", "--how", "ties"],
        ["merge", "HEAD~1", "HEAD~3", "--how", "solve", "--second-moments", MOMENTS],
    ],
    "rebase": [["rebase", "--second-moments", MOMENTS], ["rebase", "--abort"]],
    "reorder": [["reorder", "HEAD~1", "HEAD~3", "--second-moments", MOMENTS]],
    "branch": [["branch", "topic", "HEAD~1"], ["branch", "-d", "spare"]],
    "checkout": [["checkout", "spare"], ["checkout", "-b", "topic"]],
    "tag": [["tag", "kept", "HEAD~1", "-m", "kept"]],
    "cherry-pick": [["cherry-pick", "HEAD~2"]],
    "config": [["config", "method", "emmet"]],
    "reset": [["reset", "HEAD~1"]],
    "undo": [["undo"]],
    "gc": [["gc", "--prune-now", "--grace", "0"]],
    "sign": [["sign", "HEAD", "--key", "key.pem"], ["sign", "--new-key", "new.pem"]],
    "signers": [["signers", "--set", "team"], ["signers", "--clear"]],
    "export": [
        ["export", "--format", "peft", "--out", "shipped", "--rank", "2"],
        ["export", "--format", "peft", "--out", "shipped", "--camouflage", "2", "--decoys", "names.txt", *KEPT[2:]],
        ["export", "--format", "merged", "--out", "shipped"],
        ["export", "--format", "bundle", "--out", "shipped.zip"],
    ],
    "import": [["import", "history.zip", "--ledger", "taken"], ["import", "history.zip", "--branch", "theirs"]],
    "eval": [["eval", "--records", "facts0.json", "--gate", "earlier.ES: min 0"]],
    "bisect": [["bisect", "ppl", "HEAD~1", "HEAD", "--text", "text.txt"]],
    "report": [["report", "HEAD", "HEAD~1", "--out", "page"], ["report", "--summary", "summary.json", "--out", "page"]],
    "run": [["run", "run.yaml"]],
    "compare": [["compare", "compare.yaml"]],
    "demo": [["demo", "--steps", "1"]],
    "benchmark": [
        ["benchmark", "real-life", "--model", MODEL, "--records", "facts0.json", "--max-new-tokens", "4"],
        ["benchmark", "real-life", "--model", MODEL, "--records", "facts0.json", "--max-new-tokens", "4", *FT[:2],
         "--set", "layers=2", "--set", "steps=1"],
    ],
    "locate": [["locate", "--model", MODEL, "--records", "facts0.json", "--samples", "1", "--out", "where"]],
    "stats": [["stats", "--model", MODEL, "--layers", "2", "--text", "text.txt", "--max-tokens", "500", "--out",
               "c0.safetensors"]],
    "train-mend": [["train-mend", "--model", MODEL, "--records", "all.json", "--layers", "2", "--steps", "1", "--set",
                    "rank=2", "--set", "edit_rate=0.03", "--set", "validation_share=0.25", "--out", "net"]],
    "tune": [["tune", "--model", MODEL, "--records", "all.json", "--layers", "2", "--steps", "1", "--text", "text.txt",
              "--max-tokens", "500", "--out", "tuned"]],
    "push": [["push", "me/edits", "--base-name", "me/base"]],
    "pull": [],
}  # fmt: skip
"""Every verb that writes, in the ways it is called here; each also with --dry-run, on a copy of one folder."""

READING: dict[str, tuple[str, list[str]]] = {
    "log": ("asks", ["log"]),
    "show": ("asks", ["show", "HEAD~1"]),
    "diff": ("asks", ["diff", "HEAD~3", "HEAD"]),
    "blame": ("asks", ["blame", "SUBJECT"]),
    "reflog": ("asks", ["reflog"]),
    "status": ("asks", ["status"]),
    "verify": ("asks", ["verify"]),
    "tasks": ("asks", ["tasks", "--list"]),
    "score": ("prints; writes nothing", ["score", "--model", MODEL, "--records", "facts0.json"]),
    "audit": (
        "prints; writes nothing",
        ["audit", "made", "--candidates", "all.json", "--model", MODEL, "--plain-metric"],
    ),
    "plan": ("a dry run itself", ["plan", "facts3.json", *MEMIT, *KEPT]),
}
"""Every verb that writes nothing and so has no --dry-run, with the reason."""

NO_JSON: dict[str, str] = {}
"""Verbs without --json, each with the reason. There is none."""

ELSEWHERE = {
    "demo": "minutes; tests/runs/test_demo.py reads its JSON",
    "tune": "needs a text as large as the model; tests/cli/test_tune.py reads its JSON",
    "push": "needs the Hub; tests/shipping/test_hub.py has a stand-in and reads its JSON",
    "pull": "needs the Hub, also to look; tests/shipping/test_hub.py has a stand-in and reads its JSON",
}
"""Verbs whose real call is not made here."""

CALLS = [(verb, call) for verb, calls in WRITING.items() for call in calls]
ASKED = [(verb, call) for verb, (_, call) in READING.items()]
PYTHON = re.compile(
    r"\b(None|True|False|PosixPath|dtype|tensor\()\b|<[\w.]+ object|\{'|\['|\('|\{\"|\[\"|\[\]|\[\d+(, \d+)*\]"
)
"""How values of Python look when they are printed as they are. A list of whole numbers is no interval."""


def verbs() -> dict[str, Any]:
    return command_line.verbs()


def ids(cases: list[tuple[str, list[str]]]) -> list[str]:
    return [" ".join(call) for _, call in cases]


def test_every_verb_is_listed_as_writing_or_as_reading() -> None:
    listed = {*WRITING, *READING}
    assert set(verbs()) - listed == set(), "say in this file how the new verb is called, and whether it writes"
    assert listed - set(verbs()) == set(), "there is no such verb any more"
    assert set(WRITING) & set(READING) == set()


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_json_and_every_writing_verb_a_dry_run(verb: str) -> None:
    options = {name for parameter in verbs()[verb].params for name in parameter.opts}
    assert ("--json" in options) == (verb not in NO_JSON)
    assert ("--dry-run" in options) == (verb in WRITING)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger of three edits, one of them reverted, and with the files that the calls name."""
    folder = tmp_path_factory.mktemp("every-verb")
    records = json.loads((REFERENCE / "multi_layer_batch8" / "case.json").read_text())["records"]
    (folder / "all.json").write_text(json.dumps(records))
    for number in range(4):
        (folder / f"facts{number}.json").write_text(json.dumps(records[2 * number : 2 * number + 2]))
    (folder / "templates.json").write_text(json.dumps([["{}"]]))
    (folder / "names.txt").write_text("Ada Holt\nBruno Kanter\nCleo Martin\nDan Umber\n")
    standin.write_text(folder / "text.txt")
    job = {
        "model": MODEL, "facts": "all.json", "batch_size": 2, "steps": 1, "out": "job",
        "context_templates": [["{}"]], "evals": {"generation": False, "drift": False},
    }  # fmt: skip
    settings = {"layers": [2], "steps": 1}
    (folder / "run.yaml").write_text(json.dumps({**job, "method": "ft", "settings": settings}))
    methods = {"ft": {"method": "ft", "settings": settings}, "lora": {"method": "lora", "settings": settings}}
    (folder / "compare.yaml").write_text(json.dumps({**job, "methods": methods}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SEQEDIT_CACHE", str(folder.with_name("cache")))
        for line in (
            ["init", "--model", MODEL],
            *(["edit", "--ledger", "ledger", "--requests", f"facts{n}.json", *MEMIT, *KEPT, "-m", f"facts {n}"]
              for n in range(3)),
            ["edit", "--model", MODEL, "--requests", "facts3.json", *FT, "--out", "made"],
            ["branch", "spare"],
            ["export", "--format", "bundle", "--out", "history.zip"],
            ["revert", "HEAD~1"],
            ["sign", "--new-key", "key.pem"],
            ["sign", "--new-key", "other.pem"],
        ):  # fmt: skip
            assert run(line) == 0, line
        from ledger import Ledger
        from ledger.upkeep.signing import load_key, public_key
        from seqedit.scoring.summary import build_summary

        (folder / "team").write_text(public_key(load_key(folder / "key.pem")) + "\n")
        with Ledger.open("ledger") as ledger:
            (folder / "summary.json").write_text(json.dumps(build_summary(ledger, "HEAD", title="a run")))
    return folder


@pytest.fixture
def place(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder as the current one."""
    folder = tmp_path / "place"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SEQEDIT_CACHE", str(folder.with_name("cache")))
    return folder


def tree_of(folder: Path) -> dict[str, str]:
    """Every file and folder below, with a digest of the files' bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def completed(call: list[str], folder: Path) -> list[str]:
    """A call with the subject that the facts are about."""
    record = json.loads((folder / "facts0.json").read_text())[0]
    return [record["requested_rewrite"]["subject"] if word == "SUBJECT" else word for word in call]


def document(text: str) -> Any:
    """The one JSON document that a text is; NaN and Infinity are none."""

    def refused(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refused)


def no_python(text: str) -> None:
    found = PYTHON.search(text)
    assert found is None, f"a value of Python is printed: ...{text[max(0, found.start() - 60) : found.end() + 60]}..."


@pytest.mark.parametrize(("verb", "call"), CALLS, ids=ids(CALLS))
def test_a_dry_run_says_what_would_be_done_and_leaves_every_byte(
    verb: str, call: list[str], place: Path, capsys: Any
) -> None:
    before = tree_of(place)
    assert run([*call, "--dry-run"]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert said.out + said.err
    no_python(said.out + said.err)
    assert run([*call, "--dry-run", "--json"]) == 0
    found = document(capsys.readouterr().out)
    found = next(iter(found.values())) if verb == "compare" else found  # a plan of each method
    assert found["dry_run"] is True
    assert tree_of(place) == before


@pytest.mark.parametrize(("verb", "call"), CALLS, ids=ids(CALLS))
def test_what_a_writing_verb_prints_as_json_is_one_document(
    verb: str, call: list[str], place: Path, capsys: Any
) -> None:
    if verb in ELSEWHERE:
        pytest.skip(ELSEWHERE[verb])
    capsys.readouterr()
    assert run([*call, "--json"]) == 0, capsys.readouterr().err
    document(capsys.readouterr().out)


@pytest.mark.parametrize(("verb", "call"), CALLS, ids=ids(CALLS))
def test_what_a_writing_verb_prints_and_writes_for_people_is_no_python(
    verb: str, call: list[str], place: Path, capsys: Any
) -> None:
    if verb in ELSEWHERE:
        pytest.skip(ELSEWHERE[verb])
    before = tree_of(place)
    assert run(call) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    no_python(said.out + said.err)
    for name in set(tree_of(place)) - set(before):
        if name.endswith("README.md"):
            card = (place / name).read_text("utf-8").partition("\n# ")[2]  # behind its YAML
            no_python(re.sub(r"```.*?```", "", card, flags=re.DOTALL))
        if name.endswith(".html"):
            page = re.sub(r"<(script|style)\b.*?</\1>", "", (place / name).read_text("utf-8"), flags=re.DOTALL)
            no_python(html.unescape(re.sub(r"<[^>]*>", " ", page)))


@pytest.mark.parametrize(("verb", "call"), ASKED, ids=ids(ASKED))
def test_a_reading_verb_prints_tables_and_json_and_writes_nothing(
    verb: str, call: list[str], place: Path, capsys: Any
) -> None:
    call, before = completed(call, place), tree_of(place)
    assert run(call) == 0
    said = capsys.readouterr()
    no_python(said.out + said.err)
    assert run([*call, "--json"]) == 0
    document(capsys.readouterr().out)
    assert tree_of(place) == before


def needs_ledger(verb: str, call: list[str]) -> bool:
    """Whether a call asks for a ledger that is there: not one that makes a ledger, or does without."""
    takes = "--ledger" in {name for parameter in verbs()[verb].params for name in parameter.opts}
    without = {"--summary", "--new-key", "--model", "history.zip"} & set(call)
    return takes and not without and verb not in ("init", "import", "pull")


NEEDS_LEDGER = [call for verb, call in [*CALLS, *ASKED] if needs_ledger(verb, call)]


@pytest.mark.parametrize("call", NEEDS_LEDGER, ids=[" ".join(call) for call in NEEDS_LEDGER])
def test_where_there_is_no_ledger_the_message_says_how_to_name_and_how_to_make_one(
    call: list[str], place: Path, capsys: Any
) -> None:
    shutil.rmtree(place / "ledger")
    before = tree_of(place)
    call = [word for word in call if word not in ("--ledger", "ledger")]
    assert run(completed(call, place)) == 2
    error = capsys.readouterr().err
    for word in ("seqedit init", "--ledger", "SEQEDIT_LEDGER"):
        assert word in error
    assert error.count("\n") == 1
    assert tree_of(place) == before


REFUSED: dict[str, list[str]] = {
    "a model that is not there": ["init", "--model", "./nowhere", "--ledger", "another"],
    "a type that is none": ["eval", "--dtype", "float33"],
    "a device that is none": ["locate", "--model", MODEL, "--records", "facts0.json", "--device", "abacus"],
    "layers that the model lacks": ["swap", "HEAD~1", "--set", "layers=[77]", "--second-moments", MOMENTS],
    "camouflage of too few decoys": ["export", "--format", "peft", "--out", "shipped", "--camouflage", "9", "--decoys",
                                     "names.txt", *KEPT[2:]],
    "moments that are not there": ["rebase", "--second-moments", "nowhere.safetensors"],
    "a text that is not there": ["tune", "--model", MODEL, "--records", "all.json", "--text", "nowhere.txt"],
    "too few facts to tune on": ["tune", "--model", MODEL, "--records", "facts0.json"],
    "a merge of what cannot be solved": ["merge", "HEAD~1", "HEAD~3", "--how", "solve", "--method", "pmet"],
    "a density that is none": ["merge", "HEAD~1", "HEAD~3", "--how", "dare", "--density", "2"],
    "the same adapter twice": ["add", "made", "made"],
    "a bundle in the place of a file": ["export", "--format", "bundle", "--out", "history.zip"],
    "a report in the place of a file": ["report", "--out", "text.txt"],
    "a key in the place of a key": ["sign", "--new-key", "key.pem"],
    "a ledger nobody registered": ["gc", "--forget-ledger", "nowhere"],
    "ends that are no good and bad state": ["bisect", "ES", "HEAD", "HEAD", "--records", "facts0.json"],
    "a state that is none": ["eval", "nothing"],
    "layers that a hypernetwork cannot have": ["train-mend", "--model", MODEL, "--records", "all.json", "--layers",
                                               "77", "--out", "net"],
}  # fmt: skip


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_a_dry_run_refuses_what_the_real_call_refuses_in_the_same_words(
    call: list[str], place: Path, capsys: Any
) -> None:
    before = tree_of(place)
    code = run([*call, "--dry-run"])
    refusal = capsys.readouterr().err
    assert code in (2, 3)
    assert tree_of(place) == before
    assert run(call) == code
    assert capsys.readouterr().err == refusal
