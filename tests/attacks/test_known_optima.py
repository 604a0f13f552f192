"""Victims for which the best attack is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from sigma_ser.attacks.base import SparseAttack
from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.losses import margin
from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.victims.victim import WrappedVictim, wrap


class Linear(nn.Module):
    """Two classes and one weight per element: the best perturbation is a vertex of the ball."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_frames(lengths, x.shape[1])[:, :, None]
        score = (x * valid * self.weight[: x.shape[1]]).sum((1, 2)) + self.bias
        return torch.stack([score, -score], 1)


FIXED_BUDGET = ["oneshot", "reselect", "dual-averaging"]
LENGTHS = torch.tensor([8, 5, 7])


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", FIXED_BUDGET)
def test_linear_optimum(name: str, masked: bool, granularity: str) -> None:
    """The units of largest `sum |w| * scale`, each element at its bound."""
    rng = torch.Generator().manual_seed(1)
    weight, x = torch.randn(8, 5, generator=rng), torch.randn(3, 8, 5, generator=rng)
    scale = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.7])
    victim = wrap(Linear(weight, bias=1e3).eval(), scale=scale)
    batch, labels = FeatureBatch(x, LENGTHS), torch.zeros(3, dtype=torch.long)
    budget = Budget(sparsity=0.4, epsilon=0.5, granularity=granularity, segment_frames=2)
    mask = torch.ones_like(x, dtype=torch.bool)
    if masked:
        mask[:, 2:4] = False
        mask[:, :, 1] = False
        if granularity in ("channel", "segment", "frame"):
            # Only units that lie wholly in the mask may move.
            mask = torch.ones_like(mask)
            mask[:, :, 1] = granularity != "channel"
            mask[:, 2:4] = granularity == "channel"

    result = make_attack(name)(victim, batch, labels, budget, mask=mask if masked else None)

    gains = (weight.abs() * scale * 0.5).expand_as(x)
    units = budget.unit_scores(gains, LENGTHS)
    allowed = budget.unit_allowed(mask, LENGTHS, x.shape)
    best = torch.stack([
        row[open_].topk(min(int(k), int(open_.sum()))).values.sum()
        for row, open_, k in zip(units, allowed, budget.units(LENGTHS, 5), strict=True)
    ])  # fmt: skip
    with torch.no_grad():
        lost = victim(x, LENGTHS)[:, 0] - victim(result.x_adv, LENGTHS)[:, 0]
    torch.testing.assert_close(lost, best, rtol=0, atol=2e-4)


class TwoLayers(nn.Module):
    """Small enough to try every corner."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(9, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.out(torch.relu(self.hidden(x.flatten(1))))
        return logits


def enumerated_optimum(victim: WrappedVictim, x: Tensor, label: Tensor, epsilon: float) -> float:
    """The largest margin over all supports of two elements and all their signs."""
    corners = []
    for i, j in itertools.combinations(range(9), 2):
        for signs in itertools.product((-epsilon, epsilon), repeat=2):
            delta = torch.zeros(9)
            delta[i], delta[j] = signs
            corners.append(delta.view(3, 3))
    moved = x + torch.stack(corners)
    with torch.no_grad():
        logits = victim(moved, torch.full((len(moved),), 3))
    return float(margin(logits, label.expand(len(moved))).max())


def best_margins(made: SparseAttack, victim: WrappedVictim, batch: FeatureBatch) -> Tensor:
    labels = victim(batch.x, batch.lengths).argmax(1)
    result = made(victim, batch, labels, Budget(count=2, epsilon=0.4))
    with torch.no_grad():
        return margin(victim(result.x_adv, batch.lengths), labels)


def test_enumerated_optimum_of_two_layers() -> None:
    """The strongest attack succeeds wherever possible, and is near the best margin elsewhere."""
    torch.manual_seed(0)
    head = TwoLayers().eval()
    batch = FeatureBatch(torch.randn(24, 3, 3), torch.full((24,), 3))
    victim = wrap(head)
    with torch.no_grad():
        logits = victim(batch.x, batch.lengths)
    labels = logits.argmax(1)
    optimum = torch.tensor([
        enumerated_optimum(victim, x, label, 0.4)
        for x, label in zip(batch.x, labels, strict=True)
    ])  # fmt: skip
    reached = best_margins(make_attack("dual-averaging"), victim, batch)
    fooled = optimum > 0
    assert 0 < int(fooled.sum()) < len(batch)
    assert (reached[fooled] > 0).all()
    gained = (reached - margin(logits, labels))[~fooled].sum()
    possible = (optimum - margin(logits, labels))[~fooled].sum()
    assert gained >= 0.98 * possible
    chance = best_margins(make_attack("random"), victim, batch)
    assert (chance[~fooled] - margin(logits, labels)[~fooled]).sum() < 0.8 * possible
