"""Every family has the features of a direct call of `transformers`, alone and in a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sigma_ser.core.errors import AudioError, EncoderError
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.testing import check_encoder

LENGTHS = (8000, 5000, 4963, 8000, 1600)
Tiny = Callable[..., Path]
Wave = Callable[..., np.ndarray]
Recipe = tuple[str, str, dict[str, Any], str]


def direct(recipe: Recipe, family: str, folder: Path) -> Callable[[np.ndarray], list[Tensor]]:
    """Hidden states `(T, D)` by `transformers` alone; the last is the output of the model."""
    import transformers

    model_class, _, _, extractor_class = recipe
    model = getattr(transformers, model_class).from_pretrained(folder, dtype=torch.float32).eval()
    extractor = getattr(transformers, extractor_class).from_pretrained(folder)
    if family == "whisper":
        model = model.encoder

    def states(samples: np.ndarray) -> list[Tensor]:
        inputs = dict(extractor(samples, sampling_rate=16_000, return_tensors="pt"))
        if family == "wav2vec2-bert":
            # Two mel frames are one step; the extractor masks the half step that may be left.
            inputs = {
                "input_features": inputs["input_features"][:, : inputs["attention_mask"].sum()]
            }
        else:
            inputs.pop("attention_mask", None)
        with torch.no_grad():
            out = model(**inputs, output_hidden_states=True)
        found = [*out.hidden_states[:-1], out.last_hidden_state]
        frames = -(-len(samples) // 320) if family == "whisper" else None
        return [state[0, :frames] for state in found]

    return states


def test_one_by_one_it_equals_a_direct_call_bit_for_bit(
    family: str, tiny: Tiny, wave: Wave, recipes: dict[str, Recipe]
) -> None:
    folder = tiny(family)
    reference = direct(recipes[family], family, folder)
    waves = [wave(n, seed) for seed, n in enumerate(LENGTHS[:3])]
    expected = [reference(samples) for samples in waves]
    for layer in (0, 1, 3, -1):
        found = load_encoder(folder, layer=layer).encode(waves, batched=False)
        for states, mine in zip(expected, found, strict=True):
            assert torch.equal(mine, states[layer]), (layer, mine.shape, states[layer].shape)


def test_every_family_passes_the_conformance_suite(family: str, tiny: Tiny) -> None:
    # The frames of a generic model are measured, and may be off by one.
    check_encoder(load_encoder(tiny(family)), frame_tolerance=int(family == "generic"))


def test_features_do_not_depend_on_the_batch(family: str, tiny: Tiny, wave: Wave) -> None:
    encoder = load_encoder(tiny(family), layer=-1)
    waves = [wave(n, seed) for seed, n in enumerate(LENGTHS)]
    together = encoder.encode(waves)
    for samples, mine in zip(waves, together, strict=True):
        alone = encoder.encode([samples])[0]
        assert mine.shape == alone.shape
        assert mine.shape[1] == encoder.dim
        # Generic models are measured, not known.
        assert abs(len(mine) - encoder.frames(len(samples))) <= (family == "generic")
        torch.testing.assert_close(mine, alone, rtol=0, atol=1e-5)


def test_mean_and_all_layers_come_from_the_single_ones(family: str, tiny: Tiny, wave: Wave) -> None:
    folder = tiny(family)
    if family == "generic":
        # SEW runs its layers at half the frame rate of its output.
        with pytest.raises(EncoderError, match="differ in frame rate"):
            load_encoder(folder, layer="mean")
        return
    waves = [wave(4000)]
    single = [load_encoder(folder, layer=n).encode(waves)[0] for n in range(4)]
    every = load_encoder(folder, layer="all")
    assert every.dim == sum(state.shape[1] for state in single)
    assert torch.equal(every.encode(waves)[0], torch.cat(single, dim=1))
    mean = load_encoder(folder, layer="mean").encode(waves)[0]
    torch.testing.assert_close(mean, torch.stack(single).mean(0), rtol=0, atol=1e-6)


def test_frame_counts_and_the_shortest_wave(family: str, tiny: Tiny, wave: Wave) -> None:
    encoder = load_encoder(tiny(family), layer=-1)
    shortest = encoder.receptive_field
    for samples in (shortest, shortest + 1, 16_000 + encoder.hop - 1, 16_000 + encoder.hop):
        if family == "generic":
            break  # what it tells is measured, and rounded
        assert len(encoder.encode([wave(samples)])[0]) == encoder.frames(samples)
    with pytest.raises(AudioError, match="shorter than") as caught:
        encoder.encode([wave(shortest - 1)])
    assert caught.value.reason == "too-short"
    assert encoder.frame_times(3).diff().tolist() == pytest.approx([encoder.frame_seconds] * 2)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat"])
def test_a_group_norm_front_end_is_never_padded(
    name: str, tiny: Tiny, wave: Wave, recipes: dict[str, Recipe]
) -> None:
    folder = tiny(name, feat_extract_norm="group", do_stable_layer_norm=False)
    reference = direct(recipes[name], name, folder)
    encoder = load_encoder(folder)
    assert not encoder.may_pad
    # 5119 samples: those behind the last frame count in the norm, and were once cut off.
    waves = [wave(8000, 1), wave(5119, 2), wave(5119, 3)]
    for samples, mine in zip(waves, encoder.encode(waves), strict=True):
        expected = reference(samples)[-1]
        torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5)
        assert torch.equal(encoder.encode([samples])[0], expected)


@pytest.mark.parametrize("name", ["hubert", "data2vec-audio"])
def test_padding_would_change_what_is_never_padded(
    name: str, tiny: Tiny, wave: Wave, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The control of the test above: were padding allowed, it would fail by orders of magnitude.
    changes: dict[str, Any] = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
    encoder = load_encoder(tiny(name, **(changes if name == "hubert" else {})))
    monkeypatch.setattr(type(encoder), "may_pad", True)
    monkeypatch.setattr("sigma_ser.encoders.batches._PADDING_SHARE", 10.0)
    padded = encoder.encode([wave(8000, 1), wave(5000, 2)])[1]
    alone = encoder.encode([wave(5000, 2)])[0]
    assert (padded - alone).abs().max() > 1e-2


def test_layer_norm_families_do_pad(tiny: Tiny) -> None:
    # Otherwise the test of batches would not cover padding.
    for name in ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "wav2vec2-bert"):
        encoder = load_encoder(tiny(name))
        assert encoder.may_pad
        assert any(len(set(group)) > 1 for group in encoder.groups([50, 49, 80]))


def test_long_utterances_are_cut_with_context_on_either_side(
    family: str, tiny: Tiny, wave: Wave
) -> None:
    if family in {"generic", "whisper"}:
        pytest.skip("generic models receive the whole utterance, Whisper is tested below")
    samples = wave(32_000)
    whole = load_encoder(tiny(family), layer=0)
    # The first hidden state sees convolutions alone: with enough overlap, cuts leave no trace.
    cut = load_encoder(tiny(family), layer=0, chunk_seconds=1.0, overlap_seconds=0.4)
    assert cut.key != whole.key
    assert len(cut.cut(whole.frames(32_000))) == 10
    torch.testing.assert_close(
        cut.encode([samples])[0], whole.encode([samples])[0], rtol=0, atol=1e-4
    )


def test_whisper_pads_to_30_seconds_or_to_whole_frames(tiny: Tiny, wave: Wave) -> None:
    from transformers import WhisperFeatureExtractor, WhisperModel

    folder = tiny("whisper")
    full = load_encoder(folder, layer=2)
    short = load_encoder(folder, layer=2, context="utterance")
    assert full.context == "full"
    assert full.key != short.key
    waves = [wave(5000, 1), wave(4963, 2), wave(8000, 3)]
    reference = WhisperModel.from_pretrained(folder).encoder.eval()
    for samples, mine, other in zip(
        waves, short.encode(waves, batched=False), full.encode(waves), strict=True
    ):
        frames = -(-len(samples) // 320)
        mel = WhisperFeatureExtractor()(
            samples, sampling_rate=16_000, max_length=frames * 320, return_tensors="pt"
        ).input_features
        assert mel.shape[-1] == 2 * frames
        model = copy.deepcopy(reference)
        model.config.max_source_positions = frames
        model.embed_positions.weight.data = model.embed_positions.weight.data[:frames]
        model.embed_positions.num_embeddings = frames
        with torch.no_grad():
            expected = model(mel, output_hidden_states=True).hidden_states[2][0]
        assert torch.equal(mine, expected)
        assert other.shape == mine.shape
        assert (other - mine).abs().max() > 1e-3


def test_whisper_reads_an_encoder_only_folder(tiny: Tiny, wave: Wave, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny("whisper")
    tensors = load_file(folder / "model.safetensors")
    # Names differ between models with and without a head, and encoders by themselves.
    start = "model.encoder." if any(n.startswith("model.encoder.") for n in tensors) else "encoder."
    own = {n.removeprefix(start): t.clone() for n, t in tensors.items() if n.startswith(start)}
    save_file(own, tmp_path / "encoder.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    alone = load_encoder(tmp_path, layer=1).encode([wave(5000)])[0]
    assert torch.equal(alone, load_encoder(folder, layer=1).encode([wave(5000)])[0])
    own.pop(sorted(own)[0])
    save_file(own, tmp_path / "encoder.safetensors")
    with pytest.raises(EncoderError, match="do not fit"):
        load_encoder(tmp_path).load()


def test_whisper_cuts_what_is_longer_than_its_context(tiny: Tiny, wave: Wave) -> None:
    folder = tiny("whisper", max_source_positions=50)
    encoder = load_encoder(folder, overlap_seconds=0.1)
    samples = wave(40_000)
    features = encoder.encode([samples])[0]
    assert len(features) == encoder.frames(40_000) == 125
