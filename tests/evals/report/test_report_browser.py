"""The report in a real browser: it renders, answers, stays within itself, and runs nothing that users wrote."""

from __future__ import annotations

import itertools
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.report.report import write_report
from seqedit.support.printable import visible
from tests.evals.report.report_data import synthetic_run

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of this machine, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(NAMES)} is on this machine")
    with playwright.sync_playwright() as driver:
        # The page is our own file and no network is used, so the sandbox, which root may not have, is not needed.
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Opened:
    """A page with everything it complained about and asked for."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1200, "height": 900}, **context)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())

    def shown(self, selector: str) -> int:
        return int(self.page.locator(f"{selector} >> visible=true").count())


@pytest.fixture(scope="module")
def long_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(synthetic_run(100, 16), tmp_path_factory.mktemp("long"))


@pytest.fixture
def opened(browser: Any, long_report: Path) -> Iterator[Opened]:
    opened = Opened(browser, long_report)
    yield opened
    assert opened.said == []
    assert opened.asked == [long_report.as_uri()]
    opened.context.close()


def test_a_hundred_steps_of_sixteen_facts_stay_under_five_megabytes(long_report: Path) -> None:
    assert long_report.stat().st_size < 5_000_000


def test_every_plot_is_drawn_by_the_page_itself(opened: Opened) -> None:
    figures = opened.page.locator("figure[data-chart]")
    assert figures.count() == 7  # none of a diagnosis, which the run lacks
    for index in range(figures.count()):
        figure = figures.nth(index)
        assert figure.locator(".live svg.plot").count() >= 1
        assert not figure.locator(".static").is_visible()
        assert figure.locator(".live svg.plot").first.bounding_box()["height"] > 100
    assert opened.page.locator("text=NaN").count() == 0


def test_the_range_filters_steps_facts_and_plots_and_reset_brings_them_back(opened: Opened) -> None:
    page = opened.page
    assert opened.shown("#emmet-steps + .scroll tbody tr") == 100
    points = "figure[data-chart=scores] polyline"
    before = page.locator(points).first.get_attribute("points").count(",")
    page.fill("input[name=from]", "40")
    page.fill("input[name=to]", "49")
    assert opened.shown("#emmet-steps + .scroll tbody tr") == 10
    assert opened.shown("#emmet-tasks + .scroll tbody tr") == 10
    assert opened.shown("tr[data-fact]") == 160
    assert page.locator(points).first.get_attribute("points").count(",") == 10 < before
    assert "10 of 100 steps shown" in page.inner_text("form.filter output")
    page.click("form.filter button[type=reset]")
    page.wait_for_function("document.querySelector('form.filter output').textContent.startsWith('100 of 100')")
    assert opened.shown("#emmet-steps + .scroll tbody tr") == 100


def test_entries_filter_by_operation_and_by_tripped_gates(opened: Opened) -> None:
    opened.page.select_option("select[name=operation]", "revert")
    assert opened.shown("#emmet-steps + .scroll tbody tr") == 2
    opened.page.select_option("select[name=operation]", "")
    opened.page.check("input[name=tripped]")
    tripped = opened.page.locator("#emmet-steps + .scroll tbody tr.tripped").count()
    assert 0 < opened.shown("#emmet-steps + .scroll tbody tr") == tripped < 100


def test_a_selected_step_shows_its_facts_and_is_marked_in_the_plots(opened: Opened) -> None:
    page = opened.page
    page.click("button[aria-label='Select step 7']")
    assert page.get_attribute("button[aria-label='Select step 7']", "aria-pressed") == "true"
    assert opened.shown("tr[data-fact]") == 16
    assert page.locator("figure[data-chart=scores] line.chosen").count() == 4
    assert "step 7 selected" in page.inner_text("form.filter output")
    page.click("button[aria-label='Select step 7']")
    assert opened.shown("tr[data-fact]") == 98 * 16  # two of the hundred are reverts


def test_facts_are_searched_by_words_and_by_state(opened: Opened) -> None:
    opened.page.fill("input[name=search]", "PERSON 41.3 polish")
    assert opened.shown("tr[data-fact]") == 1
    assert "1 of 1568 facts shown" in opened.page.inner_text(".facts-form output")
    opened.page.fill("input[name=search]", "")
    opened.page.select_option("select[name=state]", "missed")
    assert opened.shown("tr[data-fact]") == 98 * 2
    opened.page.select_option("select[name=state]", "gone")
    assert opened.shown("tr[data-fact]") == 98


def test_tables_sort_by_number_both_ways_with_the_unknown_last(opened: Opened) -> None:
    page = opened.page
    head = page.locator("#emmet-steps + .scroll thead tr:last-child th").filter(has_text="perplexity")
    cells = "[...document.querySelectorAll('#emmet-steps + .scroll tbody tr')].map(r => r.cells[0].textContent)"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert page.evaluate(cells)[0] == "100"
    column = page.locator("#emmet-steps + .scroll thead tr:last-child th").nth(5)
    column.locator("button").click()
    assert {*page.evaluate(cells)[-2:]} == {"10", "21"}  # the reverts have no scores


def test_series_and_metrics_are_switched_on_and_off(opened: Opened) -> None:
    figure = opened.page.locator("figure[data-chart=scores]")
    assert figure.locator("svg.plot").count() == 4
    figure.get_by_role("button", name="PS", exact=True).click()
    assert figure.locator("svg.plot").count() == 3
    figure.get_by_role("button", name="GE", exact=True).click()
    assert figure.locator("svg.plot").count() == 4
    lines = figure.locator("polyline.line").count()
    figure.get_by_role("button", name="all earlier edits").click()
    assert figure.locator("polyline.line").count() == lines - 3  # GE has none for earlier edits
    for name in ("newest batch",):
        figure.get_by_role("button", name=name).click()
    assert "Nothing to show" in figure.inner_text()


def test_the_pointer_reads_values_of_lines_bars_and_cells(opened: Opened) -> None:
    for chart, said in (("scores", "all earlier edits"), ("seconds", "total"), ("forgetting_batches", "edits of step"),
                        ("forgetting_matrix", "edits of step"), ("forgetting_curve", "age")):  # fmt: skip
        figure = opened.page.locator(f"figure[data-chart={chart}]")
        figure.scroll_into_view_if_needed()
        box = figure.locator("svg.plot").first.bounding_box()
        opened.page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.6)
        assert figure.locator(".tip").is_visible(), chart
        assert said in figure.locator(".tip").inner_text(), chart
        opened.page.mouse.move(2, 2)
        assert not figure.locator(".tip").is_visible(), chart


def test_plots_are_read_and_steps_selected_with_the_keyboard_alone(opened: Opened) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    plot = page.locator("figure[data-chart=scores] svg.plot").first
    plot.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    spoken = page.locator("figure[data-chart=scores] [aria-live]")
    assert spoken.inner_text().startswith("step 3: edit, step 3: 16 facts by emmet")
    page.keyboard.press("Enter")
    assert "step 3 selected" in page.inner_text("form.filter output")
    page.locator("figure[data-chart=forgetting_matrix] svg.plot").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert "at step 99" in page.inner_text("figure[data-chart=forgetting_matrix] [aria-live]")


def test_every_control_has_a_name_and_headings_go_down_by_one(opened: Opened) -> None:
    nameless = opened.page.evaluate(
        "[...document.querySelectorAll('button, input, select, a, svg[tabindex], [role=region]')].filter(e =>"
        " !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label'))).map(e => e.outerHTML)"
    )
    assert nameless == []
    levels = opened.page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))
    for table in opened.page.query_selector_all("table"):
        assert table.query_selector("caption") is not None


CONTRAST = """() => {
  const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = (c) => { const [r, g, b] = c.map(linear); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const parse = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const paper = light(parse(getComputedStyle(document.body).backgroundColor));
  const found = {};
  for (const selector of ['body', 'caption', 'a', '.good', '.bad', '.op-revert', '.op-swap', '.tick', 'figcaption']) {
    const element = document.querySelector(selector);
    const style = getComputedStyle(element);
    const ink = light(parse(selector === '.tick' ? style.fill : style.color));
    found[selector] = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_in_light_and_dark(browser: Any, long_report: Path, scheme: str) -> None:
    opened = Opened(browser, long_report, color_scheme=scheme)
    found = opened.page.evaluate(CONTRAST)
    # 4.5 is WCAG AA for text, 3 for large text and graphics, which the badges' outlines are.
    low = {name: ratio for name, ratio in found.items() if ratio < (3.0 if name.startswith(".op") else 4.5)}
    assert low == {}
    paper = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
    opened.context.close()


def test_print_is_light_complete_and_without_controls(browser: Any, long_report: Path) -> None:
    opened = Opened(browser, long_report, color_scheme="dark")
    opened.page.emulate_media(media="print")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.shown("form") == 0
    assert opened.shown("tr[data-fact]") == 1568
    assert opened.page.evaluate("getComputedStyle(document.querySelector('.tall')).maxHeight") == "none"
    opened.context.close()


def test_a_narrow_screen_scrolls_tables_and_not_the_page(browser: Any, long_report: Path) -> None:
    opened = Opened(browser, long_report)
    opened.page.set_viewport_size({"width": 360, "height": 740})
    opened.page.wait_for_timeout(300)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    opened.context.close()


def test_a_long_table_shows_ten_rows_and_says_so_and_a_filtered_short_one_shows_all(opened: Opened) -> None:
    box, note = opened.page.locator("#emmet-steps + .scroll"), opened.page.locator("#emmet-steps + .scroll + .more")
    assert note.inner_text().startswith("10 of 100, scroll")
    assert box.evaluate("e => e.clientHeight < e.scrollHeight && getComputedStyle(e).borderTopWidth === '1px'")
    opened.page.fill("input[name=to]", "40")
    assert box.evaluate("e => e.clientHeight >= e.scrollHeight - 1")
    assert "of 40" not in note.inner_text()


def test_the_caption_of_a_wide_table_stays_within_a_phones_screen(browser: Any, long_report: Path) -> None:
    opened = Opened(browser, long_report)
    opened.page.set_viewport_size({"width": 390, "height": 844})
    opened.page.wait_for_timeout(300)
    box = opened.page.locator("#emmet-steps + .scroll")
    assert "more columns to the right" in opened.page.locator("#emmet-steps + .scroll + .more").inner_text()
    box.evaluate("e => { e.scrollLeft = 200; }")
    caption, frame = box.locator(".cap").bounding_box(), box.bounding_box()
    assert caption is not None
    assert frame is not None
    assert frame["x"] - 1 <= caption["x"]
    assert caption["x"] + caption["width"] <= frame["x"] + frame["width"] + 1
    opened.context.close()


def test_a_series_that_is_off_is_not_struck_through(opened: Opened) -> None:
    off = opened.page.locator(".keys button[aria-pressed=false]").first
    line, style = off.evaluate("e => [getComputedStyle(e).textDecorationLine, getComputedStyle(e).borderTopStyle]")
    assert (line, style) == ("none", "dashed")


def test_small_numbers_are_written_whole_beside_their_axis(browser: Any, tmp_path: Path) -> None:
    run = synthetic_run(4, 2)
    for number, step in enumerate(run["steps"]):
        step["drift"] = {**(step.get("drift") or {}), "kl": 0.00054 + number * 0.00001}
    opened = Opened(browser, write_report(run, tmp_path))
    cut = opened.page.evaluate(
        "[...document.querySelectorAll('svg.plot')].flatMap((svg) => [...svg.querySelectorAll('text.tick')].filter("
        "(t) => t.getBoundingClientRect().left < svg.getBoundingClientRect().left).map((t) => t.textContent))"
    )
    assert cut == []
    assert "0.00054" in opened.page.inner_text("main") or opened.page.locator("text.tick", has_text="0.0005").count()
    opened.context.close()


def test_without_its_script_everything_is_there_to_be_read(browser: Any, long_report: Path) -> None:
    opened = Opened(browser, long_report, java_script_enabled=False)
    assert opened.shown("figure .static svg") == 7
    assert opened.shown("form") == 0
    assert opened.shown("tr[data-fact]") == 1568
    opened.context.close()


def test_nothing_that_users_wrote_runs_or_becomes_an_element(browser: Any, tmp_path: Path) -> None:
    run = synthetic_run(6, 2, hostile=True)
    opened = Opened(browser, write_report(run, tmp_path))
    page = opened.page
    plot = page.locator("figure[data-chart=scores] svg.plot").first
    plot.focus()
    page.keyboard.press("ArrowRight")
    page.click("button[aria-label='Select step 2']")
    assert page.title() == visible(run["title"])
    assert page.locator("img").count() == 0
    assert page.locator("[onload], [onerror]").count() == 0
    assert "onerror" in page.inner_text("form.filter output")  # shown as text
    assert opened.said == []
    opened.context.close()


def test_the_policy_lets_no_other_script_and_no_request_through(browser: Any, long_report: Path) -> None:
    opened = Opened(browser, long_report)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1.0)
        opened.page.evaluate(
            """(port) => {
              const script = document.createElement('script');
              script.textContent = 'window.owned = 1';
              const image = document.createElement('img');
              image.src = `http://127.0.0.1:${port}/x.png`;
              document.body.append(script, image);
            }""",
            server.getsockname()[1],
        )
        with pytest.raises(TimeoutError):  # nobody connects
            server.accept()
    assert opened.page.evaluate("window.owned") is None
    assert sum("Content Security Policy" in said for said in opened.said) >= 2
    opened.context.close()
