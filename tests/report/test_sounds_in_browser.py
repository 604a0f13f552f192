"""Sounds in headless Chromium: three play, one at a time, with one cursor in all pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.page import render_page

SHOWN = ".exemplar:not([hidden]) .time > .strip, .exemplar:not([hidden]) .attempt:not([hidden])"
STATE = f"""
    const parts = [...document.querySelectorAll("{SHOWN}")];
    const sounds = parts.flatMap((part) => [...part.querySelectorAll("audio")]);
    const heads = parts.flatMap((part) => [...part.querySelectorAll(".head")]);
    return {{
        names: sounds.map((one) => one.getAttribute("aria-label").split(":")[0]),
        playing: sounds.map((one) => !one.paused),
        times: sounds.map((one) => one.currentTime),
        ready: sounds.map((one) => one.readyState),
        errors: sounds.map((one) => one.error?.message ?? null),
        lengths: sounds.map((one) => one.duration),
        places: heads.map((one) => parseFloat(one.style.left || "0")),
        seconds: Number(document.querySelector(".exemplar:not([hidden]) .time").dataset.seconds),
    }}
"""
PLAY = f"""
    const parts = [...document.querySelectorAll("{SHOWN}")];
    parts.flatMap((part) => [...part.querySelectorAll("audio")])[arguments[0]].play()
"""
CLICK = f"""
    const parts = [...document.querySelectorAll("{SHOWN}")];
    const view = parts.flatMap((part) => [...part.querySelectorAll(".view")])[arguments[0]];
    view.scrollIntoView({{block: "center"}});
    const box = view.getBoundingClientRect();
    view.dispatchEvent(new MouseEvent("click", {{
        bubbles: true, clientX: box.left + arguments[1] * box.width, clientY: box.top + 5}}));
"""


@pytest.fixture(scope="module")
def page(
    tmp_path_factory: pytest.TempPathFactory,
    make_rows: Callable[..., pl.DataFrame],
    make_inputs: Callable[..., ReportInputs],
    make_wave_exemplar: Callable[..., Any],
    make_exemplar: Callable[..., Any],
) -> Path:
    rows = make_rows(utterances=7, victims=("bilstm",), sparsities=(0.01,), epsilons=(1.0,))
    exemplars = [
        make_wave_exemplar("utt-0001"),
        make_wave_exemplar("utt-0001", seed=1, attack="pgd", sparsity=1.0),
        make_exemplar("utt-0002"),
    ]
    path = tmp_path_factory.mktemp("sounds") / "index.html"
    path.write_text(render_page(make_inputs(rows, exemplars=exemplars)), "utf-8")
    return path


@pytest.fixture
def opened(reader: Any, page: Path) -> Any:
    reader.open(page)
    return reader.browser


def state(browser: Any) -> Any:
    return browser.execute_script(STATE)


def test_three_sounds_play_one_at_a_time_with_one_cursor(reader: Any, opened: Any) -> None:
    reader.wait_for(lambda: min(state(opened)["ready"]) >= 1)
    assert state(opened)["names"] == ["Original", "Perturbed", "Difference"]
    assert state(opened)["lengths"] == pytest.approx([1.2] * 3, abs=0.001)
    for number in range(3):
        opened.execute_script(PLAY, number)
        reader.wait_for(lambda n=number: state(opened)["times"][n] > 0.05)
        assert sum(state(opened)["playing"]) <= 1
        opened.execute_script("for (const one of document.querySelectorAll('audio')) one.pause()")
        found = state(opened)
        # One place in all pictures, that of the sound that played last.
        assert len(set(found["places"])) == 1
        assert len(found["places"]) == 7
        at = 100 * found["times"][number] / found["seconds"]
        assert found["places"][0] == pytest.approx(at, abs=10)
        assert found["places"][0] > 0
    assert state(opened)["errors"] == [None] * 3
    assert opened.get_log("browser") == []


def test_a_click_in_a_picture_plays_its_sound_from_there(reader: Any, opened: Any) -> None:
    reader.wait_for(lambda: min(state(opened)["ready"]) >= 1)
    # Spectrograms of the three, and then the mask, which continues the last sound.
    for picture, sound in ((2, 1), (3, 2), (0, 0), (4, 0)):
        opened.execute_script(CLICK, picture, 0.5)
        reader.wait_for(lambda s=sound: state(opened)["times"][s] >= 0.6)
        found = state(opened)
        assert sum(found["playing"]) <= 1
        assert [n for n, playing in enumerate(found["playing"]) if playing] in ([sound], [])
        assert found["places"][0] >= 49  # a click is at a whole pixel
    assert opened.get_log("browser") == []


def test_the_sounds_of_another_attack_and_utterance_are_silent(reader: Any, opened: Any) -> None:
    reader.wait_for(lambda: min(state(opened)["ready"]) >= 1)
    opened.execute_script(PLAY, 1)
    choose = """
        const choice = document.querySelector(".exemplar:not([hidden]) .attempts select");
        choice.selectedIndex = 1;
        choice.dispatchEvent(new Event("change"));
    """
    opened.execute_script(choose)
    quiet = "return [...document.querySelectorAll('audio')].every((one) => one.paused)"
    assert opened.execute_script(quiet)
    # The mask is that of the second attack; what played is hidden, so the original plays.
    opened.execute_script(CLICK, 4, 0.25)
    reader.wait_for(lambda: state(opened)["times"][0] >= 0.3)
    opened.execute_script(
        "const pick = document.getElementById('pick-utterance'); pick.value = 'utt-0002';"
        "pick.dispatchEvent(new Event('change'))"
    )
    assert opened.execute_script(quiet)
    assert state(opened)["names"] == ["Original"]
    assert opened.get_log("browser") == []


def test_players_are_reached_and_started_with_the_keyboard(reader: Any, opened: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    reader.wait_for(lambda: min(state(opened)["ready"]) >= 1)
    player = opened.find_elements("css selector", ".exemplar:not([hidden]) audio")[1]
    player.send_keys(Keys.SPACE)
    reader.wait_for(lambda: state(opened)["times"][1] > 0.05)
    focused = "return document.activeElement.getAttribute('aria-label')"
    assert opened.execute_script(focused).startswith("Perturbed: sound of utt-0001")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows_the_window(reader: Any, opened: Any, width: int) -> None:
    assert reader.overflowing(width) == []


def test_without_scripts_all_sounds_have_controls(opened: Any, page: Path) -> None:
    opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened.get(page.as_uri())
        players = opened.find_elements("css selector", "audio[controls]")
        # Two original recordings, and two sounds of each attack on the waveform.
        assert len(players) == 6
        assert all(player.is_displayed() for player in players)
    finally:
        opened.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
