"""Writes the pages of the Python API while the site is built: one per package, every name of its ``__all__``.

They are never files in the repository, so they cannot be behind the code. A public name without a docstring ends the
build (`undocumented`; a test asks the same).
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

PACKAGES = ("seqedit", "ledger", "evals")


def public_names(package: str) -> dict[str, Any]:
    """Name -> object of what a package exports, its version left out."""
    module = importlib.import_module(package)
    return {name: getattr(module, name) for name in module.__all__ if not name.startswith("__")}


def place(name: str, value: Any, package: str) -> str:
    """Dotted path of where a public name is defined; for values, which do not know it, the package's own.

    Example: ``seqedit.adapters.adapter.Adapter``.
    """
    module = getattr(value, "__module__", None)
    qualified = getattr(value, "__qualname__", None)
    return f"{module}.{qualified}" if module and qualified else f"{package}.{name}"


def undocumented(package: str) -> list[str]:
    """Public classes, functions, methods and properties of a package that have no docstring."""
    missing = []
    for name, value in public_names(package).items():
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        if not (value.__doc__ or "").strip():
            missing.append(f"{package}.{name}")
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                told = isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)
                if told and not attribute.startswith("_") and not (inspect.getdoc(getattr(value, attribute)) or ""):
                    missing.append(f"{package}.{name}.{attribute}")
    return missing


def page(package: str) -> str:
    """The Markdown of a package's page."""
    summary = (importlib.import_module(package).__doc__ or "").strip()
    lines = [f"# {package}", "", summary, ""]
    for name, value in sorted(public_names(package).items(), key=lambda item: item[0].lower()):
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        where = place(name, value, package)
        home = where.partition(".")[0]
        # What two packages export is described once, where it is defined.
        shared = home != package and home in PACKAGES and name in public_names(home)
        lines += [f"[`{name}`][{where}]" if shared else f"::: {where}", ""]
    return "\n".join(lines)


def on_files(files: Any, config: Any) -> Any:
    """Called by mkdocs: add the pages.

    Raises:
        PluginError: a public name has no docstring; names all of them.
    """
    from mkdocs.exceptions import PluginError
    from mkdocs.structure.files import File

    missing = [name for package in PACKAGES for name in undocumented(package)]
    if missing:
        raise PluginError(f"public names without a docstring: {', '.join(missing)}; write one where they are defined")
    for package in PACKAGES:
        files.append(File.generated(config, f"api/{package}.md", content=page(package)))
    return files
