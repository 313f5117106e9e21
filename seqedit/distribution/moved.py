"""Old import paths, which keep working with a DeprecationWarning: moved modules, and names of what are packages now.

The tables are `seqedit.distribution.old_names`. A finder at the end of ``sys.meta_path`` gives the new module under the
old name, or one that asks several modules for its names. Where the old name is that of a package now, the package asks
`moved_names`.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

from seqedit.distribution.old_names import MODULES, NAMES, RENAMED


def moved_names(package: str) -> Callable[[str], Any]:
    """A ``__getattr__`` for a package that was a module."""

    def get(name: str) -> Any:
        place = NAMES[package].get(name)
        if place is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home, _, other = place.partition(":")
        _warn(f"{package}.{name}", f"{home}.{other or name}", stacklevel=3)
        return getattr(importlib.import_module(home), other or name)

    return get


def install() -> None:
    """Let old module names be found, after all others; more than once changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        homes = MODULES[fullname]
        package = any(name.startswith(f"{fullname}.") for name in MODULES)
        if package or len(homes) > 1 or fullname in RENAMED or _hides(fullname):
            return ModuleSpec(fullname, _Gathered(homes), is_package=package)
        new = find_spec(homes[0])
        return ModuleSpec(fullname, _Alias(homes), origin=None if new is None else new.origin)


class _Moved(InspectLoader):
    """Loads what an old name stands for; homes: the modules that have its content."""

    def __init__(self, homes: Sequence[str]) -> None:
        self.homes = homes

    def get_code(self, fullname: str) -> CodeType | None:
        """For ``python -m``."""
        _warn(fullname, self.homes[0], stacklevel=3)
        spec = find_spec(self.homes[0])
        return spec.loader.get_code(self.homes[0]) if spec and isinstance(spec.loader, InspectLoader) else None

    def get_source(self, fullname: str) -> str | None:
        """The first new module's."""
        spec = find_spec(self.homes[0])
        return spec.loader.get_source(self.homes[0]) if spec and isinstance(spec.loader, InspectLoader) else None


class _Alias(_Moved):
    """Gives another module under an old name."""

    def exec_module(self, module: ModuleType) -> None:
        _warn(module.__name__, self.homes[0], stacklevel=3)
        # import takes what stands there afterwards
        sys.modules[module.__name__] = importlib.import_module(self.homes[0])


class _Gathered(_Moved):
    """Gives a module that asks others for every name."""

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        _warn(old, " and ".join(self.homes), stacklevel=3)

        def get(name: str) -> Any:
            if name.startswith("__"):  # the import system's own questions
                raise AttributeError(f"module {old!r} has no attribute {name!r}")
            place = RENAMED.get(old, {}).get(name)
            if place is not None:
                home, _, other = place.partition(":")
                return getattr(importlib.import_module(home), other)
            for home in self.homes:
                new = importlib.import_module(home)
                if hasattr(new, name):
                    return getattr(new, name)
            raise AttributeError(f"module {old!r} has no attribute {name!r}, and neither have {', '.join(self.homes)}")

        module.__getattr__ = get  # type: ignore[method-assign]
        if _hides(old):
            module.__class__ = _CallableModule


class _CallableModule(ModuleType):
    """A module that its package has a function of the same name as; import puts it in the function's place."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*arguments, **options)


def _hides(old: str) -> bool:
    """Whether an old module has the name of what its package exports, such as `seqedit.anatomy`."""
    package, _, name = old.rpartition(".")
    return name in getattr(sys.modules.get(package), "__all__", ())


def _warn(old: str, new: str, stacklevel: int) -> None:
    warnings.warn(f"{old} has moved to {new}; the old name will go", DeprecationWarning, stacklevel=stacklevel)
