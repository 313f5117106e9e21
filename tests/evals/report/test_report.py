"""The report: self-contained, complete, and patient with what was not measured."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from evals.report.charts import collapse_of, half_life_of, scores_chart, tasks_chart
from evals.report.comparison import Cell, ComparisonRow
from evals.report.plots import plot_chart, plot_forgetting_matrix
from evals.report.report import number, signed, write_report
from seqedit.errors import EnvironmentFailure, InputError
from tests.evals.report.report_data import HOSTILE, synthetic_run

SUMMARY: dict[str, Any] = {
    "title": "Edits of <demo> & more",
    "model": {"name": "demo", "fingerprint": "ab12"},
    "method": {"name": "memit", "layers": [1, 2]},
    "baseline": {"cola": {"mcc": 0.412}, "sst2": {"acc": 0.9}, "counterfact": {"ES": 12.5}},
    "steps": [
        {
            "step": 1, "entry": "c0ffee1234567890", "requests": 8,
            "ES": 100.0, "PS": 87.5, "NS": 60.0, "S": 79.1,
            "earlier": None, "seconds": 3.25, "timings": {"edit": 2.0, "tasks": 1.25},
            "tasks": {"cola": {"mcc": 0.398, "change": -0.014, "ci_low": -0.03, "ci_high": 0.01},
                      "sst2": {"acc": 0.9, "change": 0.0, "ci_low": -0.01, "ci_high": 0.01}},
            "facts": [{"subject": "Bado", "prompt": "{} plays", "target_true": "golf", "target_new": "rowing",
                       "before": "golf", "after": "<b>rowing</b>"}],
        },
        {
            "step": 2, "entry": "beefbeefbeefbeef", "requests": 8,
            "ES": 99.0, "PS": 85.0, "NS": 58.0, "S": 77.0,
            "earlier": {"ES": 91.5, "PS": 80.0, "NS": 59.0, "S": 74.4, "requests": 8}, "seconds": 3.5,
            "timings": {"edit": 2.5, "tasks": 1.0},
            "tasks": {"cola": {"mcc": 0.3, "change": -0.112, "ci_low": -0.18, "ci_high": -0.05},
                      "sst2": {"acc": 0.89, "change": -0.01, "ci_low": -0.02, "ci_high": 0.01}},
        },
    ],
    "forgetting": [[100.0, None], [91.5, 99.0]],
    "forgetting_metric": "ES",
}  # fmt: skip


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that elements nest."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str, Path]:
    path = write_report(SUMMARY, tmp_path_factory.mktemp("report"))
    text = path.read_text(encoding="utf-8")
    return Page(text), text, path.parent


def test_files_lie_beside_the_page(page: tuple[Page, str, Path]) -> None:
    names = {path.name for path in page[2].iterdir()}
    plots = ("scores", "tasks", "forgetting_matrix", "forgetting_batches", "forgetting_curve", "seconds")
    assert names == {"report.html", "data"} | {f"{plot}.{kind}" for plot in plots for kind in ("png", "svg")}
    for path in page[2].glob("*.svg"):
        ElementTree.parse(path)
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in page[2].glob("*.png"))


def test_page_requests_nothing(page: tuple[Page, str, Path]) -> None:
    parsed, text, _ = page
    assert not {tag for tag, _ in parsed.tags} & {"iframe", "img", "object", "base"}
    for tag, attributes in parsed.tags:
        assert tag != "script" or set(attributes) <= {"type", "id"}
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            if tag == "a" and value is not None:  # to a part of the page, or to a file beside it that is there
                assert value.startswith("#") or (page[2] / value).is_file(), value
            else:
                assert value is None or value.startswith(("#", "data:")), (tag, value)
    [policy] = [
        a["content"] for t, a in parsed.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_page_shows_the_numbers(page: tuple[Page, str, Path]) -> None:
    words = " ".join(" ".join(page[0].words).split())
    for shown in (
        "c0ffee1234",
        "87.5",
        "91.5",
        "0.398",
        "\u22120.112",
        "\u22120.180 to \u22120.050",
        "0.412",
        "12.500",
    ):
        assert shown in words, shown
    assert "Bado plays" in words


def test_text_of_the_summary_is_escaped(page: tuple[Page, str, Path]) -> None:
    assert "<demo>" not in page[1]
    assert "&lt;b&gt;rowing" in page[1]


def test_only_changes_beyond_chance_are_coloured(page: tuple[Page, str, Path]) -> None:
    assert re.findall(r'class="bad">([^<]*)<', page[1]) == ["\u22120.112"]
    assert 'class="good"' not in page[1]


def test_figures_have_alternative_texts_and_unique_ids(page: tuple[Page, str, Path]) -> None:
    figures = [attributes for tag, attributes in page[0].tags if tag == "svg"]
    assert len(figures) == 6
    assert all(f.get("role") == "img" and len(f.get("aria-label") or "") > 20 for f in figures)
    ids = [attributes["id"] for _, attributes in page[0].tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for reference in re.findall(r"url\(#([^)]*)\)", page[1]) + re.findall(r'xlink:href="#([^"]*)"', page[1]):
        assert reference in ids


def test_dark_and_print_have_rules_and_plots_follow(page: tuple[Page, str, Path]) -> None:
    assert "prefers-color-scheme: dark" in page[1]
    assert "@media print" in page[1]
    assert "currentColor" in page[1]


def test_svg_is_well_formed(page: tuple[Page, str, Path]) -> None:
    for svg in re.findall(r"<svg.*?</svg>", page[1], flags=re.DOTALL):
        ElementTree.fromstring(svg)


def test_same_summary_same_bytes(page: tuple[Page, str, Path], tmp_path: Path) -> None:
    write_report(SUMMARY, tmp_path)
    for path in page[2].rglob("*.*"):
        assert (tmp_path / path.relative_to(page[2])).read_bytes() == path.read_bytes(), path.name


def test_missing_fields_show_a_dash(tmp_path: Path) -> None:
    bare = {"steps": [{"step": 1}, {"step": 2, "ES": 50.0, "entry": None, "tasks": None, "earlier": {}}]}
    words = " ".join(Page(write_report(bare, tmp_path).read_text()).words)
    assert "–" in words
    assert "None" not in words
    assert "nan" not in words
    assert list(tmp_path.glob("*.png")) == []  # one point is no plot


@pytest.mark.parametrize("field", sorted(SUMMARY))
def test_any_field_may_be_missing_or_null(field: str, tmp_path: Path) -> None:
    for value in ("missing", None):
        summary = copy.deepcopy(SUMMARY)
        summary.pop(field)
        if value is None:
            summary[field] = None
        if field != "steps" or value is None:
            words = Page(write_report(summary, tmp_path).read_text()).words
            assert "None" not in " ".join(words)


def test_several_runs_share_a_page(tmp_path: Path) -> None:
    text = write_report({"memit": SUMMARY, "emmet": copy.deepcopy(SUMMARY)}, tmp_path).read_text()
    parsed = Page(text)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"memit", "emmet"} <= set(ids)
    assert (tmp_path / "memit_scores.png").exists()
    assert (tmp_path / "emmet_scores.png").exists()
    assert (tmp_path / "forgetting_curve.png").exists()


def test_empty_summaries_and_clashing_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run"):
        write_report({}, tmp_path)
    with pytest.raises(InputError, match="too alike"):
        write_report({"memit 1": SUMMARY, "memit-1": SUMMARY}, tmp_path)


def test_plots_without_data_are_none() -> None:
    assert plot_chart(scores_chart({"steps": []})) is None
    assert plot_chart(tasks_chart({"steps": [{"step": 1, "tasks": {"cola": {"mcc": 0.1}}}]})) is None
    assert plot_forgetting_matrix({"forgetting": [[None]]}) is None


def test_heat_map_leaves_what_is_not_measured_blank() -> None:
    figure = plot_forgetting_matrix({"forgetting": [[100.0, None], [None, 50.0]]})
    assert figure is not None
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["100", "50"]


def test_plotting_leaves_matplotlib_alone(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_report(SUMMARY, tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_numbers_are_written_for_readers() -> None:
    assert [number(v) for v in (None, 1.25, 1234, float("nan"), "x")] == ["–", "1.2", "1,234", "–", "x"]
    assert [signed(v) for v in (0.01, -0.01, 0.0, -0.0001, None)] == [
        "+0.010",
        "\u22120.010",
        "0.000",
        "0.000",
        "–",
    ]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    run = synthetic_run(8, 2, hostile=True)
    text = write_report({"a": run, HOSTILE: run}, tmp_path_factory.mktemp("hostile")).read_text("utf-8")
    return Page(text), text


def test_texts_of_users_never_become_markup_or_end_a_script(hostile: tuple[Page, str]) -> None:
    parsed, text = hostile
    assert not {tag for tag, _ in parsed.tags} & {"img", "iframe"}
    assert sum(tag == "script" for tag, _ in parsed.tags) == 2
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert "<img" not in text
    assert "{{7*7}}" in text  # shown as it is, not worked out
    assert "\u2028" not in text[text.index('id="report-data"') :]


def test_embedded_data_is_json_and_keeps_the_texts(hostile: tuple[Page, str]) -> None:
    start = hostile[1].index('id="report-data">') + len('id="report-data">')
    data = json.loads(hostile[1][start : hostile[1].index("</script>", start)])
    assert HOSTILE in data["runs"]["a"][0]["message"]


def test_entries_are_marked_by_what_became_of_them(tmp_path: Path) -> None:
    run = synthetic_run(32, 2)
    for fact in run["steps"][4]["facts"]:
        fact["in_force"] = False
    text = write_report(run, tmp_path).read_text()
    words = " ".join(" ".join(Page(text).words).split())
    for said in ("reverted at step 10", "swapped at step 31", "in force, 1 of 2 superseded", "superseded "):
        assert said in words, said
    row = text[text.index('<tr data-step="5"') : text.index('<tr data-step="6"')]
    assert ">superseded<" in row


def test_gates_name_the_limit_and_what_was_found(tmp_path: Path) -> None:
    run = synthetic_run(4, 2)
    run["stopped"] = "step 4: tripped <now>"
    run["steps"][3]["gates"] = [
        {"gate": "cola.mcc: max_drop 0.05 at 95 %", "value": -0.2, "bound": -0.11, "tripped": True}
    ]
    text = write_report(run, tmp_path).read_text()
    words = " ".join(" ".join(Page(text).words).split())
    assert "✕ tripped cola.mcc: max_drop 0.05 at 95 %: found −0.200, bound −0.110, kept down to −0.050" in words
    assert "Stopped by a gate: step 4: tripped <now>" in words
    assert re.findall(r'<tr data-step="(\d+)" class="tripped"', text) == ["4"]


def test_changes_against_the_step_before_are_shown_where_known(tmp_path: Path) -> None:
    text = write_report(synthetic_run(3, 1), tmp_path).read_text()
    words = " ".join(" ".join(Page(text).words).split())
    assert "cola, step before" in words
    assert "+0.001 \u22120.010 to +0.012" in words


def test_half_life_and_collapse_are_marked_and_named(tmp_path: Path) -> None:
    run = synthetic_run(60, 2, bend=30)
    step = run["collapse"]["earlier.ES"]["step"]
    text = write_report(run, tmp_path).read_text()
    words = " ".join(" ".join(Page(text).words).split())
    assert f"Collapse of earlier edits' ES from step {step}" in words
    assert abs(step - 31) <= 2
    assert f"Half-life of edits: {run['half_life']:.1f} steps" in words
    assert f"collapse from step {step}" in (tmp_path / "scores.svg").read_text()
    assert "half-life" in (tmp_path / "forgetting_curve.svg").read_text()


def test_a_summary_without_them_has_half_life_and_collapse_found() -> None:
    run = synthetic_run(60, 2, bend=30)
    given, half = run.pop("collapse"), run.pop("half_life")
    found = collapse_of(run)
    assert found["earlier.ES"] == given["earlier.ES"]
    assert half_life_of(run) == half
    assert collapse_of({"collapse": {}, **run}) == {}


def test_a_comparison_has_a_table_and_a_plot(tmp_path: Path) -> None:
    rows = [
        ComparisonRow("unedited", {"ES": Cell(10.0, 8.0, 12.0), "cola.mcc": Cell(-0.25)}),
        ComparisonRow("memit", {"ES": Cell(98.5, 97.0, 99.0)}, 0.625, "broke off <here>"),
    ]
    text = write_report(SUMMARY, tmp_path, comparison=rows).read_text()
    words = " ".join(" ".join(Page(text).words).split())
    for said in ("97.0 to 99.0", "\u22120.250", "0.62", "broke off <here>"):
        assert said in words, said
    assert (tmp_path / "comparison.svg").is_file()


def test_a_run_may_be_called_as_the_page_calls_its_parts(tmp_path: Path) -> None:
    text = write_report({"main": SUMMARY, "Data": SUMMARY, "runs": SUMMARY}, tmp_path).read_text()
    ids = [attributes["id"] for _, attributes in Page(text).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_folder_that_cannot_be_written_is_an_environment_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match="report cannot be written"):
        write_report(SUMMARY, tmp_path / "file" / "report")
