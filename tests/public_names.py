"""The public names of seqedit with their signatures, as text; rewrites the snapshot that the test compares with.

python -m tests.public_names > tests/data/public_names.txt
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

import seqedit
from seqedit.errors import SeqeditError


def described() -> str:
    """One line for every public name, and one for every public method or field of a class."""
    return "\n".join(line for name in sorted(seqedit.__all__) for line in _lines(name, getattr(seqedit, name))) + "\n"


def _lines(name: str, thing: Any) -> Iterator[str]:
    if isinstance(thing, str):
        yield name
    elif not inspect.isclass(thing):
        yield f"{name}{inspect.signature(thing)}"
    elif issubclass(thing, SeqeditError):
        yield f"{name}({', '.join(base.__name__ for base in thing.__bases__)})  exit code {thing.exit_code}"
    else:
        yield f"class {name}"
        if dataclasses.is_dataclass(thing):
            yield from (f"{name}.{field.name}: {field.type}" for field in dataclasses.fields(thing))
        else:
            yield f"{name}{inspect.signature(thing)}"
        for member in sorted(m for m in dir(thing) if not m.startswith("_")):
            found = inspect.getattr_static(thing, member)
            if isinstance(found, property):
                yield f"{name}.{member}"
            elif isinstance(found, classmethod | staticmethod) or inspect.isfunction(found):
                yield f"{name}.{member}{inspect.signature(getattr(thing, member))}"


if __name__ == "__main__":
    print(described(), end="")
