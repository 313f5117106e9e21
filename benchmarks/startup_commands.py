"""Command lines whose start is measured and tested: what asks about a history, and every slip that is to end at once.

They are run in a folder that `make_world` fills: a ledger with branches ``main`` and ``other``, and files right and
wrong.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seqedit.cli.verbs import MODULES

LEDGER = Path(__file__).parents[1] / "tests" / "data" / "ledgers" / "format-1-schema-3"

READING: Mapping[str, Sequence[str]] = {
    "log": ["log", "--json"],
    "show": ["show", "HEAD"],
    "diff": ["diff", "HEAD~2", "HEAD"],
    "diff json": ["diff", "other", "main", "--json"],
    "blame": ["blame", "Elsewhere", "--all"],
    "branch": ["branch"],
    "branch made": ["branch", "more", "HEAD~1"],
    "reflog": ["reflog", "-n", "3"],
    "status": ["status"],
    "log of all": ["log", "--graph", "--all", "-p"],
    "tags": ["tag"],
    "configuration": ["config"],
    "checkout": ["checkout", "more", "--dry-run"],
    "reset": ["reset", "HEAD~1", "--dry-run"],
    "undo": ["undo", "--dry-run"],
    "revert": ["revert", "HEAD", "--dry-run"],
    "signers": ["signers"],
    "tasks": ["tasks", "--list"],
    "help": ["--help"],
    "version": ["--version"],
    **{f"help of {verb}": [verb, "--help"] for verb in MODULES},
}
"""What is asked -> its arguments."""

EDIT = [
    "edit",
    "--requests",
    "facts.jsonl",
    "--method",
    "emmet",
    "--model",
    "demo-llama",
    "--layers",
    "1",
    "--out",
    "o",
]
FACTS = "facts.jsonl"


def _with(arguments: Sequence[str], **changed: str) -> list[str]:
    """Arguments with some options' values replaced."""
    found = list(arguments)
    for name, value in changed.items():
        found[found.index("--" + name.replace("_", "-")) + 1] = value
    return found


SCORE = ["score", "--model", "demo-llama", "--records", FACTS]
LOCATE = ["locate", "--model", "demo-llama", "--records", FACTS]
MEND = ["train-mend", "--model", "demo-llama", "--records", FACTS, "--layers", "1", "--out", "o"]
PLAN = ["plan", FACTS, "--method", "emmet"]
TUNE = ["tune", "--model", "demo-llama", "--records", FACTS, "--method", "emmet"]
BENCHMARK = ["benchmark", "mquake", "--model", "demo-llama", "--records", "demo:mquake.json"]

SLIPS: Mapping[str, tuple[Sequence[str], str]] = {
    "verb": (["lgo"], "unknown verb 'lgo'; did you mean 'log'?"),
    **{f"{verb}: option": ([verb, "--jsn"], "no such option: --jsn; did you mean '--json'?") for verb in MODULES},
    # Revisions and branches.
    "log: revision": (["log", "mian"], "no entry or branch 'mian'; see log for the entries; did you mean 'main'?"),
    "log: HEAD": (["log", "HAED~1"], "did you mean 'HEAD'?"),
    "log: ledger": (["log", "--ledger", "nowhere"], "nowhere"),
    "show: revision": (["show", "ohter"], "did you mean 'other'?"),
    "diff: revision": (["diff", "mian"], "did you mean 'main'?"),
    "blame: revision": (["blame", "Rome", "--rev", "mian"], "did you mean 'main'?"),
    "branch: revision": (["branch", "new", "mian"], "did you mean 'main'?"),
    "branch: delete": (["branch", "-d", "ohter"], "); did you mean 'other'?"),
    "checkout: branch": (["checkout", "ohter"], "); did you mean 'other'?"),
    "reset: revision": (["reset", "mian"], "did you mean 'main'?"),
    "reset: branch": (["reset", "HEAD", "--branch", "mian"], "did you mean 'main'?"),
    "undo: branch": (["undo", "mian"], "did you mean 'main'?"),
    "reflog: branch": (["reflog", "mian"], "did you mean 'main'?"),
    "revert: revision": (["revert", "mian"], "did you mean 'main'?"),
    "swap: revision": (["swap", "mian"], "did you mean 'main'?"),
    "swap: method": (["swap", "HEAD", "--method", "memmit"], "did you mean 'memit'?"),
    "swap: preset": (["swap", "HEAD", "--method", "emmet", "--preset", "gpt2-xxl"], "did you mean 'gpt2-xl'?"),
    "merge: revision": (["merge", "HEAD", "mian"], "did you mean 'main'?"),
    "merge: how": (["merge", "HEAD", "HEAD~1", "--how", "slove"], "did you mean 'solve'?"),
    "merge: method": (["merge", "HEAD", "HEAD~2", "--how", "solve", "--method", "emet"], "did you mean 'emmet'?"),
    "rebase: revision": (["rebase", "ohter"], "did you mean 'other'?"),
    "reorder: revision": (["reorder", "mian"], "did you mean 'main'?"),
    "bisect: revision": (["bisect", "cola.mcc", "mian"], "did you mean 'main'?"),
    "bisect: metric": (["bisect", "ESS"], "did you mean 'ES'?"),
    "bisect: task": (["bisect", "colla.mcc", "--task", "colla"], "did you mean 'cola'?"),
    "bisect: file": (["bisect", "cola.mcc", "--task", "cola=no.jsonl"], "no.jsonl"),
    "bisect: model": (["bisect", "cola.mcc", "--model", "demo-lama"], "did you mean 'demo-llama'?"),
    "eval: revision": (["eval", "mian"], "did you mean 'main'?"),
    "eval: task": (["eval", "--task", "colla"], "did you mean 'cola'?"),
    "eval: file of a task": (["eval", "--task", "cola=no.jsonl"], "no.jsonl"),
    "eval: gate": (["eval", "--gate", "cola.mcc: max_dorp 0.05"], "did you mean 'max_drop'?"),
    "eval: metric": (["eval", "--gate", "earlier.ESS: min 3"], "did you mean 'ES'?"),
    "eval: records": (["eval", "--records", "no.json"], "no such file: 'no.json'"),
    "eval: zsre": (["eval", "--records", FACTS, "--zsre", "memitt"], "did you mean 'memit'?"),
    "export: format": (["export", "--format", "pefd", "--out", "o"], "did you mean 'peft'?"),
    "export: revision": (["export", "mian", "--format", "peft", "--out", "o"], "did you mean 'main'?"),
    "export: records": (["export", "--format", "peft", "--rank", "1", "--records", "no.json", "--out", "o"], "no.json"),
    "export: decoys": (
        ["export", "--format", "peft", "--camouflage", "1", "--decoys", "no.txt", "--out", "o"],
        "no.txt",
    ),
    "import: file": (["import", "no.zip"], "no.zip"),
    "push: revision": (["push", "me/edits", "mian"], "did you mean 'main'?"),
    "push: repository": (["push", "me/my/edits"], "me/my/edits"),
    "pull: repository": (["pull", "me/my/edits"], "me/my/edits"),
    "report: revision": (["report", "mian"], "did you mean 'main'?"),
    "report: summary": (["report", "--summary", "broken.json"], "broken.json: not readable as JSON"),
    "report: comparison": (["report", "--comparison", "no.json"], "no.json"),
    "sign: revision": (["sign", "mian", "--key", "no.pem"], "no.pem"),
    "signers: file": (["signers", "--set", "no-file"], "no-file"),
    "verify: signers": (["verify", "--signers", "no-file"], "no-file"),
    "gc: number": (["gc", "--keep-days", "x"], "'--keep-days'"),
    # What edits.
    "init: model": (["init", "--model", "demo-lama", "--ledger", "new"], "did you mean 'demo-llama'?"),
    "init: directory": (["init", "--model", "./no-model", "--ledger", "new"], "no model directory"),
    "init: dtype": (
        ["init", "--model", "demo-llama", "--ledger", "new", "--dtype", "flot32"],
        "did you mean 'float32'?",
    ),
    "init: device": (["init", "--model", "demo-llama", "--ledger", "new", "--device", "cdua"], "did you mean 'cuda'?"),
    "add: directory": (["add", "no-adapter"], "no-adapter"),
    "edit: method": (_with(EDIT, method="memmit"), "did you mean 'memit'?"),
    "edit: preset": ([*EDIT, "--preset", "gpt2xl"], "did you mean 'gpt2-xl'?"),
    "edit: preset file": ([*EDIT, "--preset", "no.yaml"], "no.yaml"),
    "edit: hparams": ([*EDIT, "--hparams", "broken.json"], "broken.json: not readable as JSON"),
    "edit: hparams field": ([*EDIT, "--hparams", "hparams.yaml"], "did you mean 'v_lr'?"),
    "edit: setting": ([*EDIT, "--set", "shrinkge=1"], "did you mean 'shrinkage'?"),
    "edit: spread": ([*EDIT, "--spread", "evn"], "did you mean 'even'?"),
    "edit: model": (_with(EDIT, model="demo-lama"), "did you mean 'demo-llama'?"),
    "edit: demo model": (_with(EDIT, model="demo-bert"), "shipped: demo-gpt2, demo-llama"),
    "edit: requests": (_with(EDIT, requests="no.json"), "no such file: 'no.json'"),
    "edit: demo file": (_with(EDIT, requests="demo:counterfct.json"), "did you mean 'counterfact.json'?"),
    "edit: JSON": (_with(EDIT, requests="broken.json"), "broken.json"),
    "edit: fact": (_with(EDIT, requests="wrong.jsonl"), "wrong.jsonl"),
    "edit: templates": ([*EDIT, "--context-templates", "broken.json"], "broken.json"),
    "edit: moments": ([*EDIT, "--second-moments", "no.safetensors"], "no.safetensors"),
    "edit: text": ([*EDIT, "--text", "no.txt"], "no such text file: no.txt"),
    "edit: ledger": ([*EDIT[:-2][:5], "--ledger", "nowhere"], "nowhere"),
    "plan: method": (_with(PLAN, method="emet"), "did you mean 'emmet'?"),
    "plan: order": ([*PLAN, "--order", "clusterd"], "did you mean 'clustered'?"),
    "plan: facts": (["plan", "no.json", "--method", "emmet"], "no such file: 'no.json'"),
    "plan: ledger": ([*PLAN, "--ledger", "nowhere"], "nowhere"),
    "locate: model": (_with(LOCATE, model="demo-lama"), "did you mean 'demo-llama'?"),
    "locate: records": (_with(LOCATE, records="no.json"), "no such file"),
    "locate: samples": ([*LOCATE, "--samples", "0"], "samples"),
    "train-mend: model": (_with(MEND, model="demo-lama"), "did you mean 'demo-llama'?"),
    "train-mend: setting": ([*MEND, "--set", "rnk=2"], "did you mean 'rank'?"),
    "train-mend: records": (_with(MEND, records="wrong.jsonl"), "wrong.jsonl"),
    "tune: method": (_with(TUNE, method="emet"), "did you mean 'emmet'?"),
    "tune: model": (_with(TUNE, model="demo-lama"), "did you mean 'demo-llama'?"),
    "tune: text": ([*TUNE, "--text", "no.txt"], "no such text file"),
    "stats: model": (["stats", "--model", "demo-lama"], "did you mean 'demo-llama'?"),
    "stats: text": (["stats", "--model", "demo-llama", "--text", "no.txt"], "no such text file"),
    "stats: layers": (["stats", "--model", "demo-llama", "--layers", "a"], "layers"),
    "mend: hypernetwork": (
        _with([*EDIT, "--set", "hypernetwork=demo-lama"], method="mend"),
        "did you mean 'demo-llama'?",
    ),
    # What measures.
    "score: model": (_with(SCORE, model="demo-lama"), "did you mean 'demo-llama'?"),
    "score: records": (_with(SCORE, records="no.json"), "no such file"),
    "score: adapter": ([*SCORE, "--adapter", "no-adapter"], "no-adapter"),
    "benchmark: name": (["benchmark", "mqake", *BENCHMARK[2:]], "did you mean 'mquake'?"),
    "benchmark: model": (_with(BENCHMARK, model="demo-lama"), "did you mean 'demo-llama'?"),
    "benchmark: method": ([*BENCHMARK, "--method", "emet"], "did you mean 'emmet'?"),
    "benchmark: records": (_with(BENCHMARK, records="demo:mqake.json"), "did you mean 'mquake.json'?"),
    "benchmark: template": ([*BENCHMARK, "--template", "question-onyl"], "question-onyl"),
    "demo: model": (["demo", "--model", "demo-lama"], "did you mean 'demo-llama'?"),
    "demo: steps": (["demo", "--steps", "0"], "--steps"),
    "run: file": (["run", "no.yaml"], "no.yaml"),
    "run: YAML": (["run", "broken.yaml"], "broken.yaml: malformed"),
    "run: option's value": (["run", "run.yaml", "--log-to", "tensorbord"], "did you mean 'tensorboard'?"),
    "compare: file": (["compare", "no.yaml"], "no.yaml"),
}
"""What is mistyped -> the arguments, and what the one line says."""

RUN: Mapping[str, Any] = {
    "model": "demo-llama",
    "facts": FACTS,
    "method": "emmet",
    "preset": "demo-llama",
    "out": "out",
}
RUN_SLIPS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "field": ({"batchsize": 3}, "did you mean 'batch_size'?"),
    "model": ({"model": "demo-lama"}, "did you mean 'demo-llama'?"),
    "facts": ({"facts": "no.json"}, "no such file"),
    "fact": ({"facts": "wrong.jsonl"}, "wrong.jsonl"),
    "method": ({"method": "memmit"}, "did you mean 'memit'?"),
    "preset": ({"preset": "demo-lama"}, "did you mean 'demo-llama'?"),
    "setting": ({"settings": {"shrinkge": 1}}, "did you mean 'shrinkage'?"),
    "evals": ({"evals": {"genration": False}}, "did you mean 'generation'?"),
    "moments": ({"second_moments": {"txt": "a"}}, "did you mean 'text'?"),
    "task": ({"tasks": ["colla"]}, "did you mean 'cola'?"),
    "task's file": ({"tasks": {"cola": "no.jsonl"}}, "no.jsonl"),
    "gate": ({"gates": ["ESS: min 90"]}, "did you mean 'ES'?"),
    "gate's kind": ({"gates": [{"metric": "ES", "mim": 90}]}, "did you mean 'min'?"),
    "on_gate": ({"on_gate": "revrt"}, "did you mean 'revert'?"),
    "on_gate's field": ({"on_gate": {"actoin": "stop"}}, "did you mean 'action'?"),
    "order": ({"order": "clusterd"}, "did you mean 'clustered'?"),
    "zsre": ({"zsre": "memitt"}, "did you mean 'memit'?"),
    "dtype": ({"dtype": "flot32"}, "did you mean 'float32'?"),
    "device": ({"device": "cdua"}, "did you mean 'cuda'?"),
    "convention": ({"evals": {"generation_convention": "publishd"}}, "did you mean 'published'?"),
}
"""What is mistyped in a run's file -> fields that are changed, and what the one line says."""

COMPARE = {name: value for name, value in RUN.items() if name not in ("method", "preset")}
COMPARE_SLIPS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "method": ({"methods": {"memmit": {}}}, "did you mean 'memit'?"),
    "field": ({"methods": {"memit": {"preste": "demo-llama"}}}, "did you mean 'preset'?"),
    "model": ({"model": "demo-lama", "methods": {"memit": {"preset": "demo-llama"}}}, "did you mean 'demo-llama'?"),
    "task": ({"tasks": ["colla"], "methods": {"memit": {"preset": "demo-llama"}}}, "did you mean 'cola'?"),
}


def make_world(place: Path) -> None:
    """Fill a folder with what the command lines name."""
    shutil.copytree(LEDGER, place / "ledger")
    (place / "facts.jsonl").write_text('{"subject": "A", "prompt": "{} is", "target_new": "b"}\n')
    (place / "wrong.jsonl").write_text('{"subject": "A", "prompt": "no place for it", "target_new": "b"}\n')
    (place / "broken.json").write_text('[{"subject": ')
    (place / "broken.yaml").write_text("model: [a\nfacts: b")
    (place / "hparams.yaml").write_text("v_lrr: 0.5\n")
    (place / "run.yaml").write_text(json.dumps(RUN))


def all_slips(place: Path) -> dict[str, tuple[Sequence[str], str]]:
    """Every slip, those in files of runs and comparisons included, whose files are written."""
    found = dict(SLIPS)
    for kind, base, slips in (("run", RUN, RUN_SLIPS), ("compare", COMPARE, COMPARE_SLIPS)):
        for number, (name, (changed, says)) in enumerate(slips.items()):
            (place / f"{kind}-{number}.yaml").write_text(json.dumps({**base, **changed}))
            found[f"{kind}: its {name}"] = ([kind, f"{kind}-{number}.yaml"], says)
    return found
