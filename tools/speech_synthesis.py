"""Speech from text with a prosody we choose: eSpeak NG inside Praat, then a source-filter finish.

eSpeak NG (https://github.com/espeak-ng/espeak-ng) speaks through Praat's ``SpeechSynthesizer``
(praat-parselmouth carries both). Its own pitch settings are coarse, so the contour is rewritten
afterwards by PSOLA (Moulines & Charpentier 1990), as Burkhardt & Sendlmeier (2000) did with MBROLA.
Everything random comes from the generator that the caller passes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import parselmouth
from parselmouth.praat import call, run

SAMPLE_RATE = 16_000
WORDS_PER_MINUTE = 175.0
PITCH_FLOOR, PITCH_CEILING = 55.0, 620.0
REFERENCE_RMS = 0.035


@dataclass(frozen=True)
class Voice:
    """A speaker: eSpeak's language (accent) and variant, with a pitch and vocal-tract offset."""

    name: str
    sex: str
    language: str
    variant: str
    pitch: float = 1.0
    """Factor on eSpeak's own base pitch, 0.5 to 2."""
    tract: float = 1.0
    """Factor on all formants (1.05 = a shorter vocal tract)."""


@dataclass(frozen=True)
class Prosody:
    """How an utterance departs from a voice's neutral reading."""

    pitch: float = 0.0
    """Mean F0, semitones."""
    span: float = 1.0
    """Factor on the F0 excursions (in semitones) around the mean."""
    slope: float = 0.0
    """Linear change of F0 from beginning to end, semitones."""
    final: float = 0.0
    """Extra movement over the last quarter, semitones."""
    rate: float = 1.0
    """Tempo factor."""
    gain: float = 0.0
    """Level, dB."""
    tilt: float = 0.0
    """Spectral slope above 500 Hz, dB per octave; positive is a tense, bright voice."""
    breath: float = -60.0
    """Aspiration noise against the voice, dB, following the envelope of the voice."""
    jitter: float = 0.0
    """Random F0 movement between neighbouring 10 ms points, relative standard deviation."""
    shimmer: float = 0.0
    """The same for the level, dB."""
    tremor: float = 0.0
    """Depth of a 5 to 8 Hz modulation of F0, semitones."""

    def with_noise(self, rng: np.random.Generator, spread: dict[str, float]) -> Prosody:
        """Add independent normal noise; factors and jitter are perturbed in the log domain."""
        changed: dict[str, float] = {}
        for key, sigma in spread.items():
            value = getattr(self, key)
            noise = sigma * rng.standard_normal()
            factor = key in ("span", "rate", "jitter", "shimmer", "tremor")
            changed[key] = value * float(np.exp(noise)) if factor else value + float(noise)
        return replace(self, **changed)


def seed_praat(seed: int) -> None:
    """Seed Praat's own generator, from which eSpeak's breathy voices draw their noise.

    eSpeak also carries state from one utterance to the next, so equal bytes need equal order.
    """
    run(f"random_initializeWithSeedUnsafelyButPredictably ({seed})")


@lru_cache(maxsize=256)
def _synthesizer(language: str, variant: str) -> parselmouth.Data:
    return call("Create SpeechSynthesizer", language, variant)


def speak(voice: Voice, text: str, rate: float = 1.0) -> np.ndarray:
    """Neutral reading of ``text``: float64 ``(samples,)`` at 16 kHz, silence trimmed."""
    synthesizer = _synthesizer(voice.language, voice.variant)
    words = float(np.clip(WORDS_PER_MINUTE * rate, 80, 420))
    call(
        synthesizer, "Speech output settings...",
        SAMPLE_RATE, 0.01, float(np.clip(voice.pitch, 0.5, 2.0)), 1.0, words, "IPA",
    )  # fmt: skip
    sound = call(synthesizer, "To Sound", text, "no")
    sound = sound[0] if isinstance(sound, list) else sound
    if voice.tract != 1.0:
        sound = call(sound, "Change gender", PITCH_FLOOR, PITCH_CEILING, voice.tract, 0, 1, 1)
    wave = np.asarray(sound.values[0], dtype=np.float64)
    loud = np.flatnonzero(np.abs(wave) > 1e-3)
    return wave[loud[0] : loud[-1] + 1] if len(loud) else wave[:0]


def reshape_pitch(wave: np.ndarray, prosody: Prosody, rng: np.random.Generator) -> np.ndarray:
    """Rewrite the F0 contour by PSOLA; unvoiced sound passes as it is."""
    sound = parselmouth.Sound(wave, sampling_frequency=SAMPLE_RATE)
    manipulation = call(sound, "To Manipulation", 0.01, PITCH_FLOOR, PITCH_CEILING)
    tier = call(manipulation, "Extract pitch tier")
    count = int(call(tier, "Get number of points"))
    if count < 3:
        return wave
    times = np.array([call(tier, "Get time from index", i + 1) for i in range(count)])
    hertz = np.array([call(tier, "Get value at index", i + 1) for i in range(count)])
    semitones = 12 * np.log2(hertz)
    mean = float(np.median(semitones))
    # octave errors of the tracker would be blown up by the span
    excursion = np.clip(semitones - mean, -6, 6) * prosody.span
    place = times / sound.duration
    contour = mean + prosody.pitch + excursion + prosody.slope * (place - 0.5)
    contour = contour + prosody.final * np.clip((place - 0.75) / 0.25, 0, 1)
    phase, speed = rng.uniform(0, 2 * np.pi), rng.uniform(5, 8)
    contour = contour + prosody.tremor * np.sin(2 * np.pi * speed * times + phase)
    wobble = rng.standard_normal(count) * prosody.jitter
    values = np.clip(2 ** (contour / 12) * (1 + wobble), 60.0, 600.0)
    fresh = call("Create PitchTier", "contour", 0.0, sound.duration)
    for time, value in zip(times, values, strict=True):
        call(fresh, "Add point", float(time), float(value))
    call([manipulation, fresh], "Replace pitch tier")
    return np.asarray(call(manipulation, "Get resynthesis (overlap-add)").values[0])


def tilt_spectrum(wave: np.ndarray, decibels_per_octave: float) -> np.ndarray:
    """Straight-line gain over log-frequency above 500 Hz, flat below, energy kept."""
    spectrum = np.fft.rfft(wave)
    frequency = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)
    octaves = np.clip(np.log2(np.maximum(frequency, 1.0) / 500.0), 0.0, 4.0)
    shaped = np.fft.irfft(spectrum * 10 ** (decibels_per_octave * octaves / 20), len(wave))
    return shaped * (rms(wave) / max(rms(shaped), 1e-9))


def envelope(wave: np.ndarray, seconds: float = 0.02) -> np.ndarray:
    """Moving RMS."""
    width = int(seconds * SAMPLE_RATE)
    power = np.convolve(wave**2, np.ones(width) / width, mode="same")
    return np.sqrt(np.maximum(power, 0.0))


def add_breath(wave: np.ndarray, decibels: float, rng: np.random.Generator) -> np.ndarray:
    """High-passed noise that follows the voice's envelope (aspiration)."""
    if decibels <= -59:
        return wave
    noise = rng.standard_normal(len(wave))
    noise = np.diff(noise, prepend=0.0)
    return wave + noise / noise.std() * envelope(wave) * 10 ** (decibels / 20)


def rms(wave: np.ndarray) -> float:
    """Root mean square level."""
    return float(np.sqrt(np.mean(wave**2))) if len(wave) else 0.0


def render(voice: Voice, text: str, prosody: Prosody, rng: np.random.Generator) -> np.ndarray:
    """Speak ``text`` with ``prosody``: float64 at 16 kHz; level is part of the prosody."""
    wave = speak(voice, text, prosody.rate)
    if len(wave) < SAMPLE_RATE // 5:
        return wave[:0]
    wave = reshape_pitch(wave, prosody, rng)
    wave = tilt_spectrum(wave, prosody.tilt)
    wave = add_breath(wave, prosody.breath, rng)
    if prosody.shimmer:
        steps = rng.standard_normal(len(wave) // 160 + 2) * prosody.shimmer
        track = np.interp(np.arange(len(wave)) / 160, np.arange(len(steps)), steps)
        wave = wave * 10 ** (track / 20)
    wave = wave * (REFERENCE_RMS * 10 ** (prosody.gain / 20) / max(rms(wave), 1e-9))
    return np.clip(wave, -0.99, 0.99)
