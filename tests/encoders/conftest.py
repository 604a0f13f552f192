"""Tiny encoders with random weights, one for each family, saved as their real classes save them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sigma_ser.core import registry
from sigma_ser.core.utterance import Utterance
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.corpora.reader import Card

_SIZE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
         "intermediate_size": 48, "vocab_size": 32}  # fmt: skip
_CONVOLUTIONS = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16,
                 "num_conv_pos_embedding_groups": 2, "conv_bias": True}  # fmt: skip
_LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}

# family: class of the model, of its config, its settings, class of its feature extractor
RECIPES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config",
                 _SIZE | _CONVOLUTIONS | _LAYER_NORM, "Wav2Vec2FeatureExtractor"),
    "hubert": ("HubertModel", "HubertConfig",
               _SIZE | _CONVOLUTIONS | _LAYER_NORM, "Wav2Vec2FeatureExtractor"),
    "wavlm": ("WavLMModel", "WavLMConfig",
              _SIZE | _CONVOLUTIONS | _LAYER_NORM, "Wav2Vec2FeatureExtractor"),
    "unispeech": ("UniSpeechModel", "UniSpeechConfig",
                  _SIZE | _CONVOLUTIONS | _LAYER_NORM, "Wav2Vec2FeatureExtractor"),
    "unispeech-sat": ("UniSpeechSatModel", "UniSpeechSatConfig",
                      _SIZE | _CONVOLUTIONS | _LAYER_NORM, "Wav2Vec2FeatureExtractor"),
    "data2vec-audio": ("Data2VecAudioModel", "Data2VecAudioConfig",
                       _SIZE | {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 3,
                                "num_conv_pos_embedding_groups": 2, "conv_pos_kernel_size": 7},
                       "Wav2Vec2FeatureExtractor"),
    "wav2vec2-bert": ("Wav2Vec2BertModel", "Wav2Vec2BertConfig",
                      _SIZE | {"feature_projection_input_dim": 160}, "SeamlessM4TFeatureExtractor"),
    "whisper": ("WhisperModel", "WhisperConfig",
                {"d_model": 32, "encoder_layers": 3, "encoder_attention_heads": 2,
                 "encoder_ffn_dim": 48, "decoder_layers": 1, "decoder_attention_heads": 2,
                 "decoder_ffn_dim": 48, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1,
                 "eos_token_id": 2, "decoder_start_token_id": 1}, "WhisperFeatureExtractor"),
    "generic": ("SEWModel", "SEWConfig",
                _SIZE | {"conv_dim": [16] * 13, "num_conv_pos_embeddings": 16,
                         "num_conv_pos_embedding_groups": 2, "squeeze_factor": 2},
                "Wav2Vec2FeatureExtractor"),
}  # fmt: skip


def save_tiny(family: str, folder: Path, **changes: Any) -> Path:
    """Save a tiny random model of a family with its feature extractor."""
    import transformers

    model_class, config_class, settings, extractor = RECIPES[family]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        # Of transformers' own initialisation code.
        warnings.simplefilter("ignore")
        model = getattr(transformers, model_class)(
            getattr(transformers, config_class)(**(settings | changes))
        )
        # Fresh norms are the identity and fresh biases are zero: that would hide faults.
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
        model.save_pretrained(folder)
    getattr(transformers, extractor)().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Folder of a tiny model: `tiny("hubert", feat_extract_norm="group")`."""
    made: dict[str, Path] = {}

    def folder(family: str, **changes: Any) -> Path:
        key = repr((family, sorted(changes.items())))
        if key not in made:
            made[key] = save_tiny(family, tmp_path_factory.mktemp("tiny"), **changes)
        return made[key]

    return folder


@pytest.fixture(scope="session")
def recipes() -> dict[str, tuple[str, str, dict[str, Any], str]]:
    """What tiny models are made of, by family."""
    return RECIPES


@pytest.fixture(scope="session", params=registry.names("encoder"))
def family(request: pytest.FixtureRequest) -> str:
    """Each registered family."""
    name: str = request.param
    assert name in RECIPES, f"add a tiny model of the family {name} to the recipes"
    return name


@pytest.fixture(scope="session")
def wave() -> Callable[..., np.ndarray]:
    """Makes noisy tones: `wave(samples, seed)`."""
    return noisy_tone


def noisy_tone(samples: int, seed: int = 0) -> np.ndarray:
    """A tone in noise, with an offset, so that normalisation matters."""
    rng = np.random.default_rng(seed)
    tone = np.sin(np.arange(samples) * (0.05 + 0.01 * seed)) * 0.2
    return (tone + 0.05 * rng.standard_normal(samples) + 0.01).astype(np.float32)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """23 short recordings of three classes; lengths repeat."""
    folder = tmp_path_factory.mktemp("audio")
    utterances = []
    for number in range(23):
        samples = 3200 + 800 * (number % 5) + (number % 2)
        path = folder / f"u{number:02d}.wav"
        soundfile.write(path, noisy_tone(samples, number), 16_000, subtype="FLOAT")
        label = ("angry", "happy", "sad")[number % 3]
        utterances.append(Utterance(f"u{number:02d}", path, label, "s1", "", "t", 16_000, samples))
    return Corpus("toy", tuple(utterances), ("angry", "happy", "sad"), Card("toy"))
