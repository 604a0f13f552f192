"""Laws of every corruption: length, time, level, and random numbers of each utterance alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sigma_ser.audio import read_audio
from sigma_ser.audio.corruptions import Corruption
from sigma_ser.audio.quality import snr
from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError, ShapeError
from sigma_ser.core.features import FeatureBatch, pad
from sigma_ser.testing import check_corruption

DEMO = Path(__file__).parents[2] / "src" / "sigma_ser" / "demo" / "corpus"
NAMES = registry.names("corruption")


def make(name: str, **settings: Any) -> Corruption:
    made: Corruption = registry.make("corruption", name, settings)
    return made


@pytest.fixture(scope="module")
def speech() -> FeatureBatch:
    """Two recordings of different lengths, and the shortest wave that encoders accept."""
    files = sorted((DEMO / "f1").glob("*.flac"))[:2]
    items = [torch.from_numpy(read_audio(file))[:, None] for file in files]
    return pad([*items, items[0][6_000:6_400]], ids=["one", "two", "short"])


@pytest.mark.parametrize("name", NAMES)
def test_every_corruption_passes_the_conformance_suite(name: str, speech: FeatureBatch) -> None:
    """Shape, padding, one result for an utterance in any company, seeds, ratio, `repr`."""
    check_corruption(name, batch=speech)
    if hasattr(make(name), "snr"):
        check_corruption(make(name, snr=0.0), batch=speech)


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_in_time_with_the_clean_wave(name: str, speech: FeatureBatch) -> None:
    if name == "reverberation":
        return  # its energy comes later by definition
    found = make(name)(speech)
    for row in (0, 1):
        size = int(speech.lengths[row])
        wave, changed = (x[row, :size, 0].double().numpy() for x in (speech.x, found))
        spectrum = np.fft.rfft(changed, 2 * size) * np.fft.rfft(wave, 2 * size).conj()
        assert int(np.abs(np.fft.irfft(spectrum)).argmax()) == 0


@pytest.mark.parametrize("name", ["white-noise", "speech-shaped-noise", "reverberation"])
def test_random_numbers_follow_the_seed(name: str, speech: FeatureBatch) -> None:
    corruption = make(name)
    first, second = (corruption(speech, seeds=torch.tensor([1, 2, seed])) for seed in (3, 4))
    assert torch.equal(first[:2], second[:2])
    assert not torch.equal(first[2], second[2])
    with pytest.raises(ShapeError, match="2 seeds were given for 3"):
        corruption(speech, seeds=torch.tensor([1, 2]))


@pytest.mark.parametrize("kbps", [8, 24, 32, 64, 160])
def test_mp3_of_every_rate_is_in_time(kbps: int, speech: FeatureBatch) -> None:
    # Up to 24 kbit/s the file does not state the delay, which the decoder then leaves in.
    found = make("mp3", kbps=kbps)(speech)
    size = int(speech.lengths[0])
    wave, changed = (x[0, :size, 0].double().numpy() for x in (speech.x, found))
    spectrum = np.fft.rfft(changed, 2 * size) * np.fft.rfft(wave, 2 * size).conj()
    assert int(np.fft.irfft(spectrum).argmax()) == 0


@pytest.mark.parametrize("name", ["mp3", "opus"])
def test_codecs_lose_less_at_a_higher_rate(name: str, speech: FeatureBatch) -> None:
    low, high = (
        snr(speech.x, make(name, kbps=kbps)(speech), speech.lengths)[:2] for kbps in (16, 96)
    )
    assert (high > low + 3).all()


def test_a_telephone_passes_its_band_only() -> None:
    time = torch.arange(16_000) / 16_000
    batch = pad([(0.3 * (2 * torch.pi * f * time).sin())[:, None] for f in (100, 1_000, 5_000)])
    power = make("telephone")(batch).square().sum((1, 2)) / batch.x.square().sum((1, 2))
    assert float(power[1]) == pytest.approx(1, abs=0.01)
    assert power[0] < 0.01
    assert power[2] < 0.01


def test_speech_shaped_noise_has_the_spectrum_of_the_utterance() -> None:
    rng = np.random.default_rng(0)
    low = np.convolve(rng.standard_normal(32_000), np.ones(40) / 40, mode="same")
    batch = pad([torch.from_numpy(low).float()[:, None]])
    noise = (make("speech-shaped-noise", snr=0.0)(batch) - batch.x)[0, :, 0].double().numpy()
    edges = [0, 400, 2_000, 8_000, 16_000]  # bins of half a hertz
    for first, last in pairwise(edges):
        wave, other = (np.square(np.abs(np.fft.rfft(x)[first:last])).sum() for x in (low, noise))
        assert abs(10 * np.log10(other / wave)) < 1.5
    white = (make("white-noise", snr=0.0)(batch) - batch.x)[0, :, 0].double().numpy()
    assert np.square(np.abs(np.fft.rfft(white)[8_000:])).mean() > 30 * (
        np.square(np.abs(np.fft.rfft(low)[8_000:])).mean()
    )


def test_silence_stays_silent() -> None:
    batch = pad([torch.zeros(4_000, 1)])
    for name in ("white-noise", "speech-shaped-noise", "reverberation", "gain", "resampling"):
        assert not make(name)(batch).any(), name


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("white-noise", {"snr": float("nan")}),
        ("gain", {"snr": -1.0}),
        ("reverberation", {"decay_seconds": 0.0}),
        ("mp3", {"kbps": 33}),
        ("opus", {"kbps": 300}),
        ("resampling", {"rate": 100}),
        ("telephone", {"snr": 20.0}),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        make(name, **settings)


def test_features_are_no_waves() -> None:
    with pytest.raises(ShapeError, match=r"corruptions change waves \(B, S, 1\)"):
        make("gain")(FeatureBatch(torch.ones(1, 5, 2), torch.tensor([5])))
