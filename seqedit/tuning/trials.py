"""Trials kept on disk, so that a search goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqedit.errors import EnvironmentFailure, InputError
from seqedit.support.digests import json_digest
from seqedit.support.reading import read_json
from seqedit.support.writing import write_whole
from seqedit.tuning.choice import Trial


class Held:
    """Trials on disk.

    Args:
        out: Their folder.
        search: What they are trials of: another search's are refused.

    Raises:
        InputError: the folder holds no trials, or another search's.
    """

    def __init__(self, out: Path, search: str) -> None:
        self.file = out / "trials.json"
        self.search = search
        self.trials: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}
        if self.file.is_file():
            data = read_json(self.file)
            try:
                found, self.trials = data["search"], dict(data["trials"])
                self.seconds = {str(stage): float(value) for stage, value in dict(data.get("seconds", {})).items()}
                for kept in self.trials.values():
                    Trial.from_dict(kept)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{self.file} holds no trials ({error}); choose another --out") from error
            if found != search:
                raise InputError(f"{out} holds a search for another model, method or facts; choose another --out")

    def has(self, stage: str, settings: Mapping[str, Any]) -> bool:
        """Whether a trial is there."""
        return json_digest({"stage": stage, **settings}) in self.trials

    def trial(self, stage: str, settings: Mapping[str, Any], make: Callable[[], Trial]) -> Trial:
        """A trial that is there, or else is made and kept."""
        key = json_digest({"stage": stage, **settings})
        if key in self.trials:
            return Trial.from_dict(self.trials[key])
        made = make()
        self.trials[key] = made.to_dict()
        self.write()
        return made

    def write(self) -> None:
        """Trials, and what their stages have taken, whole or not at all."""
        data = {"search": self.search, "seconds": self.seconds, "trials": self.trials}
        try:
            write_whole(self.file, json.dumps(data, indent=1))
        except OSError as error:
            raise EnvironmentFailure(f"{self.file} cannot be written: {error.strerror or error}") from error
