"""KernelSHAP and LIME against exact Shapley values, and against Captum where they draw."""

from __future__ import annotations

import itertools

import pytest
import torch
from captum.attr import KernelShap as CaptumKernelShap
from torch import nn

from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.explanation import explain, explanation
from sigma_ser.explainers.surrogate import shapley_values
from sigma_ser.victims.victim import wrap


class Interactions(nn.Module):
    """`2 a - b + 3 a b + b c` of the sums `a`, `b`, `c` of three segments of five frames."""

    def forward(self, x, lengths):
        a, b, c = (part.sum((1, 2)) for part in torch.split(x, 5, 1))
        output = 2 * a - b + 3 * a * b + b * c
        return torch.stack([output, -output], 1)


def test_kernel_shap_enumerates_the_coalitions_of_few_segments():
    """Shapley values halve each product. Past fault: 128 samples of 8 coalitions were 0.3 off."""
    batch = FeatureBatch(torch.ones(1, 15, 1) / 5, torch.tensor([15]))
    victim, label = wrap(Interactions().eval()), torch.tensor([0])
    expected = torch.tensor([3.5, 1.0, 0.5])
    for seed in range(3):
        explained = explanation("kernel-shap", victim, batch, label, seeds=torch.tensor([seed]))
        values = explained.saliency[0, :, 0].view(3, 5).sum(1)
        torch.testing.assert_close(values, expected, atol=1e-5, rtol=0.0)
        assert explained.forwards.tolist() == [8 + 2]


def permutation_values(output, players):
    """Shapley's other definition: the mean gain over all orders of arrival."""
    values = torch.zeros(players, dtype=torch.float64)
    orders = list(itertools.permutations(range(players)))
    for order in orders:
        here: list[int] = []
        for player in order:
            values[player] += output([*here, player]) - output(here)
            here.append(player)
    return values / len(orders)


@pytest.mark.parametrize("head", ["mlp", "bilstm", "transformer"])
def test_kernel_shap_equals_the_mean_gain_over_all_orders(head, victim_of, batch, labels):
    """Reference: the definition by permutations, with a shorter last segment."""
    victim = victim_of(head)
    saliency = explain("kernel-shap", victim, batch, labels, output="margin")
    for row, length in enumerate(batch.lengths.tolist()):
        segment = torch.arange(length) // 5

        def output(members, row=row, length=length, segment=segment):
            present = torch.isin(segment, torch.tensor(members, dtype=torch.long))
            x = torch.where(present[:, None], batch.x[row, :length], victim.mean)
            logits = victim(x[None], torch.tensor([length]))[0].double()
            others = torch.arange(4) != labels[row]
            return logits[labels[row]] - logits[others].max()

        with torch.no_grad():
            expected = permutation_values(output, int(segment[-1]) + 1)
        found = torch.zeros(len(expected), dtype=torch.float64)
        found.index_add_(0, segment, saliency[row, :length].double().sum(1))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_shapley_values_of_a_game_with_a_null_player():
    """Axioms: efficiency, symmetry, and nothing for a player that never contributes."""
    members = (torch.arange(16)[:, None] >> torch.arange(4)) % 2
    outputs = (members[:, 0] * members[:, 1] + 3.0 * members[:, 3]).double()
    torch.testing.assert_close(
        shapley_values(outputs), torch.tensor([0.5, 0.5, 0.0, 3.0], dtype=torch.float64)
    )


def test_more_segments_than_samples_allow_are_drawn_as_by_captum(victim_of, labels):
    """Reference: Captum with the seed of the utterance in the global generator."""
    victim, seed, length = victim_of("mlp"), 11, 53
    rng = torch.Generator().manual_seed(0)
    x = victim.mean + victim.scale * torch.randn(1, length, 6, generator=rng)
    batch = FeatureBatch(x, torch.tensor([length]))
    state = torch.get_rng_state()
    found = explanation(
        "kernel-shap", victim, batch, labels[:1], seeds=torch.tensor([seed]), samples=64
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert found.forwards.tolist() == [64 + 2]
    segment = torch.arange(length) // 5
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        expected = CaptumKernelShap(victim).attribute(
            x,
            baselines=victim.mean.expand(x.shape),
            target=labels[:1],
            additional_forward_args=(batch.lengths,),
            feature_mask=segment[None, :, None].expand(x.shape),
            n_samples=64,
        )
    expected = expected[0] / (segment.bincount()[segment] * 6)[:, None]
    torch.testing.assert_close(found.saliency[0], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("frames", [5, 1])
@pytest.mark.parametrize("factor", [1e-4, 0.1, 10.0, 1e4])
def test_the_map_of_lime_scales_with_the_logits(frames, factor):
    """Past fault: the penalty was absolute, so that the maps of small logits were all zero."""
    rng = torch.Generator().manual_seed(3)
    weight = torch.randn(3, 10, 6, generator=rng)
    batch = FeatureBatch(torch.randn(12, 10, 6, generator=rng), torch.full((12,), 10))

    class Linear(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.weight = nn.Parameter(factor * weight)

        def forward(self, x, lengths):
            return torch.einsum("btd,ctd->bc", x, self.weight)

    plain, scaled = (wrap(Linear(number).eval()) for number in (1.0, factor))
    label = plain(batch.x, batch.lengths).argmax(1)
    expected = explain("lime", plain, batch, label, frames=frames)
    found = explain("lime", scaled, batch, label, frames=frames)
    assert bool((expected.abs().amax((1, 2)) > 0).all())
    torch.testing.assert_close(found / factor, expected, atol=1e-4, rtol=1e-3)


def test_lime_of_a_constant_output_is_zero(batch, labels):
    """The rounding of a constant output is not standardised to a map."""

    class Constant(nn.Module):
        def forward(self, x, lengths):
            return 1e3 + 1e-7 * x.sum((1, 2))[:, None] * torch.ones(4)

    saliency = explain("lime", wrap(Constant().eval()), batch, labels)
    assert float(saliency.abs().max()) == 0.0
