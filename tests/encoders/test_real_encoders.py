"""Real weights on real recordings, and the embedded encoder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sigma_ser.audio.reading import read_audio
from sigma_ser.corpora.corpus import Corpus, load_corpus
from sigma_ser.encoders.encoder import Encoder, load_encoder
from sigma_ser.encoders.extraction import extract


def test_the_embedded_encoder_is_known_and_may_be_padded() -> None:
    encoder = load_encoder("demo")
    card = encoder.card
    assert (card["family"], card["name"], encoder.may_pad) == ("hubert", "demo", True)
    assert encoder.frame_seconds == 0.02
    some = load_corpus("demo").utterances[:200:40]
    waves = [read_audio(one.path) for one in some]
    for wave, mine in zip(waves, encoder.encode(waves), strict=True):
        torch.testing.assert_close(mine, encoder.encode([wave])[0], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def tess(real_data: Path) -> Corpus:
    """Recordings of 5 words by two actresses, seven emotions."""
    corpus = load_corpus("tess", real_data / "tess")
    words = sorted({one.text_id for one in corpus.utterances})[1::40]
    chosen = tuple(one for one in corpus.utterances if one.text_id in words)
    assert len(chosen) == 70
    return dataclasses.replace(corpus, utterances=chosen)


def probe(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> float:
    """UAR of a ridge classifier on time means, over folds that share no group."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 13)))
    folds = GroupKFold(min(5, len(set(groups))))
    guessed = cross_val_predict(model, features, labels, groups=groups, cv=folds)
    return float(balanced_accuracy_score(labels, guessed))


def means(corpus: Corpus, encoder: Encoder, folder: Path) -> tuple[np.ndarray, ...]:
    """Time means, classes and speakers of a corpus, through a store."""
    store = extract(corpus, encoder, folder)
    names = [one.id for one in corpus.utterances]
    assert not store.quarantine
    rows = [store.features(name).mean(0).numpy() for name in names]
    speakers = np.array([one.speaker for one in corpus.utterances])
    return np.stack(rows), store.labels(names).numpy(), speakers


@pytest.mark.real
def test_the_whisper_folder_equals_its_own_recipe(whisper_folder: Path, tess: Corpus) -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    settings = json.loads((whisper_folder / "config.json").read_text())
    settings.pop("model_type")
    model = WhisperEncoder(WhisperConfig(**settings)).eval()
    weights = load_file(whisper_folder / "encoder.safetensors")
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    wave = read_audio(tess.utterances[0].path)
    mel = WhisperFeatureExtractor(feature_size=80, sampling_rate=16_000)(
        wave, sampling_rate=16_000, return_tensors="pt"
    ).input_features
    with torch.no_grad():
        states = model(mel, output_hidden_states=True).hidden_states
    frames = -(-len(wave) // 320)
    mine = load_encoder(whisper_folder, layer=3).encode([wave])[0]
    assert torch.equal(mine, states[3][0, :frames])


@pytest.mark.real
def test_whisper_features_separate_emotions_of_an_unseen_speaker(
    whisper_folder: Path, tess: Corpus, tmp_path: Path
) -> None:
    # Rows that are mislabelled, shuffled or cut wrongly fall to chance, 0.14. More words and the
    # full context give 0.66 (docs/encoders.md).
    encoder = load_encoder(whisper_folder, layer=3, context="utterance")
    features, labels, speakers = means(tess, encoder, tmp_path / "tess")
    assert probe(features, labels, speakers) >= 0.4
    shuffled = np.random.default_rng(0).permutation(labels)
    assert probe(features, shuffled, speakers) <= 0.3
