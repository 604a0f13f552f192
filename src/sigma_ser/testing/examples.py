"""A small victim and a small batch on which members are checked."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.attacks.generator_training import train_generator
from sigma_ser.core import registry
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.core.passes import per_channel
from sigma_ser.victims.victim import Standardised, WrappedVictim, wrap

LENGTHS = (9, 4, 7, 9, 5, 8)


class _Convolution(nn.Module):
    """Smooth, not linear, and exact under padding."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(channels, 8, 3, padding=1)
        self.activation = nn.Tanh()
        self.out = nn.Linear(8, classes)

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Tensor:
        valid = valid_frames(lengths, x.shape[1])[:, None, :]
        hidden = self.activation(self.mix(x.transpose(1, 2) * valid)) * valid
        logits: Tensor = self.out(hidden.sum(2) / lengths[:, None])
        return logits


def example_victim(channels: int = 6, classes: int = 3) -> WrappedVictim:
    """A small convolutional victim with random weights, the same at every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        head = _Convolution(channels, classes)
    mean, scale = torch.linspace(-1.0, 1.0, channels), torch.linspace(0.5, 2.0, channels)
    names = [f"class-{index}" for index in range(classes)]
    return wrap(Standardised(head, mean, scale).eval(), names, mean, scale)


def example_batch(victim: Victim, channels: int | None = None) -> FeatureBatch:
    """Six random utterances of 4 to 9 frames in the scale of a victim, with noise on the padding.

    Args:
        victim: gives mean and scale of the channels.
        channels: number of channels; `None` takes it from the scale of the victim.
    """
    size = channels or victim.scale.numel()
    rng = torch.Generator().manual_seed(7)
    x = torch.randn(len(LENGTHS), max(LENGTHS), size, generator=rng)
    x = per_channel(victim.mean, x) + per_channel(victim.scale, x) * x
    lengths = torch.tensor(LENGTHS)
    padding = ~valid_frames(lengths, x.shape[1])
    x[padding] = 100 * torch.randn(int(padding.sum()), size, generator=rng)
    return FeatureBatch(x, lengths)


def example_settings(attack: str, channels: int = 6) -> dict[str, Any]:
    """The settings without which a registered attack cannot be made; empty for most.

    An attack with a setting `generator` is given a small generator, trained in a few steps on the
    example victim, the same at every call.

    Args:
        attack: a registered name.
        channels: channels of the features that will be attacked.
    """
    if "generator" not in inspect.signature(registry.get("attack", attack)).parameters:
        return {}
    victim = example_victim(channels)
    batch = example_batch(victim)
    with torch.no_grad():
        labels = victim(batch.x, batch.lengths).argmax(1)
    budget = Budget(sparsity=0.3, epsilon=1.0)
    settings: Any = {"steps": 3, "batch_size": 6, "width": 4, "levels": 1}
    return {"generator": train_generator(victim, batch, labels, budget, **settings)}


def alone(batch: FeatureBatch, row: int) -> FeatureBatch:
    """One utterance, cut to its own length."""
    return batch.select(torch.tensor([row]))


def companies(batch: FeatureBatch) -> Iterator[tuple[str, FeatureBatch, Int[Tensor, "R"]]]:
    """The utterances of a batch in other company, with the rows that they had."""
    order = torch.arange(len(batch)).flip(0)
    yield "in another order", batch.select(order), order
    longer = nn.functional.pad(batch.x, (0, 0, 0, 5))
    yield "behind more padding", FeatureBatch(longer, batch.lengths, batch.ids), order.flip(0)
    for row in range(len(batch)):
        yield "alone than in a batch", alone(batch, row), torch.tensor([row])
