"""The report: self-contained, complete, and patient with what was not measured."""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from evals.plots import plot_forgetting_matrix, plot_scores, plot_task_changes
from evals.report import number, signed, write_report
from seqedit.errors import InputError

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
            "tasks": {"cola": {"mcc": 0.3, "change": -0.112, "ci_low": -0.18, "ci_high": -0.05},
                      "sst2": {"acc": 0.89, "change": -0.01, "ci_low": -0.02, "ci_high": 0.01}},
        },
    ],
    "forgetting": [[100.0, None], [91.5, 99.0]],
    "forgetting_metric": "ES",
}  # fmt: skip


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that elements nest."""

    VOID = ("meta", "link", "img", "br", "hr")

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
        if "style" not in self.open:
            self.words.append(data)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str, Path]:
    path = write_report(SUMMARY, tmp_path_factory.mktemp("report"))
    text = path.read_text(encoding="utf-8")
    return Page(text), text, path.parent


def test_files_lie_beside_the_page(page: tuple[Page, str, Path]) -> None:
    names = {path.name for path in page[2].iterdir()}
    assert names == {
        "report.html",
        "scores.png",
        "tasks.png",
        "forgetting_matrix.png",
        "forgetting_curve.png",
    }
    assert all(p.read_bytes()[:4] == b"\x89PNG" for p in page[2].glob("*.png"))


def test_page_requests_nothing(page: tuple[Page, str, Path]) -> None:
    parsed, text, _ = page
    assert not {tag for tag, _ in parsed.tags} & {"script", "link", "iframe", "img"}
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
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
    assert len(figures) == 4
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
    for path in page[2].iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_missing_fields_show_a_dash(tmp_path: Path) -> None:
    bare = {"steps": [{"step": 1}, {"step": 2, "ES": 50.0, "entry": None, "tasks": None, "earlier": {}}]}
    words = " ".join(Page(write_report(bare, tmp_path).read_text()).words)
    assert "–" in words
    assert "None" not in words
    assert "nan" not in words
    assert [p.name for p in tmp_path.glob("*.png")] == []


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
    assert plot_scores({"steps": []}) is None
    assert plot_task_changes({"steps": [{"step": 1, "tasks": {"cola": {"mcc": 0.1}}}]}) is None
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
