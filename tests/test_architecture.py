"""The house keeps its plan: imports run downwards, folders stay small and say what they are for, pictures are true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from importlinter.application.use_cases import lint_imports
from importlinter.configuration import configure

from tests.documentation import architecture

ROOT = Path(__file__).parents[1]
PACKAGES = ("seqedit", "ledger", "evals")
FOLDERS = sorted(
    init.parent.relative_to(ROOT) for package in PACKAGES for init in (ROOT / package).rglob("__init__.py")
)
MOST = 14


def test_no_module_imports_from_a_layer_above_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    configure()
    assert lint_imports(str(ROOT / "pyproject.toml"), cache_dir=None), "run lint-imports; it names the imports"


def test_every_folder_of_seqedit_has_a_layer() -> None:
    stack = next(contract for contract in architecture.layered() if contract["id"] == "seqedit")
    placed = {module.removeprefix("seqedit.") for layer in architecture.rows(stack) for module in layer}
    folders = {folder.name for folder in FOLDERS if len(folder.parts) == 2 and folder.parts[0] == "seqedit"}
    assert folders - placed == set(), "give the new folder a layer in pyproject.toml"


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_folder_has_few_modules_and_one_sentence_of_purpose(folder: Path) -> None:
    modules = [path.name for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST, f"{folder} has {len(modules)} modules; split it"
    said = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text("utf-8")))
    assert said, f"{folder}/__init__.py does not say what the folder is for"
    first = said.split("\n\n")[0]
    assert re.fullmatch(r".+\.", first.replace("\n", " ")), f"no sentence: {first!r}"


def test_pictures_and_page_of_the_layers_are_those_of_the_contracts() -> None:
    again = "run python -m tests.documentation.architecture --write"
    page = architecture.PAGE.read_text("utf-8")
    assert architecture.with_generated(page) == page, again
    for path, content in architecture.pictures().items():
        assert path.read_text("utf-8") == content, f"{path.name}: {again}"


def test_a_picture_shows_every_module_of_its_contract() -> None:
    for contract in architecture.layered():
        shown = re.findall(r'class="name">([^<]+)<', architecture.picture(contract))
        assert shown == [module for layer in architecture.rows(contract) for module in layer]


def test_helpers_of_the_command_line_take_settings_objects_not_values_side_by_side() -> None:
    many = []
    for path in sorted((ROOT / "seqedit" / "cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef) and not node.decorator_list:  # a verb takes its options
                taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len(taken) > 8:
                    many.append(f"{path.relative_to(ROOT)}: {node.name} takes {len(taken)}")
    assert many == []
