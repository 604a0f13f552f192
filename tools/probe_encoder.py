"""Does pretraining help? The same linear probe on trained weights, random weights and log-mel.

    python tools/probe_encoder.py src/sigma_ser/demo/encoder --tess /data/tess

Utterances are pooled to the mean and standard deviation over time of each channel, standardised on
the training part, and classified by logistic regression (C = 0.1 for everyone). UAR, chance 1/7:

- ``demo test``: train on voices f1 f2 m1 m2 m3, test on f4 and m4;
- ``demo voices``: leave one of the eight voices out, mean of eight;
- ``tess-loso2``: train on one TESS speaker, test on the other, mean of both directions;
- ``tess-norm``: the same, each speaker standardised by their own mean and deviation (no labels).

Random weights come three times (transformers' own initialisation, seeds 0 to 2). ``start`` is the
point where pretraining starts: a filterbank under random transformer blocks. Every encoder hears
utterances at unit variance, as its feature extractor gives them.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import HubertModel

from augmentation import normalise
from encoder_model import Pretraining, random_encoder
from make_demo_corpus import TEST_VOICES, VALIDATION_VOICES
from pretraining_targets import log_mel

SAMPLE_RATE = 16_000
Features = Callable[[np.ndarray], list[np.ndarray]]


@dataclass
class Speech:
    """Waveforms at 16 kHz with label and speaker."""

    waves: list[np.ndarray]
    labels: np.ndarray
    speakers: np.ndarray


def read(path: Path) -> np.ndarray:
    """One file as mono float32 at 16 kHz."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = wave.mean(1)
    return mono if rate == SAMPLE_RATE else soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")


def load_demo(root: Path) -> Speech:
    """The embedded corpus."""
    with (root / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    return Speech(
        [read(root / row["path"]) for row in rows],
        np.array([row["label"] for row in rows]), np.array([row["speaker"] for row in rows]),
    )  # fmt: skip


def load_tess(root: Path, words: int) -> Speech:
    """TESS, all of it or an even choice of ``words`` words."""
    with (root / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["word"] for row in rows})
    chosen = {names[i] for i in np.linspace(0, len(names) - 1, min(words, len(names))).astype(int)}
    rows = [row for row in rows if row["word"] in chosen]
    return Speech(
        [read(root / row["file"]) for row in rows],
        np.array([row["emotion"] for row in rows]), np.array([row["speaker"] for row in rows]),
    )  # fmt: skip


def pool(frames: np.ndarray) -> np.ndarray:
    """Mean and standard deviation over time."""
    return np.concatenate([frames.mean(0), frames.std(0)])


def mel_features(wave: np.ndarray) -> list[np.ndarray]:
    """The baseline: 80 log-mel bands on the encoder's frames."""
    return [pool(log_mel(wave, bands=80))]


def hubert_features(model: HubertModel) -> Features:
    """One vector for each layer: the projected convolutions, then every transformer block."""

    @torch.no_grad()
    def features(wave: np.ndarray) -> list[np.ndarray]:
        output = model(torch.from_numpy(normalise(wave[None])), output_hidden_states=True)
        # hidden_states[-1] is before or after the final norm, depending on the version
        states = [*output.hidden_states[:-1], output.last_hidden_state]
        return [pool(state[0].numpy()) for state in states]

    return features


def fit(table: np.ndarray, speech: Speech, train: np.ndarray, test: np.ndarray) -> float:
    """UAR of the probe on ``test``."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=400, tol=1e-3))
    model.fit(table[train], speech.labels[train])
    return float(balanced_accuracy_score(speech.labels[test], model.predict(table[test])))


def evaluate(extract: Features, demo: Speech, tess: Speech | None) -> dict[str, list[float]]:
    """UAR for each layer, by protocol."""
    result: dict[str, list[float]] = {"demo test": [], "demo voices": []}
    for table in tables(extract, demo):
        test = np.isin(demo.speakers, TEST_VOICES)
        unseen = test | np.isin(demo.speakers, VALIDATION_VOICES)
        result["demo test"].append(fit(table, demo, ~unseen, test))
        each = [fit(table, demo, demo.speakers != v, demo.speakers == v)
                for v in np.unique(demo.speakers)]  # fmt: skip
        result["demo voices"].append(float(np.mean(each)))
    if tess is not None:
        first = tess.speakers == "OAF"
        layers = list(tables(extract, tess))
        for name, change in (("tess-loso2", None), ("tess-norm", by_speaker)):
            result[name] = []
            for layer in layers:
                table = change(layer, tess.speakers) if change else layer
                there = fit(table, tess, first, ~first)
                result[name].append((there + fit(table, tess, ~first, first)) / 2)
    return result


def by_speaker(table: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Standardise each speaker's rows by themselves."""
    result = np.empty_like(table)
    for speaker in np.unique(speakers):
        rows = table[speakers == speaker]
        result[speakers == speaker] = (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
    return result


def tables(extract: Features, speech: Speech) -> Iterator[np.ndarray]:
    """``(utterances, channels)`` for each layer."""
    rows = [extract(wave) for wave in speech.waves]
    for layer in zip(*rows, strict=True):
        yield np.stack(layer)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("encoder", type=Path, nargs="*", help="folders in transformers format")
    corpus = Path(__file__).parents[1] / "src" / "sigma_ser" / "demo" / "corpus"
    parser.add_argument("--demo", type=Path, default=corpus)
    parser.add_argument("--tess", type=Path, default=None, help="folder with TESS and index.csv")
    parser.add_argument("--words", type=int, default=200, help="words of TESS (200: all)")
    parser.add_argument("--random", type=int, default=3, help="random initialisations")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None, help="write all numbers here too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    demo = load_demo(options.demo)
    tess = load_tess(options.tess, options.words) if options.tess else None
    print(f"demo {len(demo.waves)} utterances; TESS {len(tess.waves) if tess else 0}", flush=True)

    results: dict[str, dict[str, list[float]]] = {}

    def report(name: str, extract: Features) -> None:
        results[name] = evaluate(extract, demo, tess)
        for protocol, layers in results[name].items():
            values = " ".join(f"{value:.3f}" for value in layers)
            print(f"{name:24s} {protocol:12s} best {max(layers):.3f} (layer {np.argmax(layers)})"
                  f" last {layers[-1]:.3f} | {values}", flush=True)  # fmt: skip

    for folder in options.encoder:
        report(str(folder), hubert_features(HubertModel.from_pretrained(folder).float().eval()))
    if options.random:
        report("log-mel", mel_features)
        report("log-mel, unit variance", lambda wave: mel_features(normalise(wave[None])[0]))
        report("start", hubert_features(Pretraining().encoder.eval()))
    for seed in range(options.random):
        report(f"random {seed}", hubert_features(random_encoder(seed)))
    controls = [result for name, result in results.items() if name.startswith("random")]
    if len(controls) > 1:
        for protocol in controls[0]:
            for what, choose in (("best", max), ("last", lambda layers: layers[-1])):
                values = [choose(result[protocol]) for result in controls]
                print(f"random, {what} layer: {protocol} {np.mean(values):.3f} "
                      f"+- {np.std(values, ddof=1):.3f} ({len(values)} seeds)")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
