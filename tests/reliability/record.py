"""Collects what the slow tests measured, and renders docs/measured/reliability.md from it.

Tests name their row with the marker ``promise`` and report their figure with the fixture ``figure``. A session that ran
slow tests writes ``figures.json`` and the page; what it did not run stays as it was measured last.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
import torch

from tests.reliability.promises import PROMISES, Promise

FIGURES = Path(__file__).with_name("figures.json")
PAGE = Path(__file__).parents[2] / "docs" / "measured" / "reliability.md"

HEAD = """# Reliability

What a ledger promises, how each promise is tested, and what was measured. This page is written by `make test-slow`;
the texts are in `tests/reliability/promises.py`, the last figures in `tests/reliability/figures.json`. The ordinary
test suite runs a small, seeded part of the same tests.

Ids chain entries together, and objects are named by what they hold. **This detects accidents; it stops an attacker only
when entries are signed**, because who can rewrite database and objects can also compute new ids. See "Signatures" in
[the ledger's page](../guide/ledger.md).
"""


class Recorder:
    """A pytest plugin that keeps the outcome and the figures of slow tests of a promise."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.found: dict[str, dict[str, Any]] = {}

    def collected(self, items: list[pytest.Item]) -> None:
        """Note which tests belong to which row."""
        for item in items:
            marker = item.get_closest_marker("promise")
            if marker is not None and item.get_closest_marker("slow") is not None:
                self.rows[item.nodeid] = int(marker.args[0])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid not in self.rows or (report.when != "call" and report.passed):
            return
        self.found[report.nodeid] = {
            "promise": self.rows[report.nodeid],
            "outcome": report.outcome,
            "figures": [str(value) for name, value in report.user_properties if name == "figure"],
            "seconds": round(report.duration, 1),
        }
        if report.skipped:
            self.found[report.nodeid]["figures"] = [
                str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "")
            ]

    def write(self) -> None:
        """Update the figures and the page."""
        if not self.found:
            return
        data = json.loads(FIGURES.read_text()) if FIGURES.exists() else {"tests": {}}
        files = {nodeid.split("::")[0] for nodeid in self.found}
        # Tests that were renamed or removed are forgotten with the next run of their file.
        kept = {
            nodeid: test
            for nodeid, test in data["tests"].items()
            if nodeid in self.rows or nodeid.split("::")[0] not in files
        }
        tests = dict(sorted({**kept, **self.found}.items()))
        data = {"machine": machine(), "tests": tests}
        FIGURES.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
        PAGE.write_text(page(data))


def machine() -> str:
    """What the figures were measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{platform.system()}, {platform.machine()}, {cores} cores; Python {platform.python_version()}, SQLite "
        f"{sqlite3.sqlite_version}, SQLAlchemy {sqlalchemy.__version__}, torch {torch.__version__}"
    )


def page(data: dict[str, Any]) -> str:
    """The page, from recorded figures."""
    lines = [HEAD, f"Measured on: {data['machine']}.\n", "| # | promise | measured | test |", "|---|---|---|---|"]
    by_row: dict[int, dict[str, dict[str, Any]]] = {promise.number: {} for promise in PROMISES}
    for nodeid, test in data["tests"].items():
        by_row[test["promise"]][nodeid] = test
    for promise in PROMISES:
        tests = by_row[promise.number]
        measured = "<br>".join(_measured(nodeid, test) for nodeid, test in tests.items()) or _unmeasured(promise)
        names = "<br>".join(dict.fromkeys(_name(nodeid) for nodeid in [*tests, *promise.elsewhere]))
        lines.append(f"| {promise.number} | **{promise.title}.** {promise.asked} | {measured} | {names} |")
    lines += ["", "## How each is tested", ""]
    for promise in PROMISES:
        lines += [f"{promise.number}. **{promise.title}.** {promise.how}"]
    return "\n".join(lines) + "\n"


def _unmeasured(promise: Promise) -> str:
    """What stands for a figure where no slow test reports one."""
    return "held by the ordinary test suite" if promise.elsewhere else "not measured yet"


def _measured(nodeid: str, test: dict[str, Any]) -> str:
    said = "; ".join(test["figures"]).replace("|", "\\|")
    said = said or nodeid.partition("[")[2].rstrip("]") or nodeid.rpartition("::")[2]
    if test["outcome"] == "passed":
        return said if test["figures"] else f"{said}: holds ({test['seconds']:.0f} s)"
    return f"**{test['outcome'].upper()}** {said}".rstrip()


def _name(nodeid: str) -> str:
    path, _, name = nodeid.partition("::")
    name = name.split("[")[0]
    return f"`{path.removeprefix('tests/')}{'::' + name if name else ''}`"


__all__ = ["Promise", "Recorder", "machine", "page"]


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(FIGURES.read_text())))
