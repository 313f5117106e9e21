"""Pages say what is true: their commands and code run, every verb and option is told, links lead somewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seqedit.cli.main import run
from tests.documentation import command_line, standin
from tests.documentation.blocks import PAGES, ROOT, Block, all_blocks, blocks

BLOCKS = all_blocks()
COMMANDS = [(block, command) for block in BLOCKS if block.kind == "commands" for command in block.commands]

RUN = (
    "README.md: seqedit edit --model gpt2-xl --requests facts.jsonl --method",
    "docs/guide/ledger.md: seqedit init --model gpt2-xl --ledger my-ledger",
    'docs/guide/ledger.md: seqedit blame "Danielle Darrieux"',
    "docs/guide/ledger.md: seqedit gc --dry-run",
    "docs/guide/history.md: seqedit status",
    "docs/guide/ledger.md: seqedit sign --new-key key.pem > signers",
    "docs/guide/ledger.md: seqedit signers --set team-keys",
    "docs/guide/runs.md: seqedit eval REV --task cola=cola.jsonl --records facts.json",
    "docs/guide/shipping.md: seqedit export --format peft --out my-state",
)
"""Blocks whose commands run in `make test`, each on a ledger of its own, with stand-ins for model and facts."""

OVERVIEW = "README.md: seqedit branch experiment HEAD~1"
"""A list rather than a session: each line runs on a ledger of its own."""

FIRST_STEPS = (
    "README.md: export SEQEDIT_LEDGER=my-ledger",
    "README.md: cat > february.jsonl <<'END'",
    "README.md: seqedit log",
    "README.md: seqedit revert HEAD",
    'README.md: seqedit eval --gate "ES: min 90"',
)
"""A session: all of them run in this order in one empty folder, on the shipped model, as a new user copies them."""

MONTHS = (
    "docs/guide/months.md: export SEQEDIT_LEDGER=kept",
    "docs/guide/months.md: cat > 2032-01.jsonl <<'END'",
    "docs/guide/months.md: cat > 2032-02.jsonl <<'END'",
    'docs/guide/months.md: seqedit blame "Lena Brapiert"',
    "docs/guide/months.md: cat > 2032-04.jsonl <<'END'",
    "docs/guide/months.md: seqedit checkout -b correction",
    'docs/guide/months.md: seqedit merge HEAD~5 HEAD~3 HEAD --how sum -m "January, Marc',
)
"""Another session: three months of a ledger."""

RUN_SLOWLY = (
    "docs/guide/report.md: seqedit report [REV ...] --ledger LEDGER --out DIR",
    "docs/measured/beyond.md: seqedit benchmark mquake --model demo-llama --records demo:m",
    "docs/reference/methods.md: seqedit stats --model demo-llama --layers 0,1,2",
)
"""Those that take longer than `make test` should."""

NOT_RUN = {
    "docs/guide/languages.md: seqedit edit facts.json --model ./my-model --method memit --": "test_languages.py does",
    "docs/guide/config.md: seqedit config method emmet": "tests/cli/test_config.py sets and lists them",
    "docs/guide/config.md: seqedit edit 2032-04.jsonl -m April": "tests/cli/test_monthly_edit.py runs it",
    "docs/guide/config.md: seqedit edit 2032-04.jsonl -m April --task cola=cola.jsonl -":
        "tests/cli/test_monthly_edit.py runs it",
    "docs/guide/real.md: make real DATA=folder": "20 minutes, and the package registry; tests/benchmarks/test_real.py",
    "docs/guide/real.md: python -m benchmarks.real --study --data folder --out out/re": "hours",
    "docs/guide/shipping.md: seqedit audit my-edit --candidates names.txt --model gpt2-xl":
        "needs the Hub; tests/leakage, and tests/cli/test_every_verb.py runs the verb",
    "docs/guide/plan.md: seqedit plan FACTS --method memit --ledger my-ledger --batch":
        "a pattern; tests/cli/test_plan.py",
    "docs/guide/plan.md: python -m benchmarks.interference --weight 10 --batches 16 -":
        "minutes; tests/benchmarks/test_interference.py runs it quickly",
    "docs/guide/plan.md: python -m benchmarks.interference --ledger memit-unprotected":
        "the study's ledgers; tests/benchmarks/test_interference.py reads small ones",
    "docs/guide/tune.md: seqedit tune --model M --records FILE [--method emmet|memit|":
        "a pattern; tests/cli/test_tune.py",
    "docs/guide/python.md: from seqedit import Session": "README's; tests/library/test_session.py runs it",
    "README.md: python3 -m venv .venv": "the package registry; tests/test_extras.py reads it",
    "README.md: make demo": "a minute and more; tests/runs/test_demo.py runs the demo",
    "README.md: seqedit run examples/gpt2-xl-counterfact.yaml": "model, facts and text are on the Hub",
    "README.md: seqedit compare examples/demo-compare.yaml": "hours; tests/runs/test_compare.py runs smaller ones",
    "README.md: seqedit locate --model MODEL --records facts.jsonl --out tra":
        "a pattern; tests/cli/test_locate.py",
    "README.md: from peft import PeftModel": "a fragment; tests/adapters loads adapters with PEFT",
    "README.md: from seqedit import Session": "tests/library/test_session.py runs it on a demo model",
    "docs/contributing.md: make demo": "make runs these tests",
    "docs/index.md: make demo": "the commands of README once more",
    "docs/guide/lm-eval.md: seqedit export --format peft --out my-state":
        "runs lm_eval; tests/shipping/test_lm_eval.py does",
    'docs/guide/locate.md: python -c "import json; from seqedit.demo.location import de': "minutes; made a figure",
    "docs/guide/locate.md: seqedit locate --model gpt2-xl --records facts.json --out wh":
        "needs a model that knows facts; tests/cli/test_locate.py",
    "docs/guide/parallel.md: torchrun --standalone --nproc_per_node 2 -m seqedit run CONF":
        "tests/parallel runs torchrun",
    "docs/guide/parallel.md: accelerate launch --multi_gpu --num_processes 2 --num_machin": "needs two GPUs",
    "docs/guide/parallel.md: #!/bin/bash": "needs SLURM",
    "docs/guide/parallel.md: import sys": "needs a launcher; tests/parallel/test_split_scoring.py does the same",
    "docs/guide/report.md: seqedit run CONFIG.yaml --log-to tensorboard --log-to wandb:":
        "needs wandb and trackio; tests/runs/test_trackers.py has stand-ins",
    "docs/guide/runs.md: seqedit run CONFIG.yaml [--resume] [--new-files] [--dry-run]":
        "a pattern; tests/runs/test_run.py runs it",
    "docs/guide/shipping.md: model = PeftModel.from_pretrained(AutoModelForCausalLM.from_":
        "a fragment; tests/shipping/test_export.py loads exports with PEFT",
    "docs/guide/shipping.md: lm_eval --model hf --model_args pretrained=me/base-model,pef":
        "data of the Hub; tests/shipping/test_lm_eval.py runs it on local rows",
    "docs/measured/beyond.md: seqedit benchmark mquake --model MODEL --records MQuAKE-CF-3":
        "a pattern; the block further down runs",
    "docs/measured/beyond.md: seqedit benchmark real-life --model demo-llama --records dem":
        "minutes; the same command with 16 records runs",
    "docs/measured/comparison.md: seqedit compare CONFIG.yaml [--resume]":
        "a pattern; tests/runs/test_compare.py runs it",
    "docs/measured/comparison.md: seqedit train-mend --model demo-llama --records demo:counter":
        "an hour; tests/cli/test_train_mend.py trains a little",
    "docs/measured/performance.md: python -m benchmarks --only target_values,edit,score --json":
        "measures for minutes; tests/benchmarks runs the parts quickly",
    "docs/reference/methods.md: seqedit train-mend --model gpt2-xl --records facts.json --la":
        "hours; tests/cli/test_train_mend.py trains a little",
}  # fmt: skip
"""What cannot run here, and why. Blocks of YAML and JSON and those under docs/extending have tests of their own."""

MEANT = {
    # What the pages leave to the reader.
    "seqedit eval REV": ["seqedit eval HEAD"],
    "seqedit report [REV ...] --ledger LEDGER --out DIR": ["seqedit report --ledger ledger --out DIR"],
    "seqedit export 3f2a --entry": ["seqedit export HEAD --entry"],
}
"""What a line is a shorthand for, by how it begins."""

ELSEWHERE = ("seqedit push ", "seqedit pull ", "seqedit bisect ")
"""Lines of blocks that run which need the Hub (tests/shipping/test_hub.py has a stand-in of it), or a model that edits
damage (tests/session/test_bisect_demo.py)."""


def meant(command: str) -> list[str]:
    """The commands that a line stands for."""
    for short, full in MEANT.items():
        if command.startswith(short):
            return [*full[:-1], full[-1] + command.removeprefix(short)]
    return [command]


def code(block: Block) -> bool:
    return block.kind in ("commands", "python") and not block.page.startswith("docs/extending/")


def test_every_block_is_run_or_says_why_not() -> None:
    names = [block.name for block in BLOCKS if code(block)]
    listed = {*RUN, OVERVIEW, *FIRST_STEPS, *MONTHS, *RUN_SLOWLY, *NOT_RUN}
    assert set(names) - listed == set(), "list the new block where it belongs"
    assert listed - set(names) == set(), "no page has this block any more"


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=lambda value: getattr(value, "page", value))
def test_every_command_on_a_page_has_a_verb_and_options_that_exist(block: Block, command: str) -> None:
    for line in meant(command):
        words = shlex.split(re.sub(r"[\[\]]|\s[>|].*", "", line).replace("...", ""))
        if words[0] != "seqedit":
            continue
        verb = command_line.verbs().get(words[1])
        assert verb is not None, f"{block.page}: no verb '{words[1]}'"
        context = verb.make_context(words[1], [], resilient_parsing=True)
        _, left, _ = verb.make_parser(context).parse_args(words[2:])
        assert not left, f"{block.page}: {command}: what is {left}?"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the stand-ins and a ledger of five entries, with the branches that pages name."""
    folder = tmp_path_factory.mktemp("reader")
    standin.make(folder)
    with inside(folder):
        done("seqedit init --model gpt2-xl")
        for number in range(5):
            rows = standin.facts(10 * number)[number : number + 1]
            Path("batch.jsonl").write_text("\n".join(map(json.dumps, rows)))
            done(
                "seqedit edit --ledger ledger --requests batch.jsonl --method emmet --preset gpt2-xl --set steps=2 -m b"
            )
            if number in (0, 3):
                done(f"seqedit branch v{1 + number // 3}")
        done(
            "seqedit edit --model gpt2-xl --requests facts.jsonl --method ft --layers 17 --set steps=1 --out my-adapter"
        )
        done("seqedit sign --new-key other.pem > team-keys")
    return folder


@pytest.fixture
def reader(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the directory as the current one."""
    folder = tmp_path / "reader"
    shutil.copytree(template, folder)
    monkeypatch.chdir(folder)
    return folder


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


@pytest.fixture(autouse=True, scope="module")
def no_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A text file where WikiText of the Hub would be, and a cache of its own."""
    from seqedit.text import plain_text

    folder = tmp_path_factory.mktemp("text")
    standin.write_text(folder / "text.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_text, "DEFAULT", str(folder / "text.txt"))
        patch.setenv("SEQEDIT_CACHE", str(folder / "cache"))
        yield


def done(line: str) -> str:
    """What a typed line prints; a redirection is the shell's."""
    command, _, target = line.partition(" > ")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        result = run(shlex.split(command)[1:])
    assert result == 0, f"{line}: exit code {result}: {err.getvalue()}"
    if target:
        Path(target).write_text(out.getvalue())
    return out.getvalue()


def named(name: str) -> Block:
    return next(block for block in BLOCKS if block.name == name)


def type_in(block: Block) -> None:
    for command in block.commands:
        if not command.startswith(ELSEWHERE):
            for line in meant(command):
                done(line)


@pytest.mark.parametrize("name", RUN)
def test_a_block_of_commands_runs_as_it_stands(name: str, reader: Path) -> None:
    type_in(named(name))


def typed(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """What each command of some blocks prints, typed in their order into an empty folder."""
    said: dict[str, str] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("SEQEDIT_LEDGER", raising=False)
        for name in names:
            lines = iter(named(name).lines)
            for line in lines:
                if line.startswith("export "):
                    patch.setenv(*line.removeprefix("export ").split("=", 1))
                elif line.startswith("cat > "):
                    rows = list(itertools.takewhile(lambda row: row != "END", lines))
                    (folder / line.split()[2]).write_text("\n".join(rows) + "\n", "utf-8")
                else:
                    assert line.startswith("seqedit "), f"{name}: who runs {line}?"
                    said[line] = said.get(line, "") + done(line)
    return said


@pytest.fixture(scope="module")
def first_steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return typed(tmp_path_factory.mktemp("first-steps"), FIRST_STEPS)


def test_the_three_months_of_the_guide_run_as_they_stand(tmp_path: Path) -> None:
    said = typed(tmp_path, MONTHS)
    assert "3 of 3 entries in force: 6 facts, 1 more superseded" in said["seqedit status"]
    assert "supersedes" in said["seqedit edit 2032-02.jsonl --dry-run"]
    blamed = said['seqedit blame "Lena Brapiert"']  # before and after the revert
    assert blamed.count("in force") == 2
    assert "the letter was a forgery" in blamed
    assert "source: a letter" in blamed
    assert "begins at entry" in said["seqedit run april.yaml --dry-run"]
    assert "nothing new" in said["seqedit run april.yaml --new-files"]
    assert "kept: EM: min 90" in said['seqedit eval --gate "EM: min 90" --keep']
    assert "(HEAD -> main, tag: 2032-04) January, March and the correction" in said["seqedit log"]
    assert (tmp_path / "shipped" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "report" / "report.html").is_file()


def test_the_first_steps_in_the_readme_run_in_their_order_on_the_shipped_model(first_steps: dict[str, str]) -> None:
    assert "February" in first_steps["seqedit log"]
    blamed = first_steps['seqedit blame "Edith Rasrirez"']
    assert "Polish" in blamed
    assert "superseded" in blamed
    assert "Hindi" in blamed
    assert "Hindi" in first_steps["seqedit diff HEAD~1 HEAD --answers"]
    assert "kept: ES: min 90" in first_steps['seqedit eval --gate "ES: min 90"']


@pytest.mark.parametrize("command", [c for c in named(OVERVIEW).commands if not c.startswith(ELSEWHERE)])
def test_a_line_of_the_overview_in_the_readme_runs_as_it_stands(command: str, reader: Path) -> None:
    for line in meant(command):
        done(line)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN_SLOWLY)
def test_a_slow_block_of_commands_runs_as_it_stands(name: str, reader: Path) -> None:
    type_in(named(name))


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "extending").glob("*.md")), ids=lambda path: path.stem)
def test_the_example_of_how_to_extend_runs(page: Path, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seqedit.facts import layouts
    from seqedit.methods import registry

    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))
    monkeypatch.setattr(layouts, "_LAYOUTS", layouts._LAYOUTS)
    names: dict[str, Any] = {"__name__": "example"}
    monkeypatch.setitem(sys.modules, "example", type(sys)("example"))
    for block in blocks(page):
        if block.title:
            Path(block.title).write_text(block.text)
        elif block.kind == "python":
            exec(compile(block.text, str(page), "exec"), names)


def test_yaml_on_the_pages_is_read() -> None:
    import yaml

    for block in BLOCKS:
        if block.kind == "yaml" and "!function" not in block.text:
            assert isinstance(yaml.safe_load(block.text), dict), block.name


def test_the_page_of_the_command_line_is_the_command_line() -> None:
    again = "run python -m tests.documentation.command_line --write"
    assert command_line.PAGE.read_text("utf-8") == command_line.page(), again


@pytest.mark.parametrize("verb", command_line.verbs())
def test_every_verb_and_every_option_says_what_it_is_for(verb: str) -> None:
    command = command_line.verbs()[verb]
    assert (command.help or "").strip(), f"'{verb}' has no help"
    silent = [command_line.names(p) for p in command_line.shown(command) if not (p.help or "").strip()]
    assert silent == [], f"'{verb}': options without a help text"


@pytest.mark.parametrize("verb", command_line.verbs())
def test_every_verb_is_shown_in_a_page_written_by_hand(verb: str) -> None:
    pages = [path.read_text("utf-8") for path in PAGES if path != command_line.PAGE]
    assert any(re.search(rf"seqedit {verb}\b|`{verb}\b", page) for page in pages), f"no page tells of '{verb}'"


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


ROOT_PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]


@pytest.mark.parametrize("page", [*PAGES, *ROOT_PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_and_every_page_that_is_named_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([\w-]+))?\)", text):
        path = page.parent / target if target else page
        if target.startswith("http") or target.startswith("api/"):
            continue
        assert path.is_file(), f"no such file: {target}"
        assert not anchor or anchor in anchors(path), f"{target} has no heading #{anchor}"
    for name in re.findall(r"(?<![\w/])(?:docs|tests|examples|seqedit|ledger|evals)/[\w/.-]+\.(?:md|py|yaml)\b", text):
        assert (ROOT / name).exists() or (ROOT / "tests" / name).exists(), f"no such file: {name}"


SOURCES = [path for folder in ("seqedit", "ledger", "evals", "tests", "benchmarks", "examples")
           for path in (ROOT / folder).rglob("*.py")]  # fmt: skip


def test_every_page_that_code_names_exists() -> None:
    named_pages = {
        (name, path) for path in SOURCES for name in re.findall(r"docs/[\w/-]+\.md", path.read_text("utf-8"))
    }
    assert [f"{path}: {name}" for name, path in named_pages if not (ROOT / name).is_file()] == []


def test_every_public_name_has_a_docstring() -> None:
    spec = importlib.util.spec_from_file_location("api_pages", ROOT / "docs" / "api_pages.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    assert [name for package in pages.PACKAGES for name in pages.undocumented(package)] == []


def test_the_citation_has_the_version_of_the_package() -> None:
    import yaml

    from seqedit.version import __version__

    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == __version__
    assert f"\n## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
