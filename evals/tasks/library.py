"""The lm-eval tasks that ship with the package: where their files are and what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ShippedTask:
    """A task file.

    Attributes:
        name: The task's name.
        path: Its file.
        about: What it measures.
        metrics: Its metrics, the main one first.
    """

    name: str
    path: Path
    about: str
    metrics: tuple[str, ...]


def task_folder() -> Path:
    """The folder for lm_eval's ``--include_path``."""
    return Path(__file__).parent / "lm_tasks"


def shipped_tasks() -> dict[str, ShippedTask]:
    """All tasks by name; none of lm-eval is loaded."""
    found = {}
    for path in sorted(task_folder().glob("*.yaml")):
        config = _read(path)
        metrics = tuple(item["metric"] for item in config["metric_list"])
        found[config["task"]] = ShippedTask(config["task"], path, config["metadata"]["about"], metrics)
    return found


def _read(path: Path) -> Mapping[str, Any]:
    import yaml

    class Loader(yaml.SafeLoader):
        """Leaves lm-eval's references to functions as they are written."""

    Loader.add_constructor("!function", lambda _, node: node.value)
    config: Mapping[str, Any] = yaml.load(path.read_text("utf-8"), Loader)
    return config
