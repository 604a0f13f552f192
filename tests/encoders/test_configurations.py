"""Configurations of one family differ: each is padded, counted and fed as its own config says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sigma_ser.core.errors import AudioError, EncoderError
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.encoders.families.generic import frame_grid
from sigma_ser.encoders.padding import TOLERANCE, padding_change
from sigma_ser.testing import check_encoder

Tiny = Callable[..., Path]
Wave = Callable[..., np.ndarray]

# Configurations of the same model types, and whether they may be padded.
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "batch norm before the positions": ("hubert", {"conv_pos_batch_norm": True}, False),
    "no norm after the front end": ("hubert", {"feat_proj_layer_norm": False}, True),
    "language adapters": ("wav2vec2", {"adapter_attn_dim": 4}, True),
    "norm after each layer": ("wav2vec2", {"do_stable_layer_norm": False}, True),
    "gated activation": ("unispeech", {"hidden_act": "swish"}, True),
    "few buckets": ("wavlm", {"num_buckets": 8, "max_bucket_distance": 16}, True),
    "rotary positions": ("wav2vec2-bert", {"position_embeddings_type": "rotary"}, True),
    "no positions": ("wav2vec2-bert", {"position_embeddings_type": None}, True),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_each_configuration_obeys_the_laws_of_encoders(name: str, tiny: Tiny) -> None:
    family, changes, padded = CONFIGURATIONS[name]
    encoder = load_encoder(tiny(family, **changes))
    check_encoder(encoder)
    # The promise, and that it is not kept by never padding anything.
    assert encoder.may_pad is padded
    change = padding_change(encoder)
    assert change <= TOLERANCE if padded else change > 1e-2


def test_a_batch_norm_before_the_positions_is_never_padded(tiny: Tiny, wave: Wave) -> None:
    # Past fault: its bias turned padding into values that the convolution spread.
    encoder = load_encoder(tiny("hubert", conv_pos_batch_norm=True))
    waves = [wave(16_000, 1), wave(15_000, 2)]
    for together, alone in zip(
        encoder.encode(waves), encoder.encode(waves, batched=False), strict=True
    ):
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_the_measurement_is_the_same_in_every_arithmetic(tiny: Tiny) -> None:
    # In float16, rounding alone exceeds the tolerance.
    encoder = load_encoder(tiny("hubert"), dtype="float16")
    assert encoder.may_pad
    assert {parameter.dtype for parameter in encoder.model.parameters()} == {torch.float16}


@pytest.mark.parametrize("name", ["wav2vec2", "wavlm", "wav2vec2-bert"])
def test_states_before_an_adapter_are_counted_and_its_output_is_refused(
    name: str, tiny: Tiny, wave: Wave
) -> None:
    # Past fault: the adapter halved the frame rate, and frame times and long waves were wrong.
    folder = tiny(name, add_adapter=True, num_adapter_layers=1)
    for layer in (-1, 3, "mean", "all"):
        with pytest.raises(EncoderError, match=r"adapter .* choose a layer from 0 to 2"):
            load_encoder(folder, layer=layer)
    encoder = load_encoder(folder, layer=2, chunk_seconds=1.0, overlap_seconds=0.2)
    assert len(encoder.encode([wave(40_000)])[0]) == encoder.frames(40_000)
    check_encoder(load_encoder(folder, layer=1))


def copied(tiny: Tiny, folder: Path, family: str, **settings: Any) -> Path:
    """A tiny model whose feature extractor has other settings."""
    copy = Path(shutil.copytree(tiny(family), folder / family))
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return copy


def test_other_sampling_rates_are_refused_in_every_family(
    family: str, tiny: Tiny, tmp_path: Path
) -> None:
    # Past fault: all families but the generic one read 16 kHz audio as if it were 8 kHz.
    with pytest.raises(EncoderError, match="needs audio at 8000 Hz"):
        load_encoder(copied(tiny, tmp_path, family, sampling_rate=8000))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("whisper", {"hop_length": 320}),
        ("whisper", {"n_fft": 10**9}),
        ("whisper", {"n_fft": "wide"}),
        ("wav2vec2-bert", {"stride": 1}),
        ("wav2vec2-bert", {"num_mel_bins": 10**9}),
    ],
)
def test_spectrograms_that_a_model_does_not_take_are_refused(
    name: str, settings: dict[str, Any], tiny: Tiny, tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match="the feature extractor of"):
        load_encoder(copied(tiny, tmp_path, name, **settings))


@pytest.mark.parametrize("key", ["feature_extractor", "audio_processor"])
def test_a_feature_extractor_inside_a_processor_is_read(
    key: str, tiny: Tiny, tmp_path: Path
) -> None:
    folder = copied(tiny, tmp_path, "hubert")
    processor = folder / "processor_config.json"
    # As saved before feature extractors were nested in it.
    processor.write_text(json.dumps({"processor_class": "Wav2Vec2Processor"}))
    assert load_encoder(folder).card["preprocessing"] == {"normalise": True}
    processor.write_text(json.dumps({key: {"do_normalize": False}}))
    assert load_encoder(folder).card["preprocessing"] == {"normalise": False}
    (folder / "preprocessor_config.json").unlink()
    assert load_encoder(folder).card["preprocessing"] == {"normalise": False}
    processor.write_text(json.dumps({key: {"sampling_rate": 8000}}))
    with pytest.raises(EncoderError, match="needs audio at 8000 Hz"):
        load_encoder(folder)
    processor.write_text(json.dumps({key: [1]}))
    with pytest.raises(EncoderError, match="is not a JSON object"):
        load_encoder(folder)


def saved(model: Any, extractor: Any, folder: Path) -> Path:
    """A folder of a model of `transformers` with its feature extractor."""
    model.eval().save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def test_the_hop_of_a_strided_spectrogram_is_exact(tmp_path: Path, wave: Wave) -> None:
    # Past fault: 13 frames in a second of silence made a hop of 1231 samples, which is 1280.
    import transformers

    config = transformers.ParakeetEncoderConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        subsampling_conv_channels=4,
    )  # fmt: skip
    model = transformers.ParakeetEncoder(config)
    encoder = load_encoder(saved(model, transformers.ParakeetFeatureExtractor(), tmp_path))
    assert encoder.hop == 1280
    features = encoder.encode([wave(300_000)])[0]
    assert len(features) == encoder.frames(300_000)
    assert 300_000 / 16_000 - 0.08 <= float(encoder.frame_times(len(features))[-1]) <= 18.75


def test_an_extractor_that_divides_by_the_deviation_is_measured(tmp_path: Path) -> None:
    # Past fault: silence has no standard deviation, and the model could not be opened.
    import transformers

    config = transformers.Speech2TextConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=20,
        conv_channels=8,
    )  # fmt: skip
    model = transformers.Speech2TextModel(config)
    encoder = load_encoder(saved(model, transformers.Speech2TextFeatureExtractor(), tmp_path))
    assert (encoder.hop, encoder.dim) == (640, 16)


def test_a_wave_too_short_for_an_unknown_model_is_left_out(tiny: Tiny, wave: Wave) -> None:
    encoder = load_encoder(tiny("generic"))
    encoder.receptive_field = 1
    with pytest.raises(AudioError, match="too short") as caught:
        encoder.encode([wave(30)])
    assert caught.value.reason == "too-short"


@given(
    stride=st.sampled_from([80, 160, 320]),
    multiple=st.integers(1, 12),
    field=st.integers(1, 4000),
)
def test_the_hop_that_explains_frame_counts_is_found(
    stride: int, multiple: int, field: int
) -> None:
    hop = stride * multiple
    counts = {n: (n - field) // hop + 1 for n in (32_000, 48_001, 160_000)}
    found = frame_grid(counts, [stride])
    assert found is not None
    assert found[0] == hop
    # An upper bound, with which each of the waves has its frames.
    assert {n: (n - found[1]) // hop + 1 for n in counts} == counts
    assert frame_grid({16_000: 5, 32_000: 5}, [stride]) is None
