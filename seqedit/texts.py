"""Plain text for second moments and perplexity: a local file, or a dataset on the Hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seqedit.errors import EnvironmentFailure, InputError

DEFAULT = "Salesforce/wikitext:wikitext-103-raw-v1"


@dataclass(frozen=True)
class TextSource:
    """Where plain text comes from.

    Attributes:
        name: A text file (one document a line), or ``org/dataset[:config]`` with a column ``text``.
    """

    name: str

    @property
    def identity(self) -> str:
        """What a cache of results is named after: a file's content, or a dataset's name."""
        path = Path(self.name)
        if path.is_file():
            return "file:" + hashlib.sha256(path.read_bytes()).hexdigest()
        return "hub:" + self.name

    def __iter__(self) -> Iterator[str]:
        path = Path(self.name)
        if path.is_file():
            with path.open(encoding="utf-8") as lines:
                try:
                    yield from (line.rstrip("\n") for line in lines)
                except UnicodeDecodeError as error:
                    raise InputError(f"{path}: not UTF-8 at byte {error.start}") from error
            return
        if self.name.count("/") != 1 or path.is_absolute():
            raise InputError(f"no such text file: {self.name}")
        yield from self._hub()

    def _hub(self) -> Iterator[str]:
        import datasets

        name, _, config = self.name.partition(":")
        try:
            rows = datasets.load_dataset(name, config or None, split="train", streaming=True)
            for row in rows:
                yield row["text"]
        except (OSError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise EnvironmentFailure(
                f"could not read text from the dataset '{self.name}': {first}; give a local file with --text"
            ) from error
