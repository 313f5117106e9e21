"""Plain text for second moments and perplexity: a local file or dataset, or a dataset on the Hub, read as a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError
from seqedit.facts.sources import is_local_dataset, local_dataset

DEFAULT = "Salesforce/wikitext:wikitext-103-raw-v1"


@dataclass(frozen=True)
class TextSource:
    """Where plain text comes from.

    Attributes:
        name: A text file (one document a line); a ``.jsonl`` or ``.parquet`` file or a folder of ``save_to_disk``
            (split ``train``, if it has splits); or ``org/dataset[:config]`` on the Hub.
        column: The column with the text; a plain text file has none.
    """

    name: str
    column: str = "text"

    @property
    def identity(self) -> str:
        """What a cache of results is named after: a file's content, or a dataset's name."""
        path = Path(self.name)
        column = "" if self.column == "text" else f"#{self.column}"
        if path.is_file():
            return "file:" + _sha256([path]) + column
        if path.is_dir():
            return "files:" + _sha256(sorted(p for p in path.rglob("*") if p.is_file())) + column
        return "hub:" + self.name + column

    def check(self) -> None:
        """Refuse a name that is neither a file's nor a dataset's, without reading it.

        Raises:
            InputError: there is no such text.
        """
        path = Path(self.name)
        local = path.is_file() or (path.is_dir() and is_local_dataset(path))
        if not local and (path.is_dir() or self.name.count("/") != 1 or path.is_absolute()):
            raise InputError(f"no such text file: {self.name}")

    def __iter__(self) -> Iterator[str]:
        path = Path(self.name)
        if path.suffix == ".jsonl" and path.is_file():
            yield from self._texts(_json_lines(path), str(path))
        elif path.suffix == ".parquet" and path.is_file():
            yield from self._parquet(path)
        elif path.is_dir() and is_local_dataset(path):
            yield from self._texts(local_dataset(path, "train"), str(path))
        elif path.is_file():
            yield from (line.rstrip("\n") for _, line in _lines(path))
        elif path.is_dir() or self.name.count("/") != 1 or path.is_absolute():
            raise InputError(f"no such text file: {self.name}")
        else:
            yield from self._hub()

    def _texts(self, rows: Any, where: str) -> Iterator[str]:
        for number, row in enumerate(rows, 1):
            text = row.get(self.column) if isinstance(row, dict) else None
            if not isinstance(text, str):
                columns = ", ".join(map(str, row)) if isinstance(row, dict) else "none"
                raise InputError(f"{where}, row {number}: no text in column '{self.column}' (columns: {columns})")
            yield text

    def _parquet(self, path: Path) -> Iterator[str]:
        # By row groups: `local_dataset` would read the whole table.
        import pyarrow
        import pyarrow.parquet

        try:
            with pyarrow.parquet.ParquetFile(path) as file:
                if self.column not in file.schema_arrow.names:
                    names = ", ".join(file.schema_arrow.names)
                    raise InputError(f"{path}: no column '{self.column}' (columns: {names})")
                for batch in file.iter_batches(batch_size=1024, columns=[self.column]):
                    yield from self._texts(batch.to_pylist(), str(path))
        except pyarrow.ArrowException as error:
            raise InputError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from error

    def _hub(self) -> Iterator[str]:
        import datasets

        name, _, config = self.name.partition(":")
        try:
            rows = datasets.load_dataset(name, config or None, split="train", streaming=True)
            yield from self._texts(rows, self.name)
        except InputError:
            raise
        except (OSError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise EnvironmentFailure(
                f"could not read text from the dataset '{self.name}': {first}; give a local file with --text"
            ) from error


def check_text(name: str, column: str = "text") -> None:
    """Refuse a local text that is not there or has no such column; of a Hub dataset nothing is fetched.

    Raises:
        InputError: it cannot be read.
    """
    if Path(name).exists() or name.count("/") != 1 or Path(name).is_absolute():
        next(iter(TextSource(name, column)), None)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8") as lines:
        try:
            yield from enumerate(lines, 1)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error


def _json_lines(path: Path) -> Iterator[Any]:
    for number, line in _lines(path):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: not JSON ({error})") from error


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            if len(paths) > 1:  # of several files their names and bounds count too
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def default_text(model: str) -> str:
    """Text that goes with a model when none is given: the demo world's corpus, or WikiText from the Hub."""
    from seqedit.demo.location import DEMO_PREFIX

    if model.startswith(DEMO_PREFIX) and not Path(model).exists():
        from seqedit.demo.location import demo_file

        return str(demo_file("corpus.txt"))
    return DEFAULT
