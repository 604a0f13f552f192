"""The pages of complete runs on real audio: the demo and a TESS study."""

from __future__ import annotations

import shutil
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


@pytest.fixture(scope="module")
def demo_page(
    browser: Any,
    short_runs: None,
    demo_features: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    shutil.copytree(demo_features, out / "features")
    study = ss.run(study_path(), out=out, overrides=REDUCED)
    return Path(study.report)


@pytest.fixture(scope="module")
def tess_page(
    browser: Any, short_runs: None, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    # Links to the recordings of eight words: a corpus like the whole one, read in a second.
    few = tmp_path_factory.mktemp("tess")
    files = sorted((real_data / "tess").rglob("*.flac"))
    words = sorted({file.stem.split("_")[1] for file in files})[::25]
    for file in files:
        if file.stem.split("_")[1] in words:
            (few / file.name).symlink_to(file)
    out = tmp_path_factory.mktemp("tess-run") / "run"
    # The licence of TESS does not permit redistribution, so its sounds are asked for.
    here = [f"corpus.root={few}", "corpus.folds=[0]", "evaluation.exemplar_sounds=true"]
    study = ss.run(EXAMPLES / "tess.toml", out=out, overrides=[*REDUCED, *here])
    return Path(study.report)


@pytest.fixture(params=["demo", pytest.param("tess", marks=pytest.mark.real)])
def page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(f"{request.param}_page")
    return path


@pytest.mark.slow
def test_a_reader_goes_through_the_whole_page(reader: Any, page: Path) -> None:
    reader.open(page)
    browser = reader.browser

    answer = browser.find_element("css selector", ".answer").text
    assert "misclassif" in answer
    rates = reader.rates()
    heading = browser.find_element(
        "xpath", "//table[@id='results']//button[normalize-space()='Success rate']"
    )
    browser.execute_script("arguments[0].click()", heading)
    assert reader.rates() == sorted(rates, reverse=True)

    # The exemplars: their pictures load, and their recording plays.
    browser.execute_script(
        "const o = document.getElementById('of-outcome'); o.value = '2';"
        "o.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    shown = "document.querySelector('.exemplar:not([hidden])')"
    reader.wait_for(lambda: browser.execute_script(f"return {shown} !== null"))
    assert browser.execute_script(
        f"return [...{shown}.querySelectorAll('.attempt:not([hidden]) img')].length"
    )
    browser.execute_script(f"{shown}.querySelector('audio').play()")
    reader.wait_for(
        lambda: browser.execute_script(f"return {shown}.querySelector('audio').currentTime")
    )
    assert browser.execute_script(f"return {shown}.querySelector('audio').error") is None

    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.find_element("css selector", "#theme").click()
    assert before != browser.execute_script(
        "return getComputedStyle(document.body).backgroundColor"
    )

    for width in (1280, 390):
        assert reader.overflowing(width) == [], width
    assert reader.fetched(page) == []
    assert browser.get_log("browser") == []
