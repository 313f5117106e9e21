"""The raw data of runs as flat tables, written as CSV, JSON and Parquet.

One table holds all runs; its first column names the run. Columns that no row has a value in are left out.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evals.report.charts import SCORES, plotted_metric
from evals.report.diagnosis import diagnosis_figures
from evals.report.spreadsheet import cell
from evals.scores.probes import in_order

Summary = Mapping[str, Any]
Row = dict[str, Any]
Table = list[Row]

TABLES = ("steps", "tasks", "forgetting", "facts", "gates", "drift_modules")
"""Names of the tables, which are the names of their files."""
FORMATS = ("csv", "json", "parquet")
_STEP = ("entry", "operation", "method", "message", "time", "requests", "active")
_FACT = ("subject", "prompt", "target_new", "target_true", "before", "after", "argmax_correct", "nll_new", "nll_true",
         "in_force", "lost_at")  # fmt: skip


def tables_of(runs: Mapping[str, Summary]) -> dict[str, Table]:
    """Table name -> rows.

    ``steps``: one row per step with its scores (``earlier_ES``: of all earlier edits), ``diagnosis_*``, ``drift_*`` and
    ``seconds_*``; step 0 is the unedited model. ``tasks``: one row per step and task. ``forgetting``: one row per
    known cell of the
    matrix. ``facts``: one row per request. ``gates``: one row per step and gate. ``drift_modules``: one row per step
    and edited module.
    """
    makers = (_steps, _tasks, _forgetting, _facts, _gates, _modules)
    found = {}
    for table, make in zip(TABLES, makers, strict=True):
        found[table] = _tidy([{"run": name, **row} for name, run in runs.items() for row in make(run)])
    return found


def write_tables(tables: Mapping[str, Table], folder: Path) -> dict[str, list[str]]:
    """Write every table that has rows, in every format; a file of an earlier report whose table is empty now goes.

    Returns:
        Table name -> names of its files.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, list[str]] = {}
    for name, rows in tables.items():
        paths = [folder / f"{name}.{kind}" for kind in FORMATS]
        if not rows:
            for path in paths:
                path.unlink(missing_ok=True)
            continue
        _write_csv(rows, paths[0])
        paths[1].write_text(json.dumps(rows, indent=0, ensure_ascii=False) + "\n", "utf-8")
        _write_parquet(rows, paths[2])
        written[name] = [path.name for path in paths]
    return written


def _write_csv(rows: Table, path: Path) -> None:
    # UTF-8 whatever the machine's locale; numbers with all their digits.
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(cell, rows[0]))
        writer.writerows(map(cell, row.values()) for row in rows)


def _write_parquet(rows: Table, path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = {name: [row[name] for row in rows] for name in rows[0]}
    # A column whose first value is a whole number may hold fractions further down.
    arrays = {
        name: pyarrow.array([None if v is None else float(v) for v in values] if _mixed(values) else values)
        for name, values in columns.items()
    }
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)


def _mixed(values: Sequence[Any]) -> bool:
    return {type(v) for v in values if v is not None} == {int, float}


def _tidy(rows: Sequence[Row]) -> Table:
    """Every row with the same columns; those without any value are left out."""
    columns = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    return [{name: row.get(name) for name in columns} for row in rows]


def _steps(run: Summary) -> Iterator[Row]:
    base = (run.get("baseline") or {}).get("counterfact")
    if isinstance(base, Mapping):
        yield {"step": 0, **{m: base.get(m) for m in (*SCORES, *in_order(base))}}
    for step in run.get("steps") or []:
        earlier, drift = step.get("earlier") or {}, step.get("drift") or {}
        yield {
            "step": step.get("step"),
            **{key: step.get(key) for key in _STEP},
            **{metric: step.get(metric) for metric in (*SCORES, *in_order(step))},
            **{f"earlier_{metric}": earlier.get(metric) for metric in (*SCORES, *in_order(earlier), "requests")},
            **{f"diagnosis_{key}": value for key, value in diagnosis_figures(step.get("diagnosis")).items()},
            **{f"drift_{key}": value for key, value in drift.items() if isinstance(value, int | float)},
            "seconds": step.get("seconds"),
            **{f"seconds_{part}": value for part, value in (step.get("timings") or {}).items()},
        }


def _tasks(run: Summary) -> Iterator[Row]:
    for task, values in (run.get("baseline") or {}).items():
        if task != "counterfact" and isinstance(values, Mapping):
            metric = plotted_metric(values)
            yield {"step": 0, "task": task, "metric": metric, "value": values.get(metric)}
    for step in run.get("steps") or []:
        for task, entry in (step.get("tasks") or {}).items():
            metric = plotted_metric(entry)
            rest = {k: v for k, v in entry.items() if k not in ("metric", metric) and not isinstance(v, Mapping | list)}
            yield {"step": step.get("step"), "task": task, "metric": metric, "value": entry.get(metric), **rest}


def _forgetting(run: Summary) -> Iterator[Row]:
    matrix, steps = run.get("forgetting") or [], run.get("steps") or []
    metric = run.get("forgetting_metric") or "ES"
    numbers = [step.get("step") for step in steps] if len(steps) == len(matrix) else range(1, len(matrix) + 1)
    for t, (at, row) in enumerate(zip(numbers, matrix, strict=True)):
        for i, value in enumerate(row):
            if value is not None:
                yield {"step": at, "edited_at": numbers[i], "age": t - i, "metric": metric, "value": value}


def _facts(run: Summary) -> Iterator[Row]:
    for step in run.get("steps") or []:
        for fact in step.get("facts") or []:
            yield {"step": step.get("step"), "entry": step.get("entry"), **{key: fact.get(key) for key in _FACT}}


def _gates(run: Summary) -> Iterator[Row]:
    for step in run.get("steps") or []:
        for gate in step.get("gates") or []:
            yield {"step": step.get("step"), **{key: gate.get(key) for key in ("gate", "value", "bound", "tripped")}}


def _modules(run: Summary) -> Iterator[Row]:
    for step in run.get("steps") or []:
        for module, values in ((step.get("drift") or {}).get("modules") or {}).items():
            yield {"step": step.get("step"), "module": module, **values}
