"""Two convolutions with ReLU: bounds of windows against random changes and an integer program."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import Tensor

import sigma_ser as ss
from sigma_ser.certificates.sharing import worst_choice
from sigma_ser.certificates.windows import TwoConvolutions, convolved
from sigma_ser.core.budget import Budget
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.heads import CNN
from sigma_ser.victims.victim import Standardised, WrappedVictim

Array = np.ndarray


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), most=st.integers(1, 6), frames=st.integers(1, 7))
def test_windows_bound_the_damage_of_every_change(seed: int, most: int, frames: int) -> None:
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    first, second, gain = normal(4, 2, 3), normal(3, 4, 3), normal(2, 3) / frames
    h1 = normal(4, frames)
    h2, offset = normal(3, frames), convolved(h1.relu()[None], second)[0]
    radius = torch.rand(frames, 2, generator=rng, dtype=torch.float64)
    radius *= torch.rand(frames, 2, generator=rng) < 0.8
    layers = TwoConvolutions(first, second, h1, h2, gain, radius)
    most = min(most, layers.capacity)
    if most == 0:
        return
    counts = sorted({1, most})
    windows, scores = layers.damage_of_windows(counts)
    bound = worst_choice(list(zip(counts, windows, strict=True)), layers.shares, most)
    changes = normal(300, frames * 2).clamp(-1, 1)
    changes[::2] = torch.sign(changes[::2])
    # At most `most` elements that may change at all.
    order = torch.rand(300, frames * 2, generator=rng).masked_fill(radius.flatten() == 0, 2.0)
    changes *= order.argsort(1).argsort(1) < most
    changes = changes.view(300, frames, 2) * radius
    moved1 = (h1 + convolved(changes.transpose(1, 2), first)).relu()
    moved2 = h2 + convolved(moved1, second) - offset
    damage = torch.einsum("jg,ngt->nj", gain, moved2.relu() - h2.relu())
    assert bool((damage <= bound + 1e-9).all())
    touched = (changes != 0).double().flatten(1)
    assert bool((damage <= touched @ scores.flatten(1).T + 1e-9).all())


def _dense(weight: Tensor, frames: int) -> Array:
    """The matrix of a convolution on the flattened frames."""
    channels = weight.shape[1]
    units = torch.eye(frames * channels, dtype=torch.float64).view(-1, channels, frames)
    matrix: Array = convolved(units, weight.detach().double()).flatten(1).T.numpy()
    return matrix


def _smallest_margin(victim: WrappedVictim, x: Tensor, label: int, rival: int, k: int) -> float:
    """The exact minimum of `z_label - z_rival` over `k` changes, by mixed-integer programming.

    Variables: changes, whether each element changes, the activations of both layers, and whether
    each unit is active.
    """
    module = victim.module
    assert isinstance(module, Standardised)
    head = module.head
    assert isinstance(head, CNN)
    frames, channels = x.shape
    mean, scale = module.mean.double(), module.scale.double()
    clean = ((x.double() - mean) / scale).T.flatten().numpy()
    radius = (0.8 * victim.scale.double() / scale).repeat_interleave(frames).numpy()
    one, two = (_dense(layer.weight, frames) for layer in head.convolutions)
    hidden = len(one)
    b1, b2 = (
        layer.bias.detach().double().repeat_interleave(frames).numpy()
        for layer in head.convolutions
    )
    size = frames * channels
    last = head.classify[1]
    out = (last.weight[label] - last.weight[rival]).detach().double().repeat_interleave(frames)
    parts = dict(
        zip(
            ("delta", "used", "a1", "on1", "a2", "on2"),
            np.split(np.eye(2 * size + 4 * hidden), np.cumsum([size, size, *[hidden] * 3])),
            strict=True,
        )
    )
    h1, start = one @ parts["delta"], one @ clean + b1
    reach1 = np.abs(one) @ radius
    top1, low1 = np.maximum(start + reach1, 0) + 1e-3, np.minimum(start - reach1, 0) - 1e-3
    h2 = two @ parts["a1"]
    top2 = np.abs(two) @ top1 + np.abs(b2) + 1e-3
    free = np.inf
    rules = [
        LinearConstraint(parts["delta"] - radius[:, None] * parts["used"], -free, 0),
        LinearConstraint(parts["delta"] + radius[:, None] * parts["used"], 0, free),
        LinearConstraint(parts["used"].sum(0), -free, k),
    ]
    for a, on, h, begin, top, low in (
        (parts["a1"], parts["on1"], h1, start, top1, low1),
        (parts["a2"], parts["on2"], h2, b2, top2, -top2),
    ):
        rules += [
            LinearConstraint(a - h, begin, free),
            LinearConstraint(a - h - low[:, None] * on, -free, begin - low),
            LinearConstraint(a - top[:, None] * on, -free, 0),
        ]
    lower = np.r_[-radius, np.zeros(size + 4 * hidden)]
    ones = np.ones(hidden)
    upper = np.r_[radius, np.ones(size), top1, ones, top2, ones]
    whole = np.r_[np.zeros(size), np.ones(size), 0 * ones, ones, 0 * ones, ones]
    solved = milp(
        (out.numpy() / frames) @ parts["a2"],
        constraints=rules, integrality=whole, bounds=Bounds(lower, upper),
    )  # fmt: skip
    assert solved.success, solved.message
    return float(solved.fun + (last.bias[label] - last.bias[rival]).detach())


def test_the_bound_of_cnn_against_mixed_integer_programming(
    small_victim: Callable[..., WrappedVictim],
) -> None:
    gaps = []
    for seed, count in enumerate((1, 2, 4)):
        victim = small_victim(CNN, seed, hidden=3, kernel=3)
        x = torch.randn(3, 2, generator=torch.Generator().manual_seed(seed))
        batch = FeatureBatch(x[None], torch.tensor([3]))
        label = int(victim(batch.x, batch.lengths)[0].argmax())
        bound = ss.certify(victim, batch, torch.tensor([label]), Budget(count=count, epsilon=0.8))
        rivals = [rival for rival in range(3) if rival != label]
        truth = min(_smallest_margin(victim, x, label, rival, count) for rival in rivals)
        assert float(bound.margin[0]) <= truth + 1e-6
        gaps.append(truth - float(bound.margin[0]))
    # Not only sound: the logits are of the order of 0.3.
    assert float(np.median(gaps)) < 0.1
