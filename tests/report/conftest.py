"""Synthetic rows and exemplars with a known shape: strength grows with budget and scope."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sigma_ser.audio.writing import quantised
from sigma_ser.core.files import write_json
from sigma_ser.core.rows import schema
from sigma_ser.report.exemplar import Exemplar
from sigma_ser.report.inputs import ReportInputs
from sigma_ser.runs.layout import RunLayout

EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
# attack, explainer, scope, strength of the attack, and how much it changes the explanation.
ATTACKS = (
    ("dual-averaging", None, None, 1.0, 0.45),
    ("reselect", None, None, 0.85, 0.42),
    ("oneshot", None, None, 0.4, 0.3),
    ("random", None, None, 0.02, 0.08),
    ("pgd", "integrated-gradients", 1, 0.35, 0.3),
    ("dual-averaging", "integrated-gradients", 8, 0.72, 0.36),
    ("dual-averaging", "gradient", 8, 0.8, 0.38),
    ("dual-averaging", "random", 8, 0.12, 0.12),
)


def rows_of(
    *,
    utterances: int = 84,
    victims: Sequence[str] = ("mean-pool", "bilstm"),
    sparsities: Sequence[float] = (0.005, 0.01, 0.02),
    epsilons: Sequence[float] = (0.5, 1.0),
    folds: int = 1,
    attacks: Sequence[tuple[str, str | None, int | None, float, float]] = ATTACKS,
    emotions: Sequence[str] = EMOTIONS,
    consistency: bool = True,
    names: Callable[[int], str] = "utt-{:04d}".format,
    strength: float = 1.0,
    seed: int = 0,
) -> pl.DataFrame:
    """Rows as a study would write them."""
    empty = pl.DataFrame(schema().empty_table())
    rng = np.random.default_rng(seed)
    parts = []
    for victim_number, victim in enumerate(victims):
        for name, explainer, scope, power, spent in attacks:
            for sparsity in sparsities:
                for epsilon in epsilons:
                    index = np.arange(utterances)
                    truth = np.array([emotions[i % len(emotions)] for i in index], dtype=object)
                    other = np.array(
                        [emotions[(i * 3 + 1) % len(emotions)] for i in index], dtype=object
                    )
                    right = (index * 7 + victim_number) % 10 != 0
                    chance = 1 - np.exp(-power * strength * 120 * sparsity * epsilon)
                    flipped = right & (rng.random(utterances) < chance) & (truth != other)
                    before = np.where(right, truth, other)
                    spare = spent * min(1.0, 30 * sparsity * epsilon)
                    values: dict[str, Any] = {
                        "corpus": "demo",
                        "protocol": "unseen-voice",
                        "fold": [f"fold-{i % folds}" for i in index],
                        "encoder": "demo",
                        "layer": "-1",
                        "surface": "features",
                        "victim": victim,
                        "victim_seed": 0,
                        "utterance": [names(int(i)) for i in index],
                        "speaker": [f"voice-{i % 3}" for i in index],
                        "text_id": [f"word-{i % 12}" for i in index],
                        "label": truth,
                        "duration": 1.0 + 0.01 * index,
                        "attack": name,
                        "attack_settings": f"{name}(steps=20)",
                        "attack_seed": 0,
                        "explainer": explainer,
                        "mask_source": "own" if explainer else None,
                        "scope": scope,
                        "granularity": "element",
                        "sparsity": sparsity,
                        "epsilon": epsilon,
                        "budget_elements": int(20_000 * sparsity),
                        "prediction_before": before,
                        "prediction_after": np.where(flipped, other, before),
                        "correct_before": right,
                        "success": flipped | (before != truth),
                        "confidence_before": rng.uniform(0.5, 1.0, utterances),
                        "confidence_after": rng.uniform(0.2, 0.9, utterances),
                        "l0": np.where(right, int(20_000 * sparsity), 0),
                        "l0_share": np.where(right, sparsity, 0.0),
                        "l2": rng.uniform(1, 3, utterances),
                        "linf": np.where(right, epsilon, 0.0),
                        "frames_touched": rng.integers(5, 60, utterances),
                        "channels_touched": rng.integers(20, 90, utterances),
                        "steps": np.where(right, rng.integers(1, 21, utterances), 0),
                        "forwards": np.where(right, rng.integers(2, 24, utterances), 1),
                        "backwards": np.where(right, rng.integers(1, 22, utterances), 0),
                        "mask_forwards": 32 if explainer == "integrated-gradients" else 0,
                        "mask_backwards": 32 if explainer == "integrated-gradients" else 0,
                        "seconds": rng.uniform(0.01, 0.05, utterances),
                        "mask_seconds": 0.02 if explainer else 0.0,
                    }
                    if consistency:
                        noise = rng.normal(0, 0.05, utterances)
                        for metric, base in (
                            ("topk_intersection", 0.9),
                            ("spearman", 0.97),
                            ("cosine", 0.95),
                        ):
                            values |= {
                                metric: np.clip(base - spare + noise, -1, 1),
                                f"{metric}_own": np.clip(base - 1.6 * spare + noise, -1, 1),
                                f"{metric}_floor": np.clip(base - 0.05 + noise, -1, 1),
                                "consistency_explainer": explainer or "gradient",
                            }
                    columns = {
                        column: pl.Series(
                            column,
                            list(value) if not isinstance(value, str | int | float) else [value],
                            dtype=empty.schema[column],
                        )
                        if value is not None
                        else pl.Series(column, [None], dtype=empty.schema[column])
                        for column, value in ({**dict.fromkeys(empty.columns), **values}).items()
                    }
                    parts.append(
                        pl.select(
                            *(
                                pl.lit(
                                    s if len(s) > 1 or utterances == 1 else s[0], dtype=s.dtype
                                ).alias(column)
                                for column, s in columns.items()
                            )
                        )
                    )
    return pl.concat(parts)


def wave_rows_of(
    *,
    ratios: Sequence[float] = (20.0, 30.0, 40.0),
    sparsities: Sequence[float] = (0.1, 1.0),
    utterances: int = 40,
    lost: float = 0.1,
    **changes: Any,
) -> pl.DataFrame:
    """Rows of attacks on the waveform and of two natural corruptions.

    The round trip loses a share `lost` of the successes, and of the recognised recordings.
    """
    text, real = pl.String, pl.Float64
    rng = np.random.default_rng(3)
    parts = []
    for ratio in ratios:
        given = {
            "victims": ("bilstm",),
            "consistency": False,
            "utterances": utterances,
            "attacks": (*ATTACKS[2:5], ATTACKS[6]),
            **changes,
        }
        attacks = rows_of(sparsities=sparsities, epsilons=(10 ** (1 - ratio / 20),), **given)
        noise = rows_of(sparsities=(0.5,), epsilons=(0.02 * 10 ** (1 - ratio / 20),), **given)
        noise = noise.filter(pl.col("attack") == "oneshot").with_columns(
            pl.lit("white-noise").alias("attack"),
            pl.lit(f"WhiteNoise(snr={ratio:g})").alias("attack_settings"),
        )
        parts += [attacks.with_columns(budget_snr=ratio), noise.with_columns(budget_snr=ratio)]
    telephone = noise.with_columns(
        pl.lit("telephone").alias("attack"),
        pl.lit("Telephone()").alias("attack_settings"),
        pl.lit(None, real).alias("budget_snr"),
    )
    rows = pl.concat([*parts, telephone.select(parts[0].columns)])
    natural = pl.col("attack").is_in(["white-noise", "telephone"])
    measures = {"snr": pl.col("budget_snr") + 0.5, "pesq": pl.lit(3.25), "stoi": pl.lit(0.987)}
    held = pl.Series(rng.random(len(rows)) >= lost)
    known = pl.Series(rng.random(len(rows)) >= lost)
    return rows.with_columns(
        pl.lit("waveform").alias("surface"),
        pl.lit(None, real).alias("epsilon"),
        *(
            pl.when(~natural).then(pl.col(name)).alias(name)
            for name in ("granularity", "sparsity", "budget_elements", "forwards", "backwards")
        ),
        (pl.col("correct_before") & known).alias("round_trip_correct"),
        (pl.col("success") & held).alias("round_trip_success"),
        pl.when(pl.col("success") & held)
        .then("prediction_after")
        .otherwise("label")
        .cast(text)
        .alias("round_trip_prediction"),
        *(value.cast(real).alias(name) for name, value in measures.items()),
    ).select(schema().names)


def exemplar_of(name: str = "utt-0001", seed: int = 0, **changes: Any) -> Exemplar:
    """One attacked utterance of 1.2 seconds: a chirp, salient where it is loud."""
    rng = np.random.default_rng(seed)
    frames, channels = 60, 128
    time = np.arange(int(1.2 * 16_000)) / 16_000
    envelope = np.exp(-(((time - 0.55) / 0.25) ** 2)) + 0.4 * np.exp(-(((time - 0.95) / 0.08) ** 2))
    waveform = 0.6 * envelope * np.sin(2 * np.pi * (180 * time + 60 * time**2))
    loud = np.interp(np.linspace(0, 1.2, frames), time, envelope)
    weights = rng.gamma(0.6, size=channels)
    before = rng.normal(size=(frames, channels)) * loud[:, None] * weights
    after = 0.7 * before + 0.4 * rng.normal(size=(frames, channels)) * weights
    mask = np.abs(before) >= np.quantile(np.abs(before), 0.92)
    delta = np.where(np.abs(before) >= np.quantile(np.abs(before), 0.99), np.sign(before), 0.0)
    values: dict[str, Any] = {
        "utterance": name,
        "speaker": "voice-1",
        "text": "Say the word gin",
        "label": "angry",
        "class_names": EMOTIONS,
        "victim": "bilstm",
        "attack": "dual-averaging",
        "explainer": "integrated-gradients",
        "mask_source": "own",
        "scope": 8,
        "sparsity": 0.01,
        "epsilon": 0.5,
        "probabilities_before": np.array([0.7, 0.1, 0.05, 0.05, 0.04, 0.03, 0.03]),
        "probabilities_after": np.array([0.2, 0.1, 0.05, 0.5, 0.05, 0.05, 0.05]),
        "waveform": waveform.astype(np.float32),
        "frame_seconds": 0.02,
        "saliency_before": before.astype(np.float32),
        "saliency_after": after.astype(np.float32),
        "mask": mask,
        "delta": (0.5 * delta).astype(np.float32),
    }
    return Exemplar(**{**values, **changes})


def wave_exemplar_of(name: str = "utt-0001", seed: int = 0, **changes: Any) -> Exemplar:
    """The same utterance, attacked on the waveform in the loudest half of its samples."""
    rng = np.random.default_rng(seed)
    waveform = exemplar_of(name, seed).waveform
    mask = np.abs(waveform) >= np.median(np.abs(waveform))
    delta = np.where(mask, 0.002 * np.sign(rng.normal(size=len(waveform))), 0).astype(np.float32)
    loud = np.abs(waveform)[:, None]
    values: dict[str, Any] = {
        "surface": "waveform",
        "sparsity": 0.5,
        "epsilon": None,
        "budget_snr": 30.0,
        "frame_seconds": 1 / 16_000,
        "saliency_before": loud,
        "saliency_after": loud[::-1].copy(),
        "mask": mask[:, None],
        "delta": delta[:, None],
        "perturbed": quantised(waveform + delta),
        "snr": 31.25,
        "pesq": 3.5,
        "stoi": 0.987,
    }
    return exemplar_of(name, seed, **{**values, **changes})


def inputs_of(rows: pl.DataFrame, **changes: Any) -> ReportInputs:
    """A run's results around some rows."""
    confusion = (np.eye(len(EMOTIONS), dtype=int) * 9 + 1).tolist()
    victim = {
        "fold": "fold-0",
        "uar": 0.71,
        "uar_low": 0.62,
        "uar_high": 0.79,
        "accuracy": 0.7,
        "macro_f1": 0.69,
        "test_utterances": 112,
        "class_names": list(EMOTIONS),
        "confusion": confusion,
        "train_seconds": 4.2,
    }
    values: dict[str, Any] = {
        "name": "demo",
        "rows": rows,
        "victims": [{"name": name, **victim} for name in rows["victim"].unique().sort()],
        "leakage": [
            {"fold": "fold-0", "parts": "train / test", "shared": "speakers", "count": 0},
            {"fold": "fold-0", "parts": "train / test", "shared": "texts", "count": 12},
        ],
        "corpus_card": {
            "name": "demo",
            "utterances": 672,
            "origin": "synthetic speech",
            "licence": "Apache-2.0",
            "redistributable": True,
        },
        "encoder_card": {"name": "demo", "frames_per_second": 50, "channels": 256},
        "environment": {"python": "3.11.9", "torch": "2.13.0", "threads": 1},
        "study_text": 'name = "demo"\n\n[corpus]\nname = "demo"\n',
        "exemplars": [exemplar_of()],
        "seconds": 140.0,
    }
    return ReportInputs(**{**values, **changes})


def save_run(folder: Path, inputs: ReportInputs) -> Path:
    """Write the files of a finished run that a report is made from."""
    layout = RunLayout(folder)
    folder.mkdir(parents=True, exist_ok=True)
    inputs.rows.write_parquet(layout.rows)
    for number, exemplar in enumerate(inputs.exemplars):
        exemplar.save(layout.exemplar(str(number)))
    evaluation = {"exemplar_sounds": inputs.exemplar_sounds}
    write_json(layout.study, {"name": inputs.name, "evaluation": evaluation})
    layout.study_text.write_text(inputs.study_text, "utf-8")
    write_json(layout.victims, list(inputs.victims))
    cards = {"corpus": inputs.corpus_card, "encoder": inputs.encoder_card}
    write_json(layout.provenance, {"leakage": list(inputs.leakage), **cards})
    environment = {name: str(value) for name, value in inputs.environment.items()}
    write_json(layout.environment, environment)
    return folder


@pytest.fixture(scope="session")
def make_run() -> Callable[[Path, ReportInputs], Path]:
    """Writer of run folders."""
    return save_run


@pytest.fixture(scope="session")
def make_rows() -> Callable[..., pl.DataFrame]:
    """Factory of rows."""
    return rows_of


@pytest.fixture(scope="session")
def make_wave_rows() -> Callable[..., pl.DataFrame]:
    """Factory of rows on the waveform."""
    return wave_rows_of


@pytest.fixture(scope="session")
def make_exemplar() -> Callable[..., Exemplar]:
    """Factory of exemplars."""
    return exemplar_of


@pytest.fixture(scope="session")
def make_wave_exemplar() -> Callable[..., Exemplar]:
    """Factory of exemplars of attacks on the waveform."""
    return wave_exemplar_of


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., ReportInputs]:
    """Factory of a run's results."""
    return inputs_of


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium that logs its console and every request."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if not (chromium and driver_path):
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (extra dev)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--force-prefers-reduced-motion",  # no smooth scrolling: a click lands where it aims
        "--autoplay-policy=no-user-gesture-required",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(driver_path))
    yield driver
    driver.quit()


class PageReader:
    """Opens pages in a browser and reads its logs."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser

    def open(self, page: Path, seconds: float = 20.0) -> None:
        """Open a page in a desktop window with empty logs, and wait until its script has run."""
        for log in ("performance", "browser"):
            self.browser.get_log(log)
        self.browser.set_window_size(1280, 1000)
        self.browser.get(page.as_uri())
        ready = "return !document.getElementById('picker').hidden"
        self.wait_for(lambda: self.browser.execute_script(ready), seconds)

    def wait_for(self, condition: Callable[[], Any], seconds: float = 20.0) -> None:
        """Poll a condition until it holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition did not hold in time"
            time.sleep(0.05)

    def rates(self) -> list[float]:
        """The success rates of the table, from top to bottom."""
        rates: list[float] = self.browser.execute_script("""
            return [...document.querySelectorAll("#results tbody tr")].map((line) =>
                Number(line.querySelector("[data-of=asr]").getAttribute("value")))
        """)
        return rates

    def overflowing(self, width: int) -> list[str]:
        """Elements that overflow a window of this width, with all details open."""
        # A window has a least width; the emulated device has none.
        self.browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        try:
            found: list[str] = self.browser.execute_script("""
                for (const d of document.querySelectorAll("details")) d.open = true;
                const room = document.documentElement.clientWidth;
                const inside = (e) =>
                    e.closest(".scroll, .charts figure, nav, pre, .skip, dialog");
                return [...document.querySelectorAll("main *")].filter(
                    (e) => !inside(e) && e.getBoundingClientRect().right > room + 1
                ).map((e) => e.outerHTML.slice(0, 90)).concat(
                    document.documentElement.scrollWidth > room ? ["the page itself"] : [])
            """)
        finally:
            self.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        return found

    def fetched(self, page: Path) -> list[str]:
        """URLs that were requested besides the page itself since it was opened."""
        requested = [
            message["params"]["request"]["url"]
            for entry in self.browser.get_log("performance")
            if (message := json.loads(entry["message"])["message"])["method"]
            == "Network.requestWillBeSent"
        ]
        assert page.as_uri() in requested, "the log works"
        # Pages of the browser itself, such as a new tab, are not requests of this page.
        known = ("data:", "chrome:", "chrome-untrusted:", page.as_uri())
        return [url for url in requested if not url.startswith(known)]


@pytest.fixture
def reader(browser: Any) -> PageReader:
    """A reader of pages with a browser."""
    return PageReader(browser)
