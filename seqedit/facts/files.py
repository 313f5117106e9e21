"""The files that a sequence's facts lie in: one, a list, or a pattern of dated ones, each known by its digest."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError
from seqedit.facts.layouts import with_origin
from seqedit.facts.requests import ORIGIN, Record

_FIELDS = ("file", "message", *ORIGIN)


@dataclass(frozen=True)
class FactFile:
    """A file of facts.

    Attributes:
        path: Where it is: a path, ``demo:NAME``, or the id of a Hub dataset.
        name: What it is called in messages and in the ledger: its path as the configuration has it.
        message: Message of its entries; None for one made of the file's name.
        date: Date of its facts, where they give none themselves. So for the next two.
        source: Where they are from.
        note: What else there is to say of them.
    """

    path: str
    name: str
    message: str | None = None
    date: str | None = None
    source: str | None = None
    note: str | None = None

    @property
    def title(self) -> str:
        """The message, or the file's name without its ending."""
        return self.message if self.message is not None else Path(self.name).stem

    def record(self) -> dict[str, str]:
        """Name and SHA-256, as an entry keeps them (`ledger.history.entries.Entry`); empty where it is no local file.

        Raises:
            EnvironmentFailure: the file cannot be read.
        """
        path = Path(self.path)
        try:
            if not path.is_file():
                return {}
            return {"name": self.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        except ValueError:  # a name that no file can have
            return {}
        except OSError as error:
            raise EnvironmentFailure(f"{path}: {error.strerror}") from error

    def told(self, records: list[Record]) -> list[Record]:
        """Its records, with the file's own date, source and note where a fact has none."""
        own = {name: getattr(self, name) for name in ORIGIN}
        return [replace(record, request=with_origin(record.request, own)) for record in records]


def is_pattern(text: str) -> bool:
    """Whether a text stands for several files (``2032-*.jsonl``) and is not the name of one."""
    return glob.has_magic(text) and "://" not in text and not Path(text).exists()


def fact_files(value: Any, folder: Path, local: Callable[[str | None], str | None]) -> tuple[FactFile, ...] | None:
    """The files that a configuration's ``facts`` name, those of a pattern sorted by name.

    Args:
        value: A file, a pattern, or a list of them and of mappings with ``file``, ``message``, ``date``, ``source``,
            ``note``.
        folder: What relative paths are relative to.
        local: Makes a path of what is written.

    Returns:
        None where ``value`` is one source, which may be a Hub dataset; () for a pattern that nothing matches.

    Raises:
        InputError: a field is unknown, missing or no text, or a file is named twice.
    """
    if isinstance(value, str) and not is_pattern(str(folder / value)):
        return None
    if not isinstance(value, str | list) or value == []:
        raise InputError(
            f"field 'facts' must be a file, a pattern such as 2032-*.jsonl, or a list of them, got {value!r}"
        )
    found: list[FactFile] = []
    for item in [value] if isinstance(value, str) else value:
        found += _files(item, folder, local, alone=isinstance(value, str))
    seen: dict[str, FactFile] = {}
    for file in found:
        if (first := seen.setdefault(os.path.realpath(file.path), file)) is not file:
            raise InputError(f"field 'facts' names {first.name} twice")
    return tuple(found)


def _files(item: Any, folder: Path, local: Callable[[str | None], str | None], *, alone: bool) -> list[FactFile]:
    own: dict[str, Any] = {"file": item} if isinstance(item, str) else dict(item) if isinstance(item, Mapping) else {}
    unknown = [str(name) for name in own if name not in _FIELDS]
    if not own or unknown or own.get("file") is None:
        what = f"unknown field '{unknown[0]}'" if unknown else f"got {item!r}"
        raise InputError(
            f"field 'facts': an item is a file, a pattern, or a mapping with 'file' and, if wanted, "
            f"{', '.join(repr(name) for name in _FIELDS[1:])}; {what}"
        )
    # YAML reads 2032-01-31 as a date, whose text is the same.
    told = {name: str(value) for name, value in own.items() if value is not None}
    name = told.pop("file")
    if not is_pattern(str(folder / name)):
        return [FactFile(str(local(name)), shown_name(name), **told)]
    paths = sorted(glob.glob(str(folder / name), recursive=True))
    if not paths and not alone:
        raise InputError(f"field 'facts': no file matches {name}")
    files = [path for path in paths if Path(path).is_file()]
    return [FactFile(path, shown_name(path, folder), **told) for path in files]


def shown_name(path: str, folder: Path | None = None) -> str:
    """What a file is called in messages and in the ledger: its path below ``folder``, or else its name."""
    name = path if folder is None else os.path.relpath(path, folder).replace(os.sep, "/")
    return Path(name).name if os.path.isabs(name) or name.startswith("../") else name
