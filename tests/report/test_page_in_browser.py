"""The page in headless Chromium: no console output, no network, and all controls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.page import render_page

PICTURES = """
    const shown = ".exemplar:not([hidden]) .attempt:not([hidden]) img";
    return [...document.querySelectorAll(shown)].every(
        (picture) => picture.complete && picture.naturalWidth > 0)
"""
SOUND = """
    const audio = document.querySelector(".exemplar:not([hidden]) audio");
    return audio.currentTime > 0.2 && audio.error === null
"""
HOSTILE = (
    "<img src=x onerror=\"document.title='hacked'\"></script><script>document.title='hacked'//"
)


@pytest.fixture(scope="module")
def page(
    tmp_path_factory: pytest.TempPathFactory,
    make_rows: Callable[..., pl.DataFrame],
    make_inputs: Callable[..., ReportInputs],
    make_exemplar: Callable[..., Any],
) -> Path:
    rows = make_rows(utterances=21, sparsities=(0.01, 0.02), epsilons=(1.0,)).with_columns(
        pl.col("utterance").replace("utt-0003", HOSTILE)
    )
    exemplars = [
        make_exemplar("utt-0001"),
        make_exemplar("utt-0001", attack="pgd", scope=1),
        make_exemplar("utt-0002", seed=1, label="fear"),
        make_exemplar(HOSTILE, text=HOSTILE),
    ]
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(render_page(make_inputs(rows, exemplars=exemplars)), "utf-8")
    return path


@pytest.fixture
def opened(reader: Any, page: Path) -> Any:
    reader.open(page)
    return reader.browser


def css(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def choose(browser: Any, selector: str, value: str) -> None:
    """Choose an option as a reader does, events included."""
    from selenium.webdriver.support.select import Select

    Select(css(browser, selector)).select_by_value(value)


def test_nothing_is_logged_and_nothing_fetched(reader: Any, page: Path) -> None:
    reader.open(page)
    assert reader.fetched(page) == []
    assert reader.browser.get_log("browser") == []
    assert reader.browser.title != "hacked"


def test_a_table_sorts_by_value_and_back(reader: Any, opened: Any) -> None:
    before = reader.rates()
    heading = opened.find_element(
        "xpath", "//table[@id='results']//button[normalize-space()='Success rate']"
    )
    # Not below the sticky header.
    opened.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", heading
    )
    heading.click()
    # Sorting is stable, so the list of values suffices.
    assert reader.rates() == sorted(before, reverse=True)
    assert before != sorted(before, reverse=True)
    heading.click()
    assert reader.rates() == sorted(before)
    assert heading.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"


def test_a_table_filters_and_counts(reader: Any, opened: Any) -> None:
    css(opened, "#filter").send_keys("bilstm integrated")
    reader.wait_for(lambda: css(opened, "#shown").text)
    lines = opened.find_elements("css selector", "#results tbody tr")
    shown = [line for line in lines if line.is_displayed()]
    assert 0 < len(shown) < len(lines)
    assert all("bilstm" in line.text and "integrated" in line.text for line in shown)
    assert css(opened, "#shown").text == f"{len(shown)} of {len(lines)} rows"


def test_a_number_leads_to_its_line_and_a_line_to_its_rows(reader: Any, opened: Any) -> None:
    css(opened, "#filter").send_keys("no such line")
    reader.wait_for(lambda: css(opened, "#shown").text.startswith("0 of"))
    number = css(opened, ".answer .n")
    cell = number.get_attribute("href").split("#")[1]
    opened.execute_script("arguments[0].click()", number)
    reader.wait_for(lambda: css(opened, f"#{cell}").is_displayed())
    right = css(opened, f"#{cell} [data-of=utterances]").get_attribute("value")
    flipped = css(opened, f"#{cell} [data-of=flipped]").get_attribute("value")
    opened.execute_script("arguments[0].click()", css(opened, f"#{cell} a[data-cell]"))
    rows = opened.find_elements("css selector", "#rows tbody tr")
    assert len(rows) == 21
    outcomes = [row.find_element("css selector", "td:nth-of-type(5)").text for row in rows]
    assert str(outcomes.count("attack succeeded")) == flipped
    assert str(len(rows) - outcomes.count("misclassified before")) == right


def test_an_utterance_is_found_shown_and_played(reader: Any, opened: Any) -> None:
    choose(opened, "#pick-utterance", "utt-0001")
    article = css(opened, ".exemplar:not([hidden])")
    assert "utt-0001" in article.text
    assert len(opened.find_elements("css selector", ".exemplar:not([hidden])")) == 1
    reader.wait_for(lambda: opened.execute_script(PICTURES))
    # The other attack on the same utterance.
    choice = article.find_element("css selector", ".attempts select")
    opened.execute_script(
        "arguments[0].selectedIndex = 1; arguments[0].dispatchEvent(new Event('change'))", choice
    )
    assert "pgd" in article.find_element("css selector", ".attempt:not([hidden]) .verdict").text
    opened.execute_script("document.querySelector('.exemplar:not([hidden]) audio').play()")
    reader.wait_for(lambda: opened.execute_script(SOUND))
    head = "return parseFloat(document.querySelector('.exemplar:not([hidden]) .head').style.left)"
    assert opened.execute_script(head) > 0
    # Every attack on this utterance, from the rows.
    assert len(opened.find_elements("css selector", "#outcomes tbody tr")) == 2 * 8 * 2


def test_utterances_filter_by_what_happened(reader: Any, opened: Any) -> None:
    listed = "return [...document.getElementById('pick-utterance').options].map(o => o.value)"
    everyone = opened.execute_script(listed)
    assert len(everyone) == 21
    assert HOSTILE in everyone
    parts = {}
    for value in ("1", "0", "-1"):
        choose(opened, "#of-outcome", value)
        parts[value] = set(opened.execute_script(listed))
    assert set.union(*parts.values()) == set(everyone)
    assert sum(map(len, parts.values())) == 21
    choose(opened, "#of-outcome", "")
    choose(opened, "#of-speaker", "voice-1")
    choose(opened, "#of-emotion", "angry")
    assert 0 < len(opened.execute_script(listed)) < 7
    css(opened, "#find").send_keys("no such utterance")
    reader.wait_for(lambda: opened.execute_script(listed) == [])
    assert opened.get_log("browser") == []


def test_the_theme_switches_and_both_are_legible(opened: Any) -> None:
    def contrast() -> float:
        colours = opened.execute_script(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
        levels = []
        for colour in colours:
            parts = [int(part) / 255 for part in colour.strip("rgba()").split(",")[:3]]
            linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
            levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
        return (max(levels) + 0.05) / (min(levels) + 0.05)

    seen = set()
    for _ in range(2):
        css(opened, "#theme").click()
        seen.add(opened.execute_script("return document.documentElement.dataset.theme"))
        assert contrast() > 10
    assert seen == {"light", "dark"}


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows_the_window(reader: Any, opened: Any, width: int) -> None:
    assert reader.overflowing(width) == []


@pytest.mark.slow
def test_a_hundred_thousand_rows_open_without_freezing(
    reader: Any,
    browser: Any,
    tmp_path: Path,
    make_rows: Callable[..., pl.DataFrame],
    make_inputs: Callable[..., ReportInputs],
) -> None:
    rows = make_rows()
    rows = pl.concat(rows.with_columns(pl.col("utterance") + f"-{n}") for n in range(13))
    page = tmp_path / "large.html"
    page.write_text(render_page(make_inputs(rows)), "utf-8")
    reader.open(page, 60)
    # Processor time of the page's own thread, whatever else the machine does.
    browser.execute_cdp_cmd("Performance.enable", {})
    before = thread_seconds(browser)
    css(browser, "#find").send_keys("utt-0042")
    reader.wait_for(lambda: css(browser, "#found").text == "13 of 1093", 60)
    css(browser, "#filter").send_keys("bilstm")
    reader.wait_for(lambda: css(browser, "#shown").text == "48 of 96 rows", 60)
    assert thread_seconds(browser) - before < 5
    assert browser.get_log("browser") == []


def thread_seconds(browser: Any) -> float:
    """Seconds that the page's thread has worked since the count began."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
