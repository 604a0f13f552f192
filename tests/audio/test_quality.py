"""Levels of perturbations in closed form; PESQ and STOI as their packages compute them."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sigma_ser.audio import audio_quality, read_audio
from sigma_ser.audio.quality import estoi, peak_dbfs, snr, snr_segmental, stoi
from sigma_ser.audio.quality import pesq as wide_band_pesq
from sigma_ser.core.errors import AudioError, ShapeError
from sigma_ser.core.features import FeatureBatch, pad

# pesq is built with a C compiler, so the packages are not among those of a contributor.
needs_packages = pytest.mark.skipif(
    find_spec("pesq") is None or find_spec("pystoi") is None,
    reason="pesq or pystoi is not installed: pip install 'sigma-ser[audio]'",
)

DEMO = Path(__file__).parents[2] / "src" / "sigma_ser" / "demo" / "corpus"


def waves(*sizes: int, seed: int = 0) -> FeatureBatch:
    rng = torch.Generator().manual_seed(seed)
    return pad([0.1 * torch.randn(size, 1, generator=rng) for size in sizes])


@pytest.fixture(scope="module")
def speech() -> FeatureBatch:
    files = sorted((DEMO / "f1").glob("*.flac"))[:2]
    return pad([torch.from_numpy(read_audio(file))[:, None] for file in files])


def noisy(batch: FeatureBatch, level: float = 0.02) -> Tensor:
    noise = torch.randn(batch.x.shape, generator=torch.Generator().manual_seed(1))
    return batch.x + level * noise * batch.valid[:, :, None]


@pytest.mark.parametrize("factor", [0.5, -0.1, 1e-3, 2.0])
def test_a_perturbation_in_proportion_has_the_ratio_of_its_factor(factor: float) -> None:
    batch = waves(3_000, 1_111)
    expected = torch.full((2,), -20 * np.log10(abs(factor)), dtype=torch.float64)
    x_adv = batch.x + factor * batch.x
    found = snr(batch.x, x_adv, batch.lengths)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0.0)
    peak = peak_dbfs(batch.x, x_adv, batch.lengths)
    largest = batch.x.abs().amax((1, 2)).double()
    torch.testing.assert_close(peak, expected.neg() + 20 * largest.log10(), atol=2e-3, rtol=0.0)


def test_padding_is_no_part_of_an_utterance() -> None:
    batch = waves(3_000, 1_111)
    x_adv = noisy(batch)
    beyond = x_adv.masked_fill(~batch.valid[:, :, None], 7.0)
    for measure in (snr, snr_segmental, peak_dbfs):
        together = measure(batch.x, beyond, batch.lengths)
        for row in (0, 1):
            size = int(batch.lengths[row])
            clean, changed = (x[row : row + 1, :size] for x in (batch.x, x_adv))
            alone = measure(clean, changed, batch.lengths[row : row + 1])
            torch.testing.assert_close(alone, together[row : row + 1], atol=1e-9, rtol=0.0)


def test_segments_are_averaged_within_their_range_where_there_is_sound() -> None:
    wave = torch.zeros(1, 5 * 320 + 100, 1)
    delta = torch.zeros_like(wave)
    wave[:, :640], delta[:, :320] = 0.1, 0.01  # 20 dB, then no perturbation: 35 dB
    delta[:, 640:960] = 0.01  # a perturbation in silence: -10 dB
    # The fourth and fifth segment are silent; the rest of 100 samples has 6.02 dB.
    wave[:, 1600:], delta[:, 1600:] = 0.2, 0.1
    found = snr_segmental(wave, wave + delta, torch.tensor([wave.shape[1]]))
    assert float(found) == pytest.approx((20 + 35 - 10 + 20 * np.log10(2)) / 4, abs=1e-4)


def test_levels_without_a_perturbation_or_without_sound_are_undefined() -> None:
    batch = waves(2_000)
    silence = torch.zeros_like(batch.x)
    assert snr(batch.x, batch.x, batch.lengths).isnan().all()
    assert peak_dbfs(batch.x, batch.x, batch.lengths).isnan().all()
    assert snr_segmental(batch.x, batch.x, batch.lengths).tolist() == [35.0]
    assert snr_segmental(silence, silence, batch.lengths).isnan().all()
    assert snr(silence, batch.x, batch.lengths).tolist() == [-np.inf]


@needs_packages
def test_scores_are_those_of_the_packages(speech: FeatureBatch) -> None:
    import pesq
    import pystoi

    changed = noisy(speech)
    found = audio_quality(speech, changed)
    assert found.notes == (None, None)
    for row, size in enumerate(speech.lengths.tolist()):
        clean, other = (x[row, :size, 0].double().numpy() for x in (speech.x, changed))
        assert float(found.pesq[row]) == pytest.approx(pesq.pesq(16_000, clean, other, "wb"))
        assert float(found.stoi[row]) == pytest.approx(pystoi.stoi(clean, other, 16_000))
        extended = pystoi.stoi(clean, other, 16_000, extended=True)
        assert float(found.estoi[row]) == pytest.approx(extended)
    # A smaller perturbation is better by every measure.
    better = audio_quality(speech, noisy(speech, 0.002))
    for name in ("snr", "snr_segmental", "pesq", "stoi", "estoi"):
        assert (getattr(better, name) > getattr(found, name)).all(), name


@needs_packages
def test_undefined_scores_have_a_reason() -> None:
    batch = pad([torch.zeros(8_000, 1), waves(800).x[0]])
    x_adv = batch.x.clone()
    x_adv[:, 5] = 0.1
    for measure in (wide_band_pesq, stoi, estoi):
        found = measure(batch.x, x_adv, batch.lengths)
        assert found.values.isnan().all()
        assert found.notes[0] == "the clean wave is silent"
        assert "shorter than" in (found.notes[1] or "")
    note = audio_quality(batch, x_adv).notes[1] or ""
    assert [part.split(":")[0] for part in note.split("; ")] == ["pesq", "stoi", "estoi"]


@needs_packages
def test_a_recording_that_may_have_too_many_sections_for_pesq_is_left_out() -> None:
    batch = pad([torch.full((20 * 16_000 + 1, 1), 0.1)])
    found = wide_band_pesq(batch.x, 0.9 * batch.x, batch.lengths)
    assert found.values.isnan().all()
    assert (found.notes[0] or "").startswith("longer than 20 s")


@needs_packages
def test_bands_without_energy_have_the_same_score_each_time(speech: FeatureBatch) -> None:
    # Extended STOI divides such bands by the energy of noise from numpy's global generator.
    time = torch.arange(16_000)[None, :, None] / 16_000
    tone = (0.3 * (2 * torch.pi * 440 * time).sin() * (time > 0.3)).float()
    lengths = torch.tensor([16_000])
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    scores = {float(estoi(tone, 0.5 * tone, lengths).values) for _ in range(3)}
    assert len(scores) == 1
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_waves_of_other_shapes_are_refused() -> None:
    batch = waves(900)
    unchecked = inspect.unwrap(snr)
    with pytest.raises(ShapeError, match="two batches of waves"):
        unchecked(batch.x, batch.x[:, 1:], batch.lengths)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pesq", None)
    batch = waves(9_000)
    with pytest.raises(AudioError, match=r"pip install 'sigma-ser\[audio\]'"):
        wide_band_pesq(batch.x, batch.x, batch.lengths)
