"""The report of a run: one HTML file that needs nothing else; beside it the plots as files and the raw data."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from evals.report.comparison import ComparisonRow
from evals.report.table import tables_of, write_tables
from evals.report.view import MOST_ROWS, Figures, view_of
from seqedit.errors import EnvironmentFailure, InputError
from seqedit.support.printable import json_text, visible

Summary = Mapping[str, Any]


def write_report(
    summary: Summary | Mapping[str, Summary],
    out_dir: str | Path,
    *,
    comparison: Sequence[ComparisonRow] = (),
) -> Path:
    """Write ``report.html``, the plots as PNG and SVG, and under ``data`` the tables as CSV, JSON and Parquet.

    The page inlines style, script, data and plots, makes no network request (its policy forbids any), and reads in
    light, dark and print. Its script filters, searches and sorts and makes plots answer; without it everything is
    still there to be read. Fields that are missing or None show as a dash; plots without data are left out.

    Args:
        summary: The summary of one run, or of several runs by name (of the method, say). A run is
            {"title", "model": {"name", "fingerprint"}, "method": {...}, "baseline": {task: {metric: value}},
            "steps": [{"step", "entry", "operation", "message", "targets", "active", "requests", "ES", "PS", "NS",
            "S", "EM", "PM", "NM", "ET", "PT", "NT", "GE", "RS", "earlier": {"ES", "PS", "NS", "S", "requests"},
            "tasks": {task: {metric, "change", "ci_low", "ci_high", "previous_change", ...}}, "drift": {...},
            "gates": [{"gate", "value", "bound", "tripped"}], "seconds", "timings": {...}, "facts": [{"subject",
            "prompt", "target_true", "target_new", "before", "after", "argmax_correct", "in_force"}]}],
            "forgetting": [[...]], "forgetting_metric", "forgetting_curve": [{"age", "mean", "count", "ci_low",
            "ci_high"}], "half_life", "collapse", "stopped"}.
        out_dir: Made if it does not exist; files of an earlier report there are replaced.
        comparison: Rows of a comparison of methods, shown as a table and a plot of their own.

    Returns:
        Path of ``report.html``.

    Raises:
        InputError: if there is no run in the summary, or two runs' names differ by punctuation only.
        EnvironmentFailure: if the directory cannot be written.
    """
    runs = _runs(summary)
    slugs = check_report(summary, out_dir)
    out = Path(out_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
        figures = Figures(out)
        view = view_of(runs, slugs, figures, comparison)
        files = write_tables(tables_of(runs), out / "data")
        script = f"{_asset('charts.js')}{_asset('report.js')}"
        page = _environment().get_template("report.html.j2").render(
            **view, files=files, style=Markup(_asset("report.css")), script=Markup(script),
            policy=_policy(script), data=Markup(_json(_live(view, figures))), numbers=_NUMBERS,
            known=("edit", "revert", "swap", "merge"),
        )  # fmt: skip
        path = out / "report.html"
        path.write_text(page, encoding="utf-8", newline="\n")  # the policy's digest is of these very line ends
    except OSError as error:
        raise EnvironmentFailure(f"report cannot be written to {out}: {error}") from error
    return path


def check_report(summary: Summary | Mapping[str, Summary], out_dir: str | Path) -> dict[str, str]:
    """Refuse what `write_report` would refuse, and write nothing.

    Args:
        summary: As for `write_report`.
        out_dir: The same.

    Returns:
        Name of each run -> what its files are named after.

    Raises:
        InputError: if there is no run in the summary, or two runs' names differ by punctuation only.
        EnvironmentFailure: if the directory is a file.
    """
    runs = _runs(summary)
    # Prefixed where the page has ids of its own.
    slugs = {name: _slug(name) for name in runs}
    if len(set(slugs.values())) < len(slugs):
        raise InputError(f"names of runs are too alike to name files by: {', '.join(runs)}")
    if Path(out_dir).exists() and not Path(out_dir).is_dir():
        raise EnvironmentFailure(f"report cannot be written to {out_dir}: it is no directory")
    return slugs


_NUMBERS = {"scores": "steps", "tasks": "tasks", "forgetting_matrix": "matrix", "forgetting_batches": "matrix",
            "drift": "drift", "diagnosis": "diagnosis", "seconds": "seconds"}  # fmt: skip
"""Plot -> the part of its run's section that has its numbers."""
_OWN_IDS = ("main", "runs", "comparison", "data", "report-data", "forgetting-curve")


def _slug(name: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
    return f"run-{slug}" if slug in _OWN_IDS else slug


def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text("utf-8")


def _policy(script: str) -> str:
    """Only this very script runs, and nothing is fetched; style attributes of the plots need unsafe-inline."""
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _live(view: Mapping[str, Any], figures: Figures) -> dict[str, Any]:
    """What the page's script draws and filters."""
    keys = ("step", "operation", "message", "state", "tripped")
    runs = {run["slug"]: [{key: step.get(key) for key in keys} for step in run["steps"]] for run in view["runs"]}
    return {"charts": figures.data, "runs": runs, "most": MOST_ROWS}


def _json(value: Any) -> str:
    """JSON that cannot end its script element, whatever its texts say; numbers with the digits a plot can show."""
    text = json_text(_rounded(value), separators=(",", ":"), default=str, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _runs(summary: Summary | Mapping[str, Summary]) -> dict[str, Summary]:
    """Runs by name; a single run goes by its method's name."""
    if "steps" in summary or "baseline" in summary:
        method = summary.get("method")
        name = method.get("name") if isinstance(method, Mapping) else method
        return {str(name or "run"): summary}
    runs = {str(name): run for name, run in summary.items() if isinstance(run, Mapping)}
    if not runs:
        raise InputError("the summary holds no run: neither 'steps' nor runs by name")
    return runs


def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, select_autoescape

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default_for_string=True, default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.finalize = _shown
    environment.filters["number"] = number
    environment.filters["signed"] = signed
    return environment


def _shown(value: Any) -> Any:
    """What a template prints: markup as it is, texts without what turns writing around."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def number(value: Any, digits: int = 1) -> str:
    """A number with fixed digits; a dash for what is missing; text as it is."""
    # A field that the template does not find is an "undefined" that prints as nothing.
    if value is None or str(value) == "" or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,d}" if isinstance(value, int) else f"{value:,.{digits}f}"


def signed(value: Any, digits: int = 3) -> str:
    """A change with its sign (a true minus, so that columns align); a dash for what is missing."""
    text = number(value, digits)
    if not isinstance(value, (int, float)) or text == "–":
        return text
    if float(text.replace(",", "")) == 0:
        return text.lstrip("-")
    return f"+{text}" if value > 0 else text.replace("-", "\u2212")
