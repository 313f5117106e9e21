"""How every verb is called with every file that it takes, and which file of the call is damaged.

Verbs and options come from the command line itself (`test_every_file.py`): one that is in no table here fails there.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tests.damaged_files.place import FT, KEPT, MEMIT

NO_FILES = frozenset(
    [
        "abort",
        "add",
        "all_",
        "all_registered",
        "allow_older",
        "answers",
        "at_least",
        "author",
        "bad",
        "base_name",
        "batch_size",
        "below",
        "branch",
        "camouflage",
        "camouflage_seed",
        "camouflage_strength",
        "chat_template",
        "clear",
        "create",
        "danger",
        "delete",
        "density",
        "device",
        "drop",
        "dry_run",
        "dtype",
        "entries",
        "entry",
        "force",
        "format_",
        "gate",
        "good",
        "grace",
        "graph",
        "how",
        "join",
        "json_",
        "keep",
        "keep_days",
        "layers",
        "learning_rate",
        "limit",
        "list_",
        "log_to",
        "max_new_tokens",
        "max_tokens",
        "measure",
        "message",
        "method",
        "metric",
        "minutes",
        "name",
        "new",
        "new_files",
        "noise",
        "num_fewshot",
        "old",
        "on_gate",
        "onto",
        "order",
        "patch",
        "per_dimension",
        "plain_metric",
        "prune_now",
        "private",
        "prompts",
        "probe",
        "rank",
        "reason",
        "relation",
        "repository",
        "rev",
        "revision",
        "revs",
        "samples",
        "scores",
        "seed",
        "sequence_length",
        "shallow",
        "shuffle",
        "skip",
        "skip_unusable",
        "split",
        "spread",
        "steps",
        "strict",
        "subject",
        "task_documents",
        "template",
        "text_column",
        "title",
        "tokens",
        "top",
        "unset",
        "window",
        "zsre",
    ]
)
"""Options, and arguments by the name of their parameter, that name no file."""

NO_FILE_OF: dict[tuple[str, str], str] = {
    ("demo", "model"): "one of two names",
    ("demo", "resume"): "minutes; its job is a run's, which is tried with `run --resume`",
    ("demo", "out"): "minutes; the folder is a run's, which is tried with `run`",
    ("config", "key"): "the name of an option",
    ("edit", "set_"): "a field and its value",
    ("benchmark", "set_"): "a field and its value",
    ("merge", "set_"): "a field and its value",
    ("plan", "set_"): "a field and its value",
    ("swap", "set_"): "a field and its value",
    ("train-mend", "set_"): "a field and its value",
    ("rebase", "resume"): "goes on from the ledger, which is tried as --ledger",
    ("reorder", "resume"): "goes on from the ledger, which is tried as --ledger",
    ("push", "records"): "as for export; the Hub is not there",
    ("push", "ledger"): "as for export; the Hub is not there",
    ("push", "model"): "as for export; the Hub is not there",
    ("push", "signers"): "as for export; the Hub is not there",
    ("pull", "ledger"): "as for import; the Hub is not there",
    ("pull", "signers"): "as for import; the Hub is not there",
    ("pull", "objects"): "as for import; the Hub is not there",
}
"""Parameters of one verb that name none, or whose files another verb is tried with; each with the reason."""


@dataclass(frozen=True)
class Case:
    """A call, and the file of it that is damaged.

    Attributes:
        verb: The verb.
        parameter: The parameter that leads to the file.
        call: The words after ``seqedit``.
        file: What is damaged, relative to the folder; a pattern stands for the first that matches.
        place: Whether only the place itself is damaged: what is there is to be written, or is a folder.
    """

    verb: str
    parameter: str
    call: str
    file: str
    place: bool = False

    @property
    def words(self) -> list[str]:
        return shlex.split(self.call)

    @property
    def id(self) -> str:
        return f"{self.verb} {self.parameter} {self.file}: {self.call}"


HISTORY = "ledger/ledger.db", "ledger/objects/id"
OBJECT = "ledger/objects/??/*/"
OBJECTS = tuple(
    OBJECT + name
    for name in (
        "manifest.json",
        "adapter_config.json",
        "adapter_model.safetensors",
        "seqedit.json",
        "seqedit_values.safetensors",
    )
)
ADAPTER = tuple(name.rpartition("/")[2] for name in OBJECTS[1:])
LEDGERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "add": ("add made --ledger ledger", HISTORY),
    "bisect": ("bisect ppl HEAD~1 HEAD --text text.txt --ledger ledger", HISTORY + OBJECTS),
    "blame": ("blame Venxa --ledger ledger", HISTORY),
    "branch": ("branch topic --ledger ledger", HISTORY),
    "checkout": ("checkout spare --ledger ledger", HISTORY),
    "cherry-pick": ("cherry-pick spare --ledger ledger", HISTORY + OBJECTS),
    "config": ("config method emmet --ledger ledger", HISTORY),
    "diff": ("diff HEAD~1 HEAD --ledger ledger", HISTORY + OBJECTS),
    "edit": (f"edit more.json --ledger ledger {FT}", HISTORY + OBJECTS),
    "eval": ("eval --ledger ledger --records facts.json", HISTORY + OBJECTS),
    "export": ("export --format bundle --out new.zip --ledger ledger", HISTORY + OBJECTS),
    "gc": ("gc --ledger ledger --grace 0", HISTORY + OBJECTS),
    "import": ("import history.zip --ledger ledger --branch theirs", HISTORY),
    "init": ("init --model model --ledger ledger", HISTORY),
    "log": ("log --ledger ledger --patch", HISTORY),
    "merge": ("merge HEAD~1 HEAD --how sum --ledger ledger", HISTORY + OBJECTS),
    "plan": (f"plan more.json {MEMIT} {KEPT} --ledger ledger", HISTORY + OBJECTS),
    "rebase": ("rebase --ledger ledger --second-moments moments.safetensors", HISTORY + OBJECTS),
    "reflog": ("reflog --ledger ledger", HISTORY),
    "reorder": ("reorder HEAD~1 HEAD --ledger ledger", HISTORY + OBJECTS),
    "report": ("report --ledger ledger --out page", HISTORY + OBJECTS),
    "reset": ("reset HEAD~1 --ledger ledger", HISTORY),
    "revert": ("revert HEAD --ledger ledger", HISTORY),
    "score": ("score --records facts.json --model model --ledger ledger", HISTORY),
    "show": ("show HEAD --ledger ledger", HISTORY),
    "sign": ("sign HEAD --key other.pem --ledger ledger", HISTORY),
    "signers": ("signers --set team --ledger ledger", HISTORY),
    "status": ("status --ledger ledger", HISTORY),
    "swap": ("swap HEAD --set steps=2 --ledger ledger", HISTORY + OBJECTS),
    "tag": ("tag kept --ledger ledger", HISTORY),
    "undo": ("undo --ledger ledger", HISTORY),
    "verify": ("verify --ledger ledger", HISTORY + OBJECTS),
}
"""Every verb with a ledger, and which of its files are damaged."""

FACTS = ("facts.json", "plain.jsonl", "zsre.json", "easyedit.json", "facts.parquet", "saved/state.json",
         "saved/dataset_info.json", "saved/data-00000-of-00001.arrow")  # fmt: skip
SETTINGS = ("hparams.json", "easyedit.yaml")
TASKS = ("own.yaml", "said.yaml", "includes.yaml", "rows.jsonl", "cola=cola.jsonl", "glue=folder/cola.jsonl")
MODEL = ("model/generation_config.json",)
SIGNED = "signed.zip"


def _source(file: str) -> str:
    """What a call names for a file: the folder of one in a folder."""
    return file.partition("/")[0]


def _task(file: str) -> tuple[str, str]:
    """Option value of a task, and the file behind it; rows belong to a task file."""
    name, _, rows = file.rpartition("=")
    if name:
        return f"{name}={_source(rows)}", rows
    return ("own.yaml" if file == "rows.jsonl" else file), file


def _each(verb: str, parameter: str, call: str, files: tuple[str, ...], *, place: bool = False) -> list[Case]:
    return [Case(verb, parameter, call.replace("@", _source(file)), file, place) for file in files]


def _tasks(verb: str, call: str, files: tuple[str, ...] = TASKS) -> list[Case]:
    return [Case(verb, "task", call.replace("@", _task(file)[0]), _task(file)[1]) for file in files]


def cases() -> list[Case]:
    """All of them."""
    found: list[Case] = []
    for verb, (call, files) in LEDGERS.items():
        found += [Case(verb, "ledger", call, file) for file in files]
        found.append(Case(verb, "ledger", call, "ledger", place=True))
    for verb, call in {
        "edit": f"edit @ --model model {FT} --out new",
        "plan": f"plan @ --model model {MEMIT} {KEPT}",
        "locate": "locate --records @ --model model --samples 1 --out new",
        "score": "score --records @ --model model",
        "train-mend": "train-mend --records @ --model model --layers 2 --steps 1 --set validation_share=0.5 --out new",
        "tune": "tune --records @ --model model --text text.txt --out new --layers 1 --steps 1 --max-tokens 1000 "
        "--method emmet",
        "eval": "eval --records @ --ledger ledger",
        "bisect": "bisect ES HEAD~1 HEAD --records @ --ledger ledger",
        "export": "export --format peft --out new --rank 1 --records @ --ledger ledger",
    }.items():
        named = "facts" if verb == "edit" else "requests" if verb == "plan" else "records"
        found += _each(verb, named, call, FACTS)
    found += _each("edit", "requests", f"edit --requests @ --model model {FT} --out new", FACTS[:2])
    found += _each("edit", "records", f"edit more.json --ledger ledger {FT} --records @", FACTS[:2])
    call = "benchmark real-life --model model --records @ --max-new-tokens 2 --adapter made"
    found += _each("benchmark", "records", call, FACTS[:1])
    for name in ("mquake", "ripple"):
        call = f"benchmark {name} --model model --records @ --max-new-tokens 2 --adapter made"
        found += _each("benchmark", "records", call, (f"{name}.json",))
    asked = "benchmark mquake --model model --records mquake.json --max-new-tokens 2"
    found += _each("benchmark", "demonstrations", f"{asked} --adapter made --demonstrations @", ("shown.txt",))
    found += _each("benchmark", "adapter", f"{asked} --adapter @", tuple(f"made/{name}" for name in ADAPTER[:3]))
    found += _each("score", "adapter", "score --records facts.json --model model --adapter @",
                   tuple(f"solved/{name}" for name in ADAPTER))  # fmt: skip
    named = "audit solved --candidates names.txt --model model"
    found += _each("audit", "adapter", "audit @ --candidates names.txt --model model --plain-metric",
                   tuple(f"solved/{name}" for name in ADAPTER))  # fmt: skip
    found += _each("audit", "candidates", "audit solved --candidates @ --model model --plain-metric",
                   ("names.txt", *FACTS))  # fmt: skip
    found += _each("audit", "second_moments", f"{named} --second-moments @", ("moments.safetensors",))
    found += _each("audit", "text", f"{named} --text @", ("text.txt",))
    found += _each("audit", "before", f"{named} --plain-metric --before @", tuple(f"solved/{name}" for name in ADAPTER))
    hidden = "export solved --entry --format peft --out new --ledger ledger --camouflage 1"
    moments = "--second-moments moments.safetensors"
    found += _each("export", "decoys", f"{hidden} {moments} --decoys @", ("names.txt",))
    found += _each(
        "export", "second_moments", f"{hidden} --decoys names.txt --second-moments @", ("moments.safetensors",)
    )
    found += _each("export", "text", f"{hidden} --decoys names.txt --text @", ("text.txt",))
    found += _each("add", "adapters", "add @ --ledger ledger", tuple(f"solved/{name}" for name in ADAPTER))
    chosen = {
        "edit": f"edit more.json --ledger ledger {KEPT} --method memit",
        "plan": f"plan more.json --ledger ledger {KEPT} --method memit",
        "merge": "merge main~2 solved --how solve --method memit --ledger ledger --second-moments moments.safetensors",
        "swap": "swap HEAD --method memit --ledger ledger --second-moments moments.safetensors",
        "benchmark": f"{asked} --method memit --second-moments moments.safetensors",
    }
    for verb, call in chosen.items():
        found += _each(verb, "hparams", f"{call} --hparams @", SETTINGS)
        found += _each(verb, "preset", f"{call} --preset @", ("preset.yaml",))
        if verb != "merge":
            found.append(Case(verb, "preset", f"{call} --preset tuned/preset.yaml", "tuned/preset.yaml"))
    for verb, call in {
        "edit": f"edit more.json --ledger ledger {MEMIT} --context-templates templates.json",
        "plan": f"plan more.json --ledger ledger {MEMIT} --context-templates templates.json",
        "merge": f"merge main~2 solved --how solve {MEMIT} --ledger ledger".replace("--spread single ", ""),
        "swap": f"swap HEAD {MEMIT} --ledger ledger".replace("--spread single ", "--set spread=single "),
        "cherry-pick": "cherry-pick solved --how solve --ledger ledger",
        "rebase": "rebase --ledger ledger",
        "reorder": "reorder HEAD~2 HEAD~1 --ledger ledger",
        "benchmark": f"{asked} --method memit --set layers=2 --set steps=1 --set spread=single",
    }.items():
        found += _each(verb, "second_moments", f"{call} --second-moments @", ("moments.safetensors",))
        if verb != "benchmark":
            found += _each(verb, "text", f"{call} --text @", ("text.txt",))
    for verb in ("edit", "plan"):
        call = f"{verb} more.json --ledger ledger {MEMIT} --second-moments moments.safetensors --context-templates @"
        found += _each(verb, "context_templates", call, ("templates.json",))
    found += _each("edit", "drift_text", f"edit more.json --ledger ledger {FT} --drift-text @", ("text.txt",))
    found += _each("stats", "text", "stats --model model --layers 2 --text @ --max-tokens 400 --out new.safetensors",
                   ("text.txt", "text.jsonl", "text.parquet"))  # fmt: skip
    found += _each("eval", "text", "eval --ledger ledger --text @", ("text.txt",))
    found += _each("bisect", "text", "bisect ppl HEAD~1 HEAD --ledger ledger --text @", ("text.txt",))
    tuned = "tune --records eight.jsonl --model model --layers 1 --steps 1 --max-tokens 1000 --method emmet --out"
    found += _each("tune", "text", f"{tuned} new --text @", ("text.txt",))
    found += _each("diff", "probes", "diff HEAD~1 HEAD --ledger ledger --probes @ --tokens 1", ("probes.txt",))
    found += _tasks("eval", "eval --ledger ledger --task @")
    found += _tasks("edit", f"edit more.json --ledger ledger {FT} --task @", TASKS[:2])
    found += _tasks("tune", f"{tuned} new --text text.txt --task @", TASKS[:2])
    found += _tasks("bisect", "bisect own.acc HEAD~1 HEAD --ledger ledger --task @", TASKS[:1])
    few = "--task cola=cola.jsonl --num-fewshot 1 --fewshot cola=@"
    for verb, call in {
        "eval": "eval --ledger ledger",
        "edit": f"edit more.json --ledger ledger {FT}",
        "tune": f"{tuned} new --text text.txt",
        "bisect": "bisect cola.mcc HEAD~1 HEAD --ledger ledger",
    }.items():
        found += _each(verb, "fewshot", f"{call} {few}", ("cola-examples.jsonl",))
    for name, file in {"hparams": "hparams.json", "preset": "preset.yaml", "context-templates": "templates.json",
                       "second-moments": "moments.safetensors"}.items():  # fmt: skip
        found += _each("config", "values", f"config {name} @ --ledger ledger", (file,))
    found += _each("run", "config", "run @", ("run.yaml", "closed.yaml"))
    found += _each("compare", "config", "compare @", ("compare.yaml", "independent.yaml"))
    found += [Case("run", "resume", "run run.yaml --resume", file) for file in (
        "job/ledger/ledger.db", "job/summary.json", "facts.json", "cola.jsonl", "run.yaml")]  # fmt: skip
    found += [Case("compare", "resume", f"compare {config} --resume", file) for config, file in (
        ("compare.yaml", "compared/comparison.json"), ("compare.yaml", "compared/ledger/ledger.db"),
        ("independent.yaml", "apart/comparison.json"), ("independent.yaml", "apart/*/*.jsonl"))]  # fmt: skip
    trained = "train-mend --records eight.jsonl --model model --layers 2 --set rank=2 --set validation_share=0.25"
    found += [Case("train-mend", "resume", f"{trained} --steps 2 --out net --resume", f"net/{name}")
              for name in ("mend_config.json", "mend.safetensors")]  # fmt: skip
    found += _each("report", "summary", "report --summary @ --out page", ("summary.json",))
    compared = "compared/comparison.json"
    call = f"report --ledger compared/ledger --comparison {compared} --out page"
    found.append(Case("report", "comparison", call, compared))
    found += _each("import", "file", "import @ --ledger new", ("history.zip", SIGNED))
    found += _each("sign", "key", "sign HEAD --ledger ledger --key @", ("other.pem",))
    found += _each("signers", "set_", "signers --set @ --ledger ledger", ("team",))
    for verb, call in {
        "checkout": "checkout spare --ledger ledger",
        "export": "export --format bundle --out new.zip --ledger ledger",
        "import": f"import {SIGNED} --ledger new",
        "verify": "verify --ledger ledger",
    }.items():
        found += _each(verb, "signers", f"{call} --signers @", ("team",))
    return found + _models() + _places(trained, tuned)


def _models() -> list[Case]:
    calls = {
        "audit": "audit solved --candidates names.txt --model model --second-moments moments.safetensors",
        "benchmark": "benchmark mquake --model model --records mquake.json --max-new-tokens 2 --adapter made",
        "init": "init --model model --ledger new",
        "locate": "locate --records plain.jsonl --model model --samples 1 --out new",
        "stats": "stats --model model --layers 2 --text text.txt --max-tokens 400 --out new.safetensors",
        "train-mend": "train-mend --records eight.jsonl --model model --layers 2 --steps 1 --set "
        "validation_share=0.25 --out new",
        "score": "score --records facts.json --model model",
        "edit": f"edit more.json --model model {FT} --out new",
        "plan": f"plan more.json --model model {MEMIT} --second-moments moments.safetensors",
        "bisect": "bisect ppl HEAD~1 HEAD --text text.txt --ledger ledger --model model",
        "cherry-pick": "cherry-pick solved --how solve --second-moments moments.safetensors --ledger ledger "
        "--model model",
        "diff": "diff HEAD~1 HEAD --ledger ledger --probe Golf --tokens 2 --model model",
        "eval": "eval --ledger ledger --records facts.json --model model",
        "export": "export --format merged --out new --ledger ledger --model model",
        "merge": "merge main~2 solved --how solve --second-moments moments.safetensors --method emmet --ledger ledger "
        "--model model",
        "rebase": "rebase HEAD~1 --ledger ledger --second-moments moments.safetensors --model model",
        "reorder": "reorder HEAD~2 HEAD~1 --ledger ledger --second-moments moments.safetensors --model model",
        "swap": "swap HEAD --set steps=2 --ledger ledger --model model",
        "tune": "tune --records eight.jsonl --model model --layers 1 --steps 1 --max-tokens 1000 --method emmet "
        "--out new --text text.txt",
    }
    found = [Case(verb, "model", call, file) for verb, call in calls.items() for file in MODEL]
    return found + [Case(verb, "model", call, "model", place=True) for verb, call in calls.items()]


def _places(trained: str, tuned: str) -> list[Case]:
    """Calls that write to a place where something else stands already."""
    calls = {
        ("edit", "out"): (f"edit more.json --model model {FT} --out made", "made"),
        ("train-mend", "out"): (f"{trained} --steps 1 --out net", "net"),
        ("export", "out"): ("export --format peft --out made --ledger ledger", "made"),
        ("locate", "out"): ("locate --records eight.jsonl --model model --samples 1 --out made", "made"),
        ("report", "out"): ("report --ledger ledger --out job", "job"),
        ("stats", "out"): ("stats --model model --layers 2 --text text.txt --max-tokens 400 --out made", "made"),
        ("tune", "out"): (f"{tuned} tuned --text text.txt", "tuned"),
        ("init", "objects"): ("init --model model --ledger new --objects made", "made"),
        ("import", "objects"): ("import history.zip --ledger sqlite:///new.db --objects made", "made"),
        ("gc", "forget_ledger"): ("gc --ledger ledger --forget-ledger job/ledger", "job/ledger"),
        ("sign", "new_key"): ("sign --new-key key.pem", "key.pem"),
    }
    found = [Case(*key, call, file, place=True) for key, (call, file) in calls.items()]
    return found + [Case("tune", "out", f"{tuned} tuned --text text.txt", f"tuned/{name}")
                    for name in ("trials.json", "values/*.safetensors", "preset.yaml")]  # fmt: skip
