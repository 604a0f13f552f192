"""Cheap damage to a batch of crops: rooms, other talkers, noise, channel.

Targets stay those of the clean speech: mixing other utterances into the input is WavLM's
denoising (Chen et al. 2022, arXiv 2110.13900, section III-B).
"""

from __future__ import annotations

import numpy as np

SAMPLE_RATE = 16_000


def _level(waves: np.ndarray) -> np.ndarray:
    return np.sqrt((waves**2).mean(1, keepdims=True)) + 1e-6


def normalise(waves: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance for each row, as ``Wav2Vec2FeatureExtractor`` does."""
    centred = waves - waves.mean(1, keepdims=True)
    return (centred / np.sqrt(centred.var(1, keepdims=True) + 1e-7)).astype(np.float32)


def damage(waves: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``(B, samples)`` float32 in and out; about a quarter of the crops stay clean."""
    batch, samples = waves.shape
    touched = rng.random((batch, 1)) > 0.25
    result = waves.copy()

    room = touched[:, 0] & (rng.random(batch) < 0.4)
    channel = touched[:, 0] & (rng.random(batch) < 0.5)
    for i in np.flatnonzero(room | channel):
        size = samples + 8000
        spectrum = np.fft.rfft(result[i], size)
        before = _level(result[i : i + 1])[0, 0]
        if room[i]:
            # direct sound, then exponentially decaying noise (RT60 0.1 to 0.7 s)
            time = np.arange(8000) / SAMPLE_RATE
            tail = rng.standard_normal(8000) * 10 ** (-3 * time / rng.uniform(0.1, 0.7))
            tail *= 10 ** (rng.uniform(-15, 0) / 20) / np.sqrt((tail**2).sum())
            tail[0] = 1.0
            spectrum = spectrum * np.fft.rfft(tail, size)
        if channel[i]:
            # a smooth random equaliser, standard deviation 2.5 dB at 8 points in log-frequency
            points = rng.standard_normal(8) * 2.5
            place = np.linspace(0, 7, 8)
            octave = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 62.5) / 62.5)
            spectrum = spectrum * 10 ** (np.interp(octave, place, points) / 20)
        changed = np.fft.irfft(spectrum, size)[:samples]
        result[i] = changed * (before / (np.sqrt((changed**2).mean()) + 1e-6))

    level = _level(waves)
    noisy = touched & (rng.random((batch, 1)) < 0.5)
    noise = rng.standard_normal((batch, samples)).astype(np.float32)
    # half of the noises are brown-ish: a one-pole average of white
    red = np.cumsum(noise, axis=1)
    red = red - np.pad(red, ((0, 0), (64, 0)))[:, :samples]
    noise = np.where(rng.random((batch, 1)) < 0.5, noise, red / 8)
    ratio = rng.uniform(3, 35, (batch, 1))
    result = result + noisy * noise * level * 10 ** (-ratio / 20)

    crowded = touched & (rng.random((batch, 1)) < 0.25)
    other = np.roll(np.roll(waves, 1, axis=0), int(rng.integers(samples)), axis=1)
    ratio = rng.uniform(0, 15, (batch, 1))
    # the intruder covers at most half of the crop, or the target would be ambiguous
    start = rng.integers(0, samples // 2, (batch, 1))
    length = rng.integers(samples // 8, samples // 2, (batch, 1))
    place = np.arange(samples)[None]
    window = (place >= start) & (place < start + length)
    result = result + crowded * window * other / _level(other) * level * 10 ** (-ratio / 20)
    return np.clip(result, -1, 1).astype(np.float32)
