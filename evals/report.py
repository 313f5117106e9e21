"""The report of a run: one HTML file that needs nothing else, and the plots as PNG files beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evals.report_view import Figures, view_of
from seqedit.errors import EnvironmentFailure, InputError

Summary = Mapping[str, Any]


def write_report(summary: Summary | Mapping[str, Summary], out_dir: str | Path) -> Path:
    """Write ``report.html`` and the plots as PNG into a directory.

    The page inlines its style and its plots as SVG, makes no network request, and reads in light, dark and
    print. Fields that are missing or None show as a dash; plots without data are left out.

    Args:
        summary: The summary of one run, or of several runs by name (of the method, say). A run is
            {"title", "model": {"name", "fingerprint"}, "method": {...}, "baseline": {task: {metric: value}},
            "steps": [{"step", "entry", "requests", "ES", "PS", "NS", "S", "EM", "PM", "NM", "GE", "RS",
            "earlier": {"ES", "PS", "NS", "S", "requests"}, "tasks": {task: {metric, "change", "ci_low",
            "ci_high"}}, "perplexity", "seconds", "timings": {...}, "facts": [{"subject", "prompt",
            "target_true", "target_new", "before", "after"}]}], "forgetting": [[...]], "forgetting_metric",
            "forgetting_curve": [{"age", "mean", "count", "ci_low", "ci_high"}]}.
        out_dir: Made if it does not exist; files of an earlier report there are replaced.

    Returns:
        Path of ``report.html``.

    Raises:
        InputError: if there is no run in the summary, or two runs' names differ by punctuation only.
        EnvironmentFailure: if the directory cannot be written.
    """
    runs = _runs(summary)
    slugs = {name: re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run" for name in runs}
    if len(set(slugs.values())) < len(slugs):
        raise InputError(f"names of runs are too alike to name files by: {', '.join(runs)}")
    out = Path(out_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
        figures = Figures(out)
        view = view_of(runs, slugs, figures)
        path = out / "report.html"
        path.write_text(_environment().get_template("report.html.j2").render(**view), encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailure(f"report cannot be written to {out}: {error}") from error
    return path


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
    environment.filters["number"] = number
    environment.filters["signed"] = signed
    return environment


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
