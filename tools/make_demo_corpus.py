"""Make the embedded corpus: 8 synthetic voices x 7 emotions x 12 words, "Say the word ___".

    python tools/make_demo_corpus.py [--out src/sigma_ser/demo/corpus] [--seed 20260630]

The direction of each prosodic change follows Murray & Arnott (1993, JASA 93(2), table I) and
Burkhardt & Sendlmeier (2000, ISCA Workshop on Speech and Emotion); the sizes are ours, and so is
the spread around them, which is wide on purpose: emotions overlap, as they do in people.
The same seed gives the same bytes on the same library versions.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import zlib
from pathlib import Path

import numpy as np
import soundfile

from speech_synthesis import SAMPLE_RATE, Prosody, Voice, render, seed_praat

VOICES = (
    Voice("f1", "female", "English (America)", "Female4", 1.20, 1.04),
    Voice("f2", "female", "English (Received Pronunciation)", "Female5", 1.00, 1.00),
    Voice("f3", "female", "English (Scotland)", "Auntie", 1.00, 0.97),
    Voice("m1", "male", "English (America)", "Male3", 1.00, 0.98),
    Voice("m2", "male", "English (Great Britain)", "Male4", 0.95, 0.95),
    Voice("m3", "male", "English (Lancaster)", "Norbert", 1.25, 1.03),
    Voice("f4", "female", "English (Great Britain)", "Female1", 1.05, 1.00),
    Voice("m4", "male", "English (America)", "Male2", 1.10, 1.00),
)
VALIDATION_VOICES = ("f3",)
TEST_VOICES = ("f4", "m4")
WORDS = (
    "bean", "chalk", "dog", "fall", "goose", "home", "lease", "mill", "night", "rush", "tape",
    "young",
)  # fmt: skip

# relative to the neutral reading of the same voice
RULES: dict[str, Prosody] = {
    "neutral": Prosody(),
    "happy": Prosody(pitch=4.5, span=1.9, slope=1.0, final=1.0, rate=1.12, gain=3.0, tilt=1.2,
                     breath=-30.0),
    "sad": Prosody(pitch=-1.5, span=0.55, slope=-2.0, final=-1.0, rate=0.76, gain=-5.0, tilt=-2.2,
                   breath=-17.0, jitter=0.012, shimmer=0.5),
    "angry": Prosody(pitch=3.0, span=1.8, slope=-0.5, final=-3.0, rate=1.18, gain=6.0, tilt=2.8,
                     jitter=0.010, shimmer=0.8),
    "fear": Prosody(pitch=6.5, span=0.9, slope=0.5, rate=1.36, gain=-0.5, tilt=0.3, breath=-20.0,
                    jitter=0.030, shimmer=0.8, tremor=0.7),
    "disgust": Prosody(pitch=-3.5, span=1.3, slope=-2.5, final=-4.0, rate=0.72, gain=-1.0, tilt=0.4,
                       jitter=0.025, shimmer=1.5),
    "surprise": Prosody(pitch=4.5, span=2.2, slope=4.0, final=7.0, rate=0.98, gain=1.5, tilt=0.2,
                        breath=-28.0),
}  # fmt: skip
CLIP_SPREAD = {
    "pitch": 1.2, "span": 0.25, "slope": 1.2, "final": 1.5, "rate": 0.09, "gain": 2.0, "tilt": 0.8,
    "breath": 3.5, "jitter": 0.5, "shimmer": 0.4, "tremor": 0.4,
}  # fmt: skip
# a speaker's own way to express an emotion, the same in all of their clips of it
SPEAKER_SPREAD = {key: 0.4 * value for key, value in CLIP_SPREAD.items()}
COLUMNS = (
    "id", "path", "label", "speaker", "session", "text_id", "sample_rate", "num_samples",
)  # fmt: skip


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator of its own for each name: adding a voice or word leaves other clips alone."""
    return np.random.default_rng([seed, zlib.crc32("/".join(names).encode())])


def clip(voice: Voice, emotion: str, word: str, seed: int) -> np.ndarray:
    """One utterance as int16 samples."""
    manner = RULES[emotion].with_noise(generator(seed, voice.name, emotion), SPEAKER_SPREAD)
    rng = generator(seed, voice.name, emotion, word)
    wave = render(voice, f"Say the word {word}", manner.with_noise(rng, CLIP_SPREAD), rng)
    before, after = (rng.uniform(0.05, 0.15, 2) * SAMPLE_RATE).astype(int)
    wave = np.concatenate([np.zeros(before), wave, np.zeros(after)])
    # recording noise: digital silence exists in no recording, and this costs few bits
    wave = wave + 10 ** (rng.uniform(-78, -68) / 20) * rng.standard_normal(len(wave))
    return np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)


def build(out: Path, seed: int) -> str:
    """Write all clips and ``index.csv``; returns a SHA-256 over every file."""
    seed_praat(seed)
    digest = hashlib.sha256()
    rows: list[tuple[object, ...]] = []
    for voice in VOICES:
        (out / voice.name).mkdir(parents=True, exist_ok=True)
        for emotion in RULES:
            for word in WORDS:
                samples = clip(voice, emotion, word, seed)
                name = f"{voice.name}_{word}_{emotion}"
                path = out / voice.name / f"{name}.flac"
                soundfile.write(path, samples, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
                digest.update(path.read_bytes())
                rows.append(
                    (name, path.relative_to(out).as_posix(), emotion, voice.name, "", word,
                     SAMPLE_RATE, len(samples))
                )  # fmt: skip
    with (out / "index.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    digest.update((out / "index.csv").read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(__file__).parents[1] / "src" / "sigma_ser" / "demo" / "corpus"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--seed", type=int, default=20260630)
    arguments = parser.parse_args()
    digest = build(arguments.out, arguments.seed)
    files = list(arguments.out.rglob("*.flac"))
    size = sum(file.stat().st_size for file in files)
    print(f"{len(files)} clips, {size / 1e6:.1f} MB, sha256 {digest}")


if __name__ == "__main__":
    main()
