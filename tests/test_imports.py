"""Imports: light where nothing is used yet, old paths, other distributions of the same names."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqedit.distribution.old_names import MODULES, NAMES, RENAMED

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _packages_as_they_were() -> Iterator[None]:
    """An imported old module stands in its package, where `seqedit.anatomy` hides the function of that name."""
    packages = [importlib.import_module(name) for name in ("seqedit", "ledger", "evals")]
    before = [dict(vars(package)) for package in packages]
    yield
    for package, names in zip(packages, before, strict=True):
        for name in vars(package).keys() - names.keys():
            delattr(package, name)
        vars(package).update(names)


OLD_NAMES: dict[str, list[str]] = json.loads((ROOT / "tests" / "data" / "old_names.json").read_text("utf-8"))
"""Module of the flat layout -> its public classes, functions and constants."""
GONE: dict[str, set[str]] = {
    "evals.counterfact_sampling": {"Place"},
    "seqedit.projection": {"output_projection"},
    "seqedit.residual": {"TOLERANCE", "adds_output"},
    "seqedit.cli.history": {"log", "revert", "show", "verify"},
    "seqedit.cli.operations": {
        "Author", "Device", "DryRun", "Dtype", "Hparams", "Layers", "Message", "Model", "Moments", "Preset", "Set",
    },
    "seqedit.cli.ship": {"RevArgument", "ledger_place"},
}  # fmt: skip
"""Names that nothing stands for any more: the command line's own verbs and declarations of options, an
alias, and guesses at a model's parts that are now proven (`seqedit.forward.pathways`)."""
HEAVY = ("torch", "transformers", "peft", "datasets", "lm_eval", "sqlalchemy", "numpy", "matplotlib", "typer")


def python(program: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """A program in a Python of its own; ``paths`` come before the project."""
    path = ":".join(map(str, [*paths, ROOT]))
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", program], capture_output=True, text=True, env={"PYTHONPATH": path}
    )


def loaded(module: str) -> set[str]:
    done = python(f"import {module}, sys, json; print(json.dumps(sorted(sys.modules)))")
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("module", ["seqedit", "evals", "ledger"])
def test_importing_a_package_loads_nothing_heavy(module: str) -> None:
    assert not loaded(module) & set(HEAVY)


def test_entries_and_errors_of_the_ledger_need_no_torch() -> None:
    done = python("import sys; from ledger import BranchMoved, Entry, Problem; assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("old", sorted(MODULES))
def test_a_module_that_moved_is_found_under_its_old_name_with_a_warning(old: str) -> None:
    parent, _, child = old.rpartition(".")
    with warnings.catch_warnings():  # of the old package that it was in
        warnings.simplefilter("ignore")
        vars(importlib.import_module(parent)).pop(child, None)
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} has moved to {MODULES[old][0]}") as told:
        found = importlib.import_module(old)
    assert len(told) == 1
    homes = [importlib.import_module(home) for home in MODULES[old]]
    if found.__name__ != old:
        assert [found] == homes
    for home in reversed(homes):
        for name in [name for name in vars(home) if not name.startswith("__")]:
            assert hasattr(found, name)


@pytest.mark.parametrize("module", sorted(OLD_NAMES))
def test_every_public_name_of_an_old_module_is_found_or_known_to_be_gone(module: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = importlib.import_module(module)
        missing = {name for name in OLD_NAMES[module] if not hasattr(found, name)}
    assert missing == GONE.get(module, set())


@pytest.mark.parametrize(
    ("table", "old", "name"),
    [(t, old, name) for t in (NAMES, RENAMED) for old in t for name in t[old]],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_name_that_moved_is_found_where_the_table_says(table: dict[str, dict[str, str]], old: str, name: str) -> None:
    home, _, other = table[old][name].partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = getattr(importlib.import_module(old), name)
    assert found is getattr(importlib.import_module(home), other or name)


@pytest.mark.parametrize("package", sorted(NAMES))
def test_a_name_of_a_module_that_became_a_package_warns(package: str) -> None:
    name = next(iter(NAMES[package]))
    with pytest.warns(DeprecationWarning, match=f"{package}.{name} has moved"):
        getattr(importlib.import_module(package), name)


@pytest.mark.parametrize("old", ["seqedit.tracing", "ledger.bundle_format", "evals.counterfact"])
def test_an_old_path_is_found_where_it_is_the_first_thing_imported(old: str) -> None:
    done = python(f"import warnings; warnings.simplefilter('ignore'); import {old}")
    assert done.returncode == 0, done.stderr


def test_an_old_module_that_hides_a_function_of_the_package_is_called_in_its_place() -> None:
    done = python("import warnings; warnings.simplefilter('ignore'); import seqedit\n"
                  "from seqedit.anatomy import anatomy\n"
                  "try: seqedit.anatomy(1)\nexcept Exception as error: told = repr(error)\n"
                  "try: anatomy(1)\nexcept Exception as error: assert told == repr(error)")  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_warning_of_an_old_path_points_at_who_imports_it() -> None:
    done = python("import warnings\nwith warnings.catch_warnings(record=True) as w:\n"
                  " warnings.simplefilter('always')\n from seqedit.rank_place import Place\n"
                  " from seqedit.models import load_model\nprint({x.filename for x in w})")  # fmt: skip
    assert done.stdout.strip() == "{'<string>'}", done.stderr


def test_an_old_module_still_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seqedit.demo.check", "--help"], capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT), "COLUMNS": "100"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_another_distributions_module_of_the_same_name_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "evals").mkdir()
    (tmp_path / "evals" / "__init__.py").write_text("")
    info = tmp_path / "otherevals-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: otherevals\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("evals\n")
    done = python("import seqedit; seqedit.Session", tmp_path)
    assert "EnvironmentFailure: the module 'evals' is not seqedit's but that of otherevals" in done.stderr
    assert "uninstall the other" in done.stderr


def test_no_name_is_in_two_tables_and_every_old_one_is_free() -> None:
    for old in MODULES:
        assert not (ROOT / (old.replace(".", "/") + ".py")).exists(), old
        assert not (ROOT / old.replace(".", "/")).exists(), old
