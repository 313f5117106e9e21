"""Datasets on disk and on the Hub, opened with errors that say what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from seqedit.errors import EnvironmentFailure, InputError
from seqedit.support.suggestions import did_you_mean

if TYPE_CHECKING:
    # Imported where it is used: it takes half a second that `seqedit log` should not cost.
    import datasets


def pick_split(dataset: datasets.Dataset | datasets.DatasetDict, split: str, where: str) -> datasets.Dataset:
    """One split of a dictionary of splits; a dataset without splits is returned as it is.

    Raises:
        InputError: there is no such split; names those there are.
    """
    import datasets

    if not isinstance(dataset, datasets.DatasetDict):
        return dataset
    if split not in dataset:
        there = sorted(map(str, dataset))
        hint = did_you_mean(split, there)
        raise InputError(f"{where} has no split '{split}'; it has: {', '.join(there) or '(none)'}{hint}")
    return dataset[split]


def is_local_dataset(path: Path) -> bool:
    """Whether a path is a directory of ``save_to_disk`` or a Parquet file."""
    if path.is_dir():
        return any((path / name).is_file() for name in ("dataset_dict.json", "dataset_info.json", "state.json"))
    return path.suffix == ".parquet" and path.is_file()


def local_dataset(path: Path, split: str) -> datasets.Dataset:
    """A dataset saved with ``save_to_disk``, or a Parquet file; nothing is copied into a cache.

    Raises:
        InputError: it is damaged, or has no such split.
        EnvironmentFailure: it may not be read.
    """
    import datasets

    try:
        if path.is_dir():
            found = datasets.load_from_disk(str(path))
        else:
            import pyarrow.parquet  # type: ignore[import-untyped]

            found = datasets.Dataset(pyarrow.parquet.read_table(path))
    except PermissionError as error:
        raise EnvironmentFailure(f"{path}: {error.strerror}") from error
    except IndexError as error:  # what the library raises on a saved dataset without rows
        raise InputError(f"{path} holds no records") from error
    except Exception as error:  # what the two libraries raise on a damaged file is told nowhere
        raise InputError(f"{path}: not a readable dataset ({_first_line(error)})") from error
    return pick_split(found, split, str(path))


def hub_dataset(name: str, split: str) -> datasets.Dataset:
    """A dataset of the Hub.

    Raises:
        InputError: it has no such split.
        EnvironmentFailure: the Hub cannot be reached, or has no such dataset.
    """
    import datasets

    try:
        found = datasets.load_dataset(name, split=split)
    except (OSError, ValueError) as error:
        message = f"could not load the dataset '{name}' (split {split}): {_first_line(error)}"
        if "unknown split" in str(error).lower():  # the library's message lists the splits there are
            raise InputError(message) from error
        raise EnvironmentFailure(message) from error
    return pick_split(found, split, name)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
