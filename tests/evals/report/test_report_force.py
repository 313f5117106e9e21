"""What the page says of states: facts in force, tiles, titles, gates; and that it shows no empty table or plot."""

from __future__ import annotations

import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.report.charts import FEW, Series, ages_chart, batches_chart, drift_chart, seconds_chart
from evals.report.figures import COLORS
from evals.report.force import fact_states, facts_edited, facts_in_force, standing_step
from evals.report.plots import plot_chart
from evals.report.report import write_report
from tests.evals.report.report_data import synthetic_run


class Tables(HTMLParser):
    """Tables by their box's label: caption, headings and rows of texts; tiles; paragraphs below boxes; the title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, dict[str, Any]] = {}
        self.tiles: list[str] = []
        self.more: dict[str, str | None] = {}
        self.title = ""
        self._label = ""
        self._into: list[str] | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        classes = (given.get("class") or "").split()
        if given.get("role") == "region":
            self._label = str(given["aria-label"])
            self.tables[self._label] = {"caption": [], "head": [], "rows": [], "classes": [], "box": classes}
        table = self.tables.get(self._label)
        if tag == "table" and table:
            table["classes"] = classes
        elif tag == "caption" and table:
            self._into = table["caption"]
        elif tag == "tr" and table:
            table["rows"].append([])
        elif tag in ("td", "th") and table:
            self._into = []
            table["rows"][-1].append(self._into)
        elif tag == "div" and "tile" in classes:
            self._into = []
        elif tag == "p" and "more" in classes:
            self._into = []
            self.more[self._label] = None if "hidden" in given else ""
        elif tag == "title":
            self._into = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self.title = "".join(self._into or [])
        elif tag == "div" and self._into is not None:
            self.tiles.append(" ".join(" ".join(self._into).split()))
        elif tag == "p" and self._into is not None and self.more.get(self._label) is not None:
            self.more[self._label] = "".join(self._into).strip()
        elif tag not in ("caption", "td", "th"):
            return
        self._into = None

    def handle_data(self, data: str) -> None:
        if self._into is not None:
            self._into.append(data)

    def cells(self, label: str) -> list[list[str]]:
        return [[" ".join("".join(cell).split()) for cell in row] for row in self.tables[label]["rows"]]

    def caption(self, label: str) -> str:
        return " ".join("".join(self.tables[label]["caption"]).split())


def page_of(summary: Any, folder: Path, **options: Any) -> Tables:
    return Tables(write_report(summary, folder, **options).read_text("utf-8"))


def edit(number: int, *facts: str, **fields: Any) -> dict[str, Any]:
    return {
        "step": number, "entry": f"{number:064x}", "operation": "edit", "targets": [], "active": True,
        "requests": len(facts), "ES": 90.0 + number, "S": 80.0 + number, "seconds": 1.0,
        "facts": [
            {"subject": fact, "prompt": f"{fact} is", "target_new": "new", "in_force": True, "argmax_correct": True}
            for fact in facts
        ],
        **fields,
    }  # fmt: skip


def act(number: int, operation: str, *targets: dict[str, Any], facts: tuple[str, ...] = ()) -> dict[str, Any]:
    """A revert, swap or merge, which takes its targets out of force."""
    for target in targets:
        target["active"] = False
        for fact in target["facts"]:
            fact["in_force"] = False
    made = edit(number, *facts, operation=operation, targets=[target["entry"] for target in targets])
    return {**made, "active": operation != "revert", "ES": None, "S": None}


@pytest.fixture
def merged() -> list[dict[str, Any]]:
    first, second, third = edit(1, "a", "b"), edit(2, "c"), edit(3, "d")
    merge = act(4, "merge", first, second, facts=("a", "b", "c"))
    return [first, second, third, merge, act(5, "revert", third)]


def test_facts_of_a_merged_batch_are_in_force_by_the_merge(merged: Any, tmp_path: Path) -> None:
    assert fact_states(merged) == [
        ["in force by step 4"] * 2,
        ["in force by step 4"],
        ["reverted at step 5"],
        [""] * 3,
        [],
    ]
    rows = page_of({"steps": merged}, tmp_path).cells("Facts")[1:]
    states = {(row[0], row[1]): row[-1] for row in rows}
    assert states["1", "a is"] == "learnt, in force by step 4"
    assert states["3", "d is"] == "learnt, reverted at step 5"
    assert states["4", "a is"] == "learnt"


def test_facts_of_a_swap_that_was_itself_merged_are_in_force_where_the_merge_holds_them() -> None:
    first = edit(1, "a")
    swap = act(2, "swap", first, facts=("a",))
    second = edit(3, "b")
    merge = act(4, "merge", swap, second, facts=("a", "b"))
    assert fact_states([first, swap, second, merge])[:2] == [["in force by step 4"], ["in force by step 4"]]
    merge["facts"][0]["in_force"] = False  # and a later batch superseded it
    assert fact_states([first, swap, second, merge])[0] == ["no longer in force"]


def test_counts_are_of_facts_in_force_and_each_fact_counts_once(merged: Any, tmp_path: Path) -> None:
    assert facts_in_force(merged) == 3
    assert facts_edited(merged) == 4
    shown = page_of({"steps": merged}, tmp_path)
    assert "3 facts in force, of 4 edited" in shown.tiles
    head = shown.cells("Timeline")[1]
    facts = [row[head.index("facts")] for row in shown.cells("Timeline")[2:]] if "facts" in head else None
    assert facts is None or facts == ["0 of 2", "0 of 1", "0 of 1", "3", "–"]


def test_tiles_of_a_run_whose_gate_reverted_its_last_batch_show_the_state_before(tmp_path: Path) -> None:
    steps = [edit(1, "a"), edit(2, "b"), edit(3, "c")]
    steps.append(act(4, "revert", steps[2]))
    step, current = standing_step(steps)
    assert step is steps[1]
    assert current
    shown = page_of({"steps": steps}, tmp_path)
    assert "92.0 ES, newest batch in force (step 2)" in shown.tiles
    assert not [tile for tile in shown.tiles if tile.startswith("93.0")]


def test_a_state_that_was_never_scored_is_said_to_be_so(merged: Any, tmp_path: Path) -> None:
    step, current = standing_step(merged)
    assert (step["step"] if step else None, current) == (2, False) or not current
    assert "The state in force was not scored" in write_report({"steps": merged}, tmp_path).read_text()


def test_the_title_names_every_run(tmp_path: Path) -> None:
    one, other = synthetic_run(2, 1), synthetic_run(2, 1, seed=1)
    assert page_of({"emmet": one, "memit": other}, tmp_path).title == "Synthetic run: emmet, memit"
    one["title"], other["title"] = "EMMET on the demo world", "Another"
    assert page_of({"emmet": one, "memit": other}, tmp_path).title == "EMMET on the demo world, Another: memit"
    assert page_of(one, tmp_path).title == "EMMET on the demo world"


@pytest.mark.parametrize(
    ("gate", "value", "bound", "said"),
    [
        ("cola.mcc: max_drop 0.05 at 95 %", -0.03, -0.01, "found −0.030, bound −0.010, kept down to −0.050"),
        ("NS: max_drop 2", 0.5, None, "found +0.5, kept down to −2.0"),
        ("drift.perplexity: max_rise 3", 1.25, None, "found +1.250, kept up to +3.000"),
        ("earlier.ES: min 90", 97.4, None, "found 97.4, kept down to 90.0"),
        ("cola.mcc: max 0.5", -0.125, None, "found −0.125, kept up to 0.500"),
        ("written: min 0.9", 0.9512, None, "found 0.951, kept down to 0.900"),
    ],
)
def test_what_was_found_and_what_is_kept_have_one_sign_and_as_many_digits(
    gate: str, value: float, bound: float | None, said: str, tmp_path: Path
) -> None:
    step = edit(1, "a", gates=[{"gate": gate, "value": value, "bound": bound, "tripped": False}])
    [row] = (
        page_of({"steps": [step]}, tmp_path).cells("Timeline")[2:]
        or page_of({"steps": [step]}, tmp_path).cells("Timeline")[1:]
    )
    assert f"✓ kept {gate}: {said}" in row


def test_no_table_has_a_column_or_a_row_of_dashes_only(tmp_path: Path) -> None:
    steps = [edit(1, "a"), edit(2, "b"), edit(3, "c")]
    for step in steps[:2]:
        # What fine-tuning tells: no target values, nothing solved.
        step["diagnosis"] = {"requests": 1, "converged": None, "reached": None, "written": {}, "condition": {},
                             "size": {"m": 0.01}, "load": {"m": 0.1}, "faults": []}  # fmt: skip
        step["timings"] = {"edit": 1.0}
        step["drift"] = {"weight_norm": 0.1}
    shown = page_of({"a": {"steps": steps}, "b": {"steps": steps}}, tmp_path)
    assert {"Runs", "Timeline", "Diagnosis", "Seconds", "Drift", "Facts"} <= set(shown.tables)
    for label in shown.tables:
        rows = [row for row in shown.cells(label) if len(row) > 1]
        body = [row for row in rows if len(row) == len(rows[-1])][1:]
        for column in zip(*body, strict=True):
            assert set(column) != {"–"}, label
        for row in body:
            assert set(row[1:]) != {"–"}, label
    assert [row[0] for row in shown.cells("Seconds")][1:] == ["1", "2"]


def test_a_plot_needs_two_places_on_its_axis(tmp_path: Path) -> None:
    run = synthetic_run(1, 2)
    write_report(run, tmp_path)
    assert list(tmp_path.glob("*.png")) == []
    assert seconds_chart(run) is not None  # there is a bar, of which the table tells all


def test_up_to_fifty_rows_are_shown_and_more_say_how_many(tmp_path: Path) -> None:
    short, long = page_of(synthetic_run(50, 1), tmp_path / "a"), page_of(synthetic_run(60, 1), tmp_path / "b")
    assert "tall" not in short.tables["Timeline"]["box"]
    assert short.more["Timeline"] is None  # hidden
    assert len(long.cells("Timeline")) == 62
    assert "tall" in long.tables["Timeline"]["box"]
    assert long.more["Timeline"] == "10 of 60, scroll"


def test_steps_whose_gate_tripped_are_always_shown(tmp_path: Path) -> None:
    run = synthetic_run(60, 1)
    for step in run["steps"]:
        step["gates"] = [{"gate": "ES: min 1", "value": 5.0, "bound": None, "tripped": step["step"] == 41}]
    rows = page_of(run, tmp_path).cells("Tripped gates")[1:]
    assert [row[0] for row in rows] == ["41"]
    assert "✕ tripped" in rows[0][-1]
    assert "Tripped gates" not in page_of(synthetic_run(20, 1), tmp_path).tables  # the timeline shows them all


def test_means_of_few_batches_are_marked_and_have_no_band() -> None:
    series = Series("x", [0, 1, 2], [3.0, 2.0, 1.0], [2.0, 1.0, 0.0], [4.0, 3.0, 2.0], counts=[6, 5, 4])
    assert series.solid == 2
    assert Series("x", [0, 1], [1.0, 2.0]).solid == 2
    chart = ages_chart({"emmet": synthetic_run(8, 1)})
    assert chart is not None
    assert chart.panels[0].series[0].counts == [8, 7, 6, 5, 4, 3, 2, 1]
    figure = plot_chart(chart)
    assert figure is not None
    solid, dashed, hollow = figure.axes[0].get_lines()[:3]
    assert np.asarray(solid.get_xdata()).tolist() == [0, 1, 2, 3]
    assert np.asarray(hollow.get_xdata()).tolist() == [4, 5, 6, 7]
    assert hollow.get_markerfacecolor() == "none"
    assert dashed.get_linestyle() != "-"
    band = np.asarray(figure.axes[0].collections[0].get_paths()[0].vertices)
    assert max(band[:, 0]) == 3
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()][:2] == ["0\nn 8", "1\nn 7"]
    assert f"fewer than {FEW} batches" in chart.caption


def test_lines_of_batches_have_a_legend_of_their_colours() -> None:
    figure = plot_chart(batches_chart(synthetic_run(6, 1)))
    assert figure is not None
    [bar] = figure.axes[1:]
    assert [t.get_text() for t in bar.get_yticklabels()] == ["edits of step 1", "edits of step 5"]


def test_captions_tell_of_what_is_shown_only() -> None:
    run = synthetic_run(4, 1)
    for step in run["steps"]:
        step["drift"] = {"perplexity": 4.0 + step["step"], "nll": 1.0}
    chart = drift_chart(run)
    assert chart is not None
    assert chart.caption == "Drift of the model: perplexity of plain text."


def difference(first: str, second: str) -> float:
    """CIE76 distance of two sRGB colours."""

    def lab(color: str) -> tuple[float, float, float]:
        r, g, b = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
        r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (r, g, b))
        x, y, z = (
            (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505, 0.2126 * r + 0.7152 * g + 0.0722 * b,
            (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
        )  # fmt: skip
        x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
        return 116 * y - 16, 500 * (x - y), 200 * (y - z)

    return sum((a - b) ** 2 for a, b in zip(lab(first), lab(second), strict=True)) ** 0.5


def test_colours_differ_by_more_than_a_shade_on_light_and_dark_pages_and_in_pictures() -> None:
    css = (Path(__file__).parents[3] / "evals/report/templates/report.css").read_text("utf-8")
    palettes = [list(COLORS)]
    for block in re.findall(r":root \{[^}]*--c0[^}]*\}", css):
        palettes.append([re.search(rf"--c{n}: (#[0-9a-f]{{6}})", block)[1] for n in range(6)])  # type: ignore[index]
    assert len(palettes) == 4  # pictures, light, dark, print
    for palette in palettes:
        for one, other in itertools.combinations(palette, 2):
            assert difference(one, other) > 25, (one, other)


def test_lost_facts_name_the_step_and_the_nearest_request(tmp_path: Path) -> None:
    steps = [edit(1, "a"), edit(2, "b")]
    steps[0]["facts"][0] |= {
        "lost_at": 2, "lost_to": {"step": 2, "subject": "b", "prompt": "b is", "target_new": "new", "cosine": 0.876},
    }  # fmt: skip
    steps[1]["interference"] = {
        "cosine": 0.876, "near": 0, "compared": 1, "step": 1, "new": {"prompt": "b is", "target_new": "new"},
        "earlier": {"prompt": "a is", "target_new": "new"},
    }  # fmt: skip
    run = {"steps": steps, "losses": {"known": True, "keys": None}}
    shown = page_of(run, tmp_path)
    assert shown.cells("Lost facts")[1] == ["1", "a is", "new", "2", "b is", "new", "0.88"]
    assert shown.cells("Interference")[1] == ["2", "0.88", "b is new", "a is new", "1", "0 of 1"]
    assert "learnt, lost at step 2" in shown.cells("Facts")[1]
    facts = json.loads((tmp_path / "data" / "facts.json").read_text())
    assert [fact["lost_at"] for fact in facts] == [2, None]
