"""The explorer in headless Chromium: links, keys, filters by one attack, pictures of changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sigma_ser.core.rows import CELL_COLUMNS
from sigma_ser.report.cells import page_cells
from sigma_ser.report.changes import packed
from sigma_ser.report.findings import rows_of
from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.page import render_page

FRAMES, CHANNELS = 40, 16
PLACES = np.array([0, 3, 5 * CHANNELS + 7, FRAMES * CHANNELS - 1])
CHOSEN = "return document.getElementById('pick-utterance').value"
LISTED = "return [...document.getElementById('pick-utterance').options].map(o => o.value)"
PAINTED = """
    const canvas = document.querySelector("#outcome canvas");
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    const found = [];
    for (let i = 0; i < canvas.width * canvas.height; i++)
        if (data[4 * i + 3]) found.push([i % canvas.width, Math.floor(i / canvas.width)]);
    return [canvas.width, canvas.height, found]
"""


@pytest.fixture(scope="module")
def rows(make_rows: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    attacks = (("pgd", None, None, 1.0, 0.4), ("pgd", "gradient", 8, 0.6, 0.3))
    return make_rows(utterances=21, sparsities=(0.02,), epsilons=(1.0,), attacks=attacks)


@pytest.fixture(scope="module")
def page(
    tmp_path_factory: pytest.TempPathFactory,
    rows: pl.DataFrame,
    make_inputs: Callable[..., ReportInputs],
    make_exemplar: Callable[..., Any],
) -> Path:
    changes = rows.filter(pl.col("utterance") == "utt-0005").select(
        *CELL_COLUMNS,
        "utterance",
        pl.lit(FRAMES).alias("frames"),
        pl.lit(CHANNELS).alias("channels"),
        pl.lit(packed(PLACES)).alias("places"),
    )
    exemplar = make_exemplar("utt-0001", attack="pgd", explainer="gradient", sparsity=0.02,
                             epsilon=1.0)  # fmt: skip
    path = tmp_path_factory.mktemp("explorer") / "index.html"
    path.write_text(render_page(make_inputs(rows, changes=changes, exemplars=[exemplar])), "utf-8")
    return path


@pytest.fixture
def opened(reader: Any, page: Path) -> Any:
    reader.open(page)
    return reader.browser


def cell_of(rows: pl.DataFrame, victim: str, explainer: str | None) -> dict[str, Any]:
    here = [one for one in page_cells(rows).to_dicts() if one["victim"] == victim]
    (cell,) = [one for one in here if one["explainer"] == explainer]
    return cell


def choose(browser: Any, selector: str, value: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("css selector", selector)).select_by_value(value)


def test_filters_are_about_the_chosen_attack(reader: Any, opened: Any, rows: pl.DataFrame) -> None:
    cell = cell_of(rows, "bilstm", "gradient")
    behind = rows_of(rows, cell)
    choose(opened, "#of-victim", "bilstm")
    choose(opened, "#of-attack", cell["cell"])
    right, flipped = pl.col("correct_before"), pl.col("success")
    for value, wanted in (("1", right & flipped), ("0", right & ~flipped), ("-1", ~right)):
        choose(opened, "#of-outcome", value)
        expected = set(behind.filter(wanted)["utterance"])
        assert set(opened.execute_script(LISTED)) == expected, value
    choose(opened, "#of-outcome", "")
    target = behind["prediction_after"][0]
    choose(opened, "#of-prediction", target)
    expected = set(behind.filter(pl.col("prediction_after") == target)["utterance"])
    assert set(opened.execute_script(LISTED)) == expected
    choose(opened, "#of-outcome", "1")
    assert cell["cell"] in opened.current_url
    assert opened.get_log("browser") == []


def test_a_link_opens_an_utterance_under_an_attack_and_keys_lead_on(
    reader: Any, page: Path, rows: pl.DataFrame
) -> None:
    reader.open(page)
    browser = reader.browser
    cell = cell_of(rows, "mean-pool", None)
    browser.execute_script(f"location.hash = '#utterance=utt-0005&cell={cell['cell']}'")
    reader.wait_for(lambda: browser.execute_script(CHOSEN) == "utt-0005")
    row = rows_of(rows, cell).filter(pl.col("utterance") == "utt-0005").to_dicts()[0]
    text = browser.find_element("id", "outcome").text
    assert f"predicts {row['prediction_before']}" in text
    assert f"{row['frames_touched']} frames" in text
    # The picture shows exactly the places that were changed, frames to the right.
    width, height, painted = browser.execute_script(PAINTED)
    assert (width, height) == (FRAMES, CHANNELS)
    assert {tuple(place) for place in painted} == {
        (int(place) // CHANNELS, int(place) % CHANNELS) for place in PLACES
    }
    listed = browser.execute_script(LISTED)
    from selenium.webdriver.common.keys import Keys

    # The listening element is the page, no field.
    browser.execute_script("document.activeElement.blur()")
    body = browser.find_element("tag name", "body")
    body.send_keys(Keys.ARROW_RIGHT)
    after = listed[listed.index("utt-0005") + 1]
    assert browser.execute_script(CHOSEN) == after
    assert f"utterance={after}" in browser.current_url
    body.send_keys(Keys.ARROW_LEFT)
    assert browser.execute_script(CHOSEN) == "utt-0005"
    # Another attack is one click away, and one with pictures shows them.
    choose(browser, "#pick-utterance", "utt-0001")
    guided = cell_of(rows, "bilstm", "gradient")["cell"]
    button = browser.find_element("css selector", f"#outcomes button[data-cell={guided}]")
    browser.execute_script("arguments[0].click()", button)
    assert f"cell={guided}" in browser.current_url
    shown = browser.find_element("css selector", ".exemplar:not([hidden]) .attempt:not([hidden])")
    assert shown.get_attribute("data-cell") == guided
    assert browser.get_log("browser") == []


def test_a_chart_shows_the_text_of_the_nearest_mark(reader: Any, opened: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    mark = opened.find_element("css selector", "#strength .dot")
    text = opened.execute_script("return arguments[0].querySelector('title').textContent", mark)
    opened.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", mark
    )
    tip = opened.find_element("id", "tip")
    offsets = itertools.cycle((12, 11))

    def hovered() -> bool:
        """Move again: a page that is still laid out may have missed the first movement."""
        ActionChains(opened).move_to_element_with_offset(mark, next(offsets), 3).perform()
        return bool(tip.is_displayed())

    reader.wait_for(hovered)
    assert tip.text == text
    brand = opened.find_element("css selector", ".brand")

    def left() -> bool:
        ActionChains(opened).move_to_element_with_offset(brand, next(offsets) - 12, 0).perform()
        return not tip.is_displayed()

    reader.wait_for(left)


def test_a_phone_shows_the_sections_as_a_menu_and_the_key_figures(reader: Any, opened: Any) -> None:
    opened.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        menu = opened.find_element("id", "menu")
        sections = opened.find_element("id", "sections")
        reader.wait_for(menu.is_displayed)
        assert not sections.is_displayed()
        menu.click()
        assert sections.is_displayed()
        assert menu.get_attribute("aria-expanded") == "true"
        opened.find_element("css selector", "#sections a[href='#cells']").click()
        assert not sections.is_displayed()
        ends = opened.execute_script("""
            const end = (e) => e.getBoundingClientRect().right;
            const shown = "#results td.rate data, .matrix td:last-child";
            return [...document.querySelectorAll(shown)].map(end);
        """)
        assert ends
        assert max(ends) <= 390
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
