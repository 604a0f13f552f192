"""Whole runs on real sound, as a reader meets their pages: the demo, and a TESS study."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sigma_ser as ss
from sigma_ser.demo import study_path

EXAMPLES = Path(__file__).parents[2] / "examples"
# The shipped studies with two small victims, few utterances and short training.
REDUCED = [
    'victims=[{head="mlp", epochs=4}, {head="linear", epochs=4}]',
    "evaluation.utterances=7",
    "evaluation.exemplars=2",
    "consistency.settings.steps=2",
    "executor.name=inline",
]
LINES = """
    return [...document.querySelectorAll("#results tbody tr")].map(
        (line) => Number(line.querySelector("[data-of=asr]").getAttribute("value")))
"""
OVERFLOW = """
    const room = document.documentElement.clientWidth;
    const inside = (e) => e.closest(".scroll, .charts.wide figure, nav, pre, .skip, dialog");
    return [...document.querySelectorAll("main *")].filter(
        (e) => !inside(e) && e.getBoundingClientRect().right > room + 1
    ).map((e) => e.outerHTML.slice(0, 90)).concat(
        document.documentElement.scrollWidth > room ? ["the page itself"] : [])
"""


@pytest.fixture(scope="module")
def demo_page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = ss.run(study_path(), out=tmp_path_factory.mktemp("demo") / "run", overrides=REDUCED)
    return Path(study.report)


@pytest.fixture(scope="module")
def tess_page(browser: Any, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Links to the recordings of eight words: a corpus like the whole one, read in a second.
    few = tmp_path_factory.mktemp("tess")
    files = sorted((real_data / "tess").rglob("*.flac"))
    words = sorted({file.stem.split("_")[1] for file in files})[::25]
    for file in files:
        if file.stem.split("_")[1] in words:
            (few / file.name).symlink_to(file)
    out = tmp_path_factory.mktemp("tess-run") / "run"
    here = [f"corpus.root={few}", "corpus.folds=[0]"]
    study = ss.run(EXAMPLES / "tess.toml", out=out, overrides=[*REDUCED, *here])
    return Path(study.report)


@pytest.fixture(params=["demo", pytest.param("tess", marks=pytest.mark.real)])
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(f"{request.param}_page")
    return path


def wait_for(question: Callable[[], Any], seconds: float = 20.0) -> None:
    """Ask until the answer is yes."""
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)


def test_a_reader_goes_through_the_whole_page(browser: Any, page: Path) -> None:
    for log in ("performance", "browser"):
        browser.get_log(log)  # what earlier pages left
    browser.set_window_size(1280, 1000)
    browser.get(page.as_uri())
    wait_for(lambda: browser.execute_script("return !document.getElementById('picker').hidden"))

    answer = browser.find_element("css selector", ".answer").text
    assert "had recognised" in answer
    rates = browser.execute_script(LINES)
    heading = browser.find_element(
        "xpath", "//table[@id='results']//button[normalize-space()='Success rate']"
    )
    browser.execute_script("arguments[0].click()", heading)
    assert browser.execute_script(LINES) == sorted(rates, reverse=True)

    # The exemplars: their pictures load, and their recording is heard.
    browser.execute_script(
        "const o = document.getElementById('of-outcome'); o.value = '2';"
        "o.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    shown = "document.querySelector('.heard:not([hidden])')"
    wait_for(lambda: browser.execute_script(f"return {shown} !== null"))
    assert browser.execute_script(
        f"return [...{shown}.querySelectorAll('.attempt:not([hidden]) img')].length"
    )
    browser.execute_script(f"{shown}.querySelector('audio').play()")
    wait_for(lambda: browser.execute_script(f"return {shown}.querySelector('audio').currentTime"))
    assert browser.execute_script(f"return {shown}.querySelector('audio').error") is None

    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.find_element("css selector", "#theme").click()
    assert before != browser.execute_script(
        "return getComputedStyle(document.body).backgroundColor"
    )

    browser.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    for width in (1280, 390):
        # A window has a least width; the emulated device has none.
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        try:
            assert browser.execute_script(OVERFLOW) == [], width
        finally:
            browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    asked = [
        message["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert page.as_uri() in asked, "the log works"
    assert [u for u in asked if not u.startswith(("data:", page.as_uri()))] == []
    assert browser.get_log("browser") == []
