"""What the encoder learns to predict: cluster ids of several descriptions of the clean speech.

HuBERT (Hsu et al. 2021, arXiv 2106.07447) starts from k-means of MFCC. MFCC at 20 ms know little
of prosody, on which emotion rides, so three codebooks stand beside them, all made from the signal
alone:

- ``sound``: 13 MFCC with first and second differences (HuBERT's own first iteration);
- ``contour``: shapes of the F0, level and tilt tracks over half a second, means removed;
- ``voice``: the same tracks' means, with voicing, harmonicity and F0 roughness, over half a second;
- ``manner``: means and deviations of MFCC and of all tracks over two seconds.

The voice and manner books follow PASE+ (Ravanelli et al. 2020, arXiv 2001.09239), whose workers
regress on prosody; as there, the descriptions themselves are kept too, for a regression head: with
some thousand steps to spend, a dense target teaches sooner than 448 classes do.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import parselmouth
from scipy.fft import dct
from scipy.ndimage import uniform_filter1d
from sklearn.cluster import MiniBatchKMeans
from transformers.audio_utils import mel_filter_bank

SAMPLE_RATE = 16_000
STRIDE, RECEPTIVE = 320, 400
DIMENSIONS = 39 + 9 + 6 + 38
CODEBOOKS = {"sound": 128, "contour": 96, "voice": 128, "manner": 96}


def frames_of(samples: int) -> int:
    """Frames that the encoder's convolutions make of ``samples``."""
    return (samples - RECEPTIVE) // STRIDE + 1


def log_mel(wave: np.ndarray, bands: int = 40) -> np.ndarray:
    """Log-mel energies on the encoder's own frames: ``(T, bands)``."""
    count = frames_of(len(wave))
    index = np.arange(count)[:, None] * STRIDE + np.arange(RECEPTIVE)
    power = np.abs(np.fft.rfft(wave[index] * np.hanning(RECEPTIVE), n=512)) ** 2
    return np.log(power @ _bank(bands) + 1e-6)


@lru_cache(maxsize=4)
def _bank(bands: int) -> np.ndarray:
    return mel_filter_bank(257, bands, 20.0, 8000.0, SAMPLE_RATE)


def tracks(wave: np.ndarray, mel: np.ndarray) -> dict[str, np.ndarray]:
    """Prosodic tracks ``(T,)``: F0 (semitones, interpolated), voicing, harmonicity, level, tilt."""
    sound = parselmouth.Sound(wave.astype(np.float64), sampling_frequency=SAMPLE_RATE)
    centres = (np.arange(len(mel)) * STRIDE + RECEPTIVE / 2) / SAMPLE_RATE
    pitch = sound.to_pitch_ac(time_step=0.02, pitch_floor=60.0, pitch_ceiling=600.0)
    hertz, strength = pitch.selected_array["frequency"], pitch.selected_array["strength"]
    nearest = np.clip(np.searchsorted(pitch.xs(), centres), 0, len(hertz) - 1)
    voiced = hertz[nearest] > 0
    if voiced.sum() > 3:
        semitones = 12 * np.log2(np.maximum(hertz[nearest], 1.0) / 100.0)
        place = np.arange(len(mel))
        f0 = np.interp(place, place[voiced], semitones[voiced])
    else:
        f0 = np.zeros(len(mel))
    level = 10 / np.log(10) * np.log(np.exp(mel).sum(1))
    third = mel.shape[1] // 3
    tilt = mel[:, third:].mean(1) - mel[:, :third].mean(1)
    return {
        "f0": f0, "voiced": voiced.astype(float), "harmonic": strength[nearest], "level": level,
        "tilt": tilt,
    }  # fmt: skip


def _local(track: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    mean = uniform_filter1d(track, width, mode="nearest")
    square = uniform_filter1d(track**2, width, mode="nearest")
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0))


def describe(wave: np.ndarray) -> dict[str, np.ndarray]:
    """The four descriptions of one clip, each ``(T, dimensions)``."""
    mel = log_mel(wave)
    track = tracks(wave, mel)
    cepstrum = dct(mel, type=2, norm="ortho", axis=1)[:, :13]
    change = np.gradient(cepstrum, axis=0)
    sound = np.concatenate([cepstrum, change, np.gradient(change, axis=0)], axis=1)

    half = 25
    base = dct(np.eye(half), type=2, norm="ortho", axis=1)[:, 1:4]  # slope, bend, wave; no mean
    contour = []
    for key in ("f0", "level", "tilt"):
        padded = np.pad(track[key], half // 2, mode="edge")
        contour.append(np.lib.stride_tricks.sliding_window_view(padded, half) @ base)

    roughness = np.abs(np.gradient(np.gradient(track["f0"]))) * track["voiced"]
    everything = {**track, "roughness": np.sqrt(roughness)}
    voice = [_local(values, half)[0] for values in everything.values()]
    wide = 101
    manner = [part for values in everything.values() for part in _local(values, wide)]
    for column in cepstrum.T:
        manner.extend(_local(column, wide))
    return {
        "sound": sound, "contour": np.concatenate(contour, axis=1),
        "voice": np.stack(voice, axis=1), "manner": np.stack(manner, axis=1),
    }  # fmt: skip


def load_speech(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Memory-mapped samples and clip boundaries ``(clips + 1,)``."""
    lengths = json.loads((folder / "speech.json").read_text())["lengths"]
    return np.load(folder / "speech.npy", mmap_mode="r"), np.concatenate([[0], np.cumsum(lengths)])


def _describe_many(task: tuple[Path, int, int]) -> dict[str, np.ndarray]:
    folder, first, last = task
    samples, bounds = load_speech(folder)
    clips = [
        describe(samples[bounds[i] : bounds[i + 1]].astype(np.float32) / 32768.0)
        for i in range(first, last)
    ]
    return {key: np.concatenate([clip[key] for clip in clips]).astype(np.float32)
            for key in CODEBOOKS}  # fmt: skip


def make_targets(folder: Path, seed: int, processes: int) -> None:
    """Write, clips end to end, ``targets.npy`` (int16 ``(all frames, codebooks)``) and
    ``descriptions.npy`` (float16 ``(all frames, dimensions)``, standardised, cut at 4).
    """
    _, bounds = load_speech(folder)
    clips = len(bounds) - 1
    tasks = [(folder, first, min(first + 100, clips)) for first in range(0, clips, 100)]
    with ProcessPoolExecutor(processes) as pool:
        parts = list(pool.map(_describe_many, tasks))
    rng = np.random.default_rng(seed)
    targets, descriptions = [], []
    for key, size in CODEBOOKS.items():
        table = np.concatenate([part.pop(key) for part in parts])
        table = (table - table.mean(0)) / (table.std(0) + 1e-6)
        descriptions.append(np.clip(table, -4, 4).astype(np.float16))
        sample = table[rng.choice(len(table), min(len(table), 150_000), replace=False)]
        means = MiniBatchKMeans(size, batch_size=4096, n_init=1, max_iter=30, random_state=seed)
        targets.append(means.fit(sample).predict(table))
        share = np.bincount(targets[-1], minlength=size) / len(table)
        perplexity = float(np.exp(-(share * np.log(share + 1e-12)).sum()))
        print(f"{key}: {table.shape[1]} dimensions, perplexity {perplexity:.0f} of {size}")
    np.save(folder / "descriptions.npy", np.concatenate(descriptions, axis=1))
    np.save(folder / "targets.npy", np.stack(targets, axis=1).astype(np.int16))
