"""Every family from the waveform: logits of extraction, and gradients of the samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.core.features import pad
from sigma_ser.encoders.families.wav2vec2_bert import kaldi_log_mel
from sigma_ser.encoders.families.whisper import Whisper
from sigma_ser.victims.pooling import mean_pool

Tiny = Callable[..., Path]
Wave = Callable[..., np.ndarray]

# Numbers of samples: equal ones, similar ones that are padded together, and an odd one.
LENGTHS = (8_000, 8_000, 7_681, 4_003)


class Head(nn.Module):
    """A small non-linear head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.inner, self.out = nn.Linear(channels, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.out(mean_pool(torch.tanh(self.inner(x)), lengths))


def victim_of(encoder: ss.Encoder) -> Any:
    return ss.wrap(Head(encoder.dim).eval(), class_names=("a", "b", "c"))


def batch_of(wave: Wave, lengths: tuple[int, ...] = LENGTHS) -> ss.FeatureBatch:
    return pad([torch.from_numpy(wave(n, seed))[:, None] for seed, n in enumerate(lengths)])


def extracted(encoder: ss.Encoder, victim: Any, batch: ss.FeatureBatch) -> Tensor:
    waves = [row[:size, 0].numpy() for row, size in zip(batch.x, batch.lengths, strict=True)]
    features = pad(encoder.encode(waves))
    with torch.no_grad():
        return victim(features.x, features.lengths)


def test_logits_are_those_of_extracted_features(family: str, tiny: Tiny, wave: Wave) -> None:
    encoder = ss.load_encoder(tiny(family))
    victim, batch = victim_of(encoder), batch_of(wave)
    whole = ss.on_waveform(encoder, victim)
    assert (whole.class_names, whole.box, float(whole.scale)) == (("a", "b", "c"), (-1, 1), 1)
    expected = extracted(encoder, victim, batch)
    x = batch.x.clone().requires_grad_()
    found = whole(x, batch.lengths)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0.0)
    with torch.no_grad():
        torch.testing.assert_close(whole(batch.x, batch.lengths), found, atol=1e-5, rtol=0.0)
    for row in range(len(batch)):
        one = batch.select(torch.tensor([row]))
        torch.testing.assert_close(whole(one.x, one.lengths)[0], expected[row], atol=1e-4, rtol=0.0)
    # No gradient on padding, some on nearly every sample.
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert not gradient[~batch.valid].any()
    assert gradient.isfinite().all()
    assert (gradient[batch.valid] != 0).float().mean() > 0.9


def test_features_are_those_of_extraction(family: str, tiny: Tiny, wave: Wave) -> None:
    encoder = ss.load_encoder(tiny(family), layer=1, chunk_seconds=0.4, overlap_seconds=0.1)
    waves = [wave(n, seed) for seed, n in enumerate(LENGTHS)]
    traced = encoder.trace([torch.from_numpy(samples).requires_grad_() for samples in waves])
    for found, expected in zip(traced, encoder.encode(waves), strict=True):
        torch.testing.assert_close(found.detach(), expected, atol=1e-5, rtol=1e-5)


def test_the_spectrogram_of_w2v_bert_is_that_of_its_feature_extractor(
    tiny: Tiny, wave: Wave
) -> None:
    mel = ss.load_encoder(tiny("wav2vec2-bert"))._mel
    samples = wave(7_681)
    found = kaldi_log_mel(torch.from_numpy(samples), torch.from_numpy(mel.mel_filters))
    expected = torch.from_numpy(mel._extract_fbank_features(samples))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0.0)


def test_gradients_are_those_of_finite_differences(family: str, tiny: Tiny, wave: Wave) -> None:
    encoder = ss.load_encoder(tiny(family))
    victim, batch = victim_of(encoder), batch_of(wave, (4_003, 6_000))
    whole = ss.on_waveform(encoder, victim)
    x = batch.x.clone().requires_grad_()
    margin = (whole(x, batch.lengths) * torch.tensor([1.0, -2.0, 0.5])).sum()
    (gradient,) = torch.autograd.grad(margin, x)
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=rng) * batch.valid[:, :, None]
    # Along the gradient with noise, so that the sum of many samples is well above rounding.
    direction = gradient / gradient.norm() + 0.1 * noise / noise.norm()
    step = 2e-3

    def value(moved: Tensor) -> float:
        changed = ss.FeatureBatch(moved, batch.lengths)
        logits = extracted(encoder, victim, changed).double()
        return float((logits * torch.tensor([1.0, -2.0, 0.5])).sum())

    difference = (value(batch.x + step * direction) - value(batch.x - step * direction)) / step / 2
    assert difference == pytest.approx(float((gradient * direction).sum()), rel=0.05)


@pytest.mark.parametrize("name", ["hubert", "whisper"])
def test_a_split_batch_has_the_same_gradients(name: str, tiny: Tiny, wave: Wave) -> None:
    encoder = ss.load_encoder(tiny(name))
    victim, batch = victim_of(encoder), batch_of(wave)
    found = []
    for seconds in (100.0, 0.6, 1e-3):
        whole = ss.on_waveform(encoder, victim, kept_seconds=seconds)
        x = batch.x.clone().requires_grad_()
        logits = whole(x, batch.lengths)
        found.append((logits, torch.autograd.grad(logits[:, 0].sum(), x)[0]))
    for logits, gradient in found[1:]:
        torch.testing.assert_close(logits, found[0][0], atol=1e-5, rtol=0.0)
        torch.testing.assert_close(gradient, found[0][1], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("context", ["full", "utterance"])
def test_an_attack_leaves_whisper_as_it_was(context: str, tiny: Tiny, wave: Wave) -> None:
    # A past fault: the context replaced the positional embeddings of the model.
    encoder = ss.load_encoder(tiny("whisper"), context=context)
    assert isinstance(encoder, Whisper)
    victim, batch = victim_of(encoder), batch_of(wave, (4_000, 2_003))
    whole = ss.on_waveform(encoder, victim)
    positions = whole.module.encoder_model.embed_positions
    labels = whole(batch.x, batch.lengths).argmax(1)
    result = ss.attack("oneshot", whole, batch, labels, ss.Budget.from_snr(batch, 20, 0.5))
    assert (result.x_adv != batch.x).any()
    assert whole.module.encoder_model.embed_positions is positions
    assert positions.num_embeddings == encoder.longest


def test_preprocessing_that_no_gradient_passes_is_refused(
    tiny: Tiny, wave: Wave, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ss.load_encoder(tiny("generic"))
    extractor = type(encoder._extractor)
    call = extractor.__call__

    def squared(self: Any, samples: np.ndarray, **settings: Any) -> Any:
        made = call(self, samples, **settings)
        made["input_values"] = made["input_values"] ** 2
        return made

    monkeypatch.setattr(extractor, "__call__", squared)
    batch = batch_of(wave, (8_000,))
    whole = ss.on_waveform(encoder, victim_of(encoder))
    with torch.no_grad():
        whole(batch.x, batch.lengths)
    with pytest.raises(ss.errors.EncoderError, match="does more than normalise the wave"):
        whole(batch.x.clone().requires_grad_(), batch.lengths)


def test_a_family_without_differentiable_preprocessing_says_so() -> None:
    encoder = ss.load_encoder("demo")
    with pytest.raises(ss.errors.EncoderError, match="define prepare_tensor in its family"):
        ss.Encoder.prepare_tensor(encoder, torch.zeros(400))
