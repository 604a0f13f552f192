"""Victims on the waveform: a linear model with a known optimum, and what does not fit together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.core.errors import VictimError
from sigma_ser.core.features import pad
from sigma_ser.testing import example_settings
from sigma_ser.victims.waveform import on_waveform

SAMPLES = 48


class LinearHead(nn.Module):
    """Two classes with a weight for every frame and channel."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(6)
        self.weight = nn.Parameter(torch.randn(SAMPLES // 4, channels, generator=rng))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        score = (x * self.weight[: x.shape[1]]).sum((1, 2))
        return torch.stack([score, -score], 1)


@pytest.fixture(scope="module")
def problem(
    linear_frames: type[Any],
) -> tuple[Any, ss.FeatureBatch, Tensor, Tensor]:
    """A linear victim, waves, their labels, and the slope of the score in each sample."""
    victim = on_waveform(linear_frames(), ss.wrap(LinearHead().eval()))
    rng = torch.Generator().manual_seed(1)
    batch = pad([0.3 * torch.randn(size, 1, generator=rng) for size in (SAMPLES, 36, 40)])
    x = batch.x.clone().requires_grad_()
    logits = victim(x, batch.lengths)
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), x)
    return victim, batch, logits.argmax(1), slope


def margin(victim: Any, x: Tensor, batch: ss.FeatureBatch, labels: Tensor) -> Tensor:
    with torch.no_grad():
        logits = victim(x, batch.lengths)
    chosen = logits.gather(1, labels[:, None])[:, 0]
    return logits.gather(1, 1 - labels[:, None])[:, 0] - chosen


@pytest.mark.parametrize("name", registry.names("attack"))
def test_no_attack_exceeds_the_optimum_of_a_linear_model(
    name: str, problem: tuple[Any, ss.FeatureBatch, Tensor, Tensor]
) -> None:
    victim, batch, labels, slope = problem
    # So small that nothing succeeds, and every attack returns its largest margin.
    budget = ss.Budget.from_snr(batch, snr=60.0, sparsity=0.25)
    k = budget.elements(batch.lengths, 1)
    largest = slope.abs()[:, :, 0].sort(1, descending=True).values
    gain = torch.stack([row[:count].sum() for row, count in zip(largest, k, strict=True)])
    optimum = margin(victim, batch.x, batch, labels) + 2 * budget.epsilon[:, 0].float() * gain
    # Attacks that move their whole mask keep their largest changes.
    settings = {"keep_largest": True} if name in ("fgsm", "mifgsm", "pgd") else {}
    settings |= example_settings(name, channels=1)
    result = ss.make_attack(name, max_passes=60, **settings)(victim, batch, labels, budget)
    assert not result.success.any()
    found = margin(victim, result.x_adv, batch, labels)
    assert (found <= optimum + 1e-5).all()
    if name == "oneshot":
        torch.testing.assert_close(found, optimum, atol=1e-5, rtol=0.0)
        moved = (result.x_adv - batch.x)[:, :, 0]
        towards = torch.where(labels[:, None] == 0, -slope[:, :, 0], slope[:, :, 0])
        for row, count in enumerate(k.tolist()):
            chosen = slope[row, :, 0].abs().topk(count).indices
            expected = torch.zeros(SAMPLES).double()
            expected[chosen] = float(budget.epsilon[row]) * towards[row, chosen].sign().double()
            torch.testing.assert_close(moved[row].double(), expected, atol=1e-7, rtol=0.0)


def test_the_demo_encoder_from_its_recordings() -> None:
    corpus = ss.load_corpus("demo")
    waves = ss.waveforms(corpus, (corpus.utterances[0].id, corpus.utterances[40].id))
    assert waves.ids == (corpus.utterances[0].id, corpus.utterances[40].id)
    assert waves.lengths.tolist() == [corpus.utterances[row].num_samples for row in (0, 40)]
    encoder = ss.load_encoder("demo")
    torch.manual_seed(0)
    victim = ss.wrap(Pooled(encoder.dim).eval(), class_names=("a", "b", "c"))
    whole = ss.on_waveform(encoder, victim)
    with torch.no_grad():
        logits = whole(waves.x, waves.lengths)
    for row, size in enumerate(waves.lengths.tolist()):
        features = encoder.encode([waves.x[row, :size, 0].numpy()])[0][None]
        expected = victim(features, torch.tensor([features.shape[1]]))[0]
        torch.testing.assert_close(logits[row], expected, atol=1e-4, rtol=0.0)
    budget = ss.Budget.from_snr(waves, snr=30, sparsity=0.1, granularity="segment")
    result = ss.attack("oneshot", whole, waves, logits.argmax(1), budget)
    assert result.x_adv.abs().max() <= 1


class Pooled(nn.Module):
    """The mean of the frames and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.out = nn.Linear(channels, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.out(x.sum(1) / lengths[:, None])


def test_a_victim_with_a_sum_of_layers_takes_all_of_them(linear_frames: type[Any]) -> None:
    encoder, victim = linear_frames(), ss.wrap(LinearHead().eval())
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    victim.layer_weights = weights
    with pytest.raises(VictimError, match='load the encoder with layer="all"'):
        on_waveform(encoder, victim)
    encoder.layer = "all"
    encoder.matrix = torch.randn(4, 24, generator=torch.Generator().manual_seed(9))
    whole = on_waveform(encoder, victim)
    batch = pad([torch.linspace(-0.5, 0.5, SAMPLES)[:, None]])
    states = (batch.x.view(1, -1, 4) @ encoder.matrix).view(1, SAMPLES // 4, 4, 6)
    expected = victim((states * weights[:, None]).sum(2), torch.tensor([SAMPLES // 4]))
    torch.testing.assert_close(whole(batch.x, batch.lengths), expected)


def test_what_does_not_fit_together_is_refused(linear_frames: type[Any]) -> None:
    encoder = linear_frames()
    with pytest.raises(VictimError, match="has 5 channels and the features of the encoder 6"):
        on_waveform(encoder, ss.wrap(LinearHead(5).eval(), scale=torch.ones(5)))
    with pytest.raises(VictimError, match="kept_seconds must be above 0"):
        on_waveform(encoder, ss.wrap(LinearHead().eval()), kept_seconds=0.0)
    corpus = ss.load_corpus("demo")
    for ids in ([], "one"):
        with pytest.raises(ss.errors.CorpusError, match="a list of at least one utterance id"):
            ss.waveforms(corpus, ids)
