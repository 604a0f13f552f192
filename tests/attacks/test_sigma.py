"""SIGMA has three separate steps, counts all their passes, and stays inside its mask."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.sigma import Sigma
from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.contracts import Attack
from sigma_ser.core.errors import AttackError, BudgetError, ExplainerError, UnknownNameError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(("name", "scope"), [("pgd", 1), ("dual-averaging", 2)])
def test_changes_lie_in_the_mask_and_all_passes_count(
    name: str,
    scope: int,
    granularity: str,
    conv_victim: WrappedVictim,
    utterances: tuple[FeatureBatch, Tensor],
) -> None:
    batch, labels = utterances
    budget = Budget(sparsity=0.25, epsilon=0.5, granularity=granularity, segment_frames=2)
    sigma = Sigma("gradient", name, scope=scope)
    assert isinstance(sigma, Attack)
    explanation = sigma.explain(conv_victim, batch, labels)
    mask = sigma.mask(explanation, conv_victim, batch, budget)
    whole = sigma(conv_victim, batch, labels, budget)
    alone = sigma.attack(conv_victim, batch, labels, budget, mask=mask)

    assert torch.equal(whole.x_adv, alone.x_adv)
    assert not ((whole.x_adv != batch.x) & ~mask).any()
    assert torch.equal(whole.forwards, alone.forwards + explanation.forwards)
    assert torch.equal(whole.backwards, alone.backwards + explanation.backwards)
    reused = sigma(conv_victim, batch, labels, budget, mask=mask)
    assert torch.equal(reused.forwards, alone.forwards)
    expected = torch.minimum(
        scope * budget.units(batch.lengths, 6), budget.available(batch.lengths, 6)
    )
    assert torch.equal(budget.touched(mask, batch.lengths), expected)


def test_a_mask_wider_than_the_budget_needs_an_attack_that_chooses(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    budget = Budget(sparsity=0.1, epsilon=0.5)
    with pytest.raises(BudgetError, match=r"in its mask, .*scope 1"):
        Sigma("gradient", "pgd", scope=2)(conv_victim, batch, labels, budget)
    with pytest.raises(BudgetError, match=r"the attack 'fgsm' .* elements without a mask"):
        make_attack("fgsm")(conv_victim, batch, labels, budget)
    chosen = Sigma("gradient", make_attack("pgd", keep_largest=True), scope=2)
    chosen(conv_victim, batch, labels, budget)
    # A dense budget needs no mask.
    make_attack("pgd")(conv_victim, batch, labels, Budget(sparsity=1.0))


def test_names_and_settings_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="dual-averaging"):
        make_attack("dual-averagin")
    with pytest.raises(AttackError, match="no setting 'step'"):
        make_attack("pgd", step=3)
    with pytest.raises(AttackError, match="steps of the attack 'pgd' must be above 0"):
        make_attack("pgd", steps=0)
    with pytest.raises(AttackError, match="max_passes"):
        make_attack("pgd", max_passes=0)
    with pytest.raises(BudgetError, match="scope"):
        Sigma("gradient", "pgd", scope=0)
    with pytest.raises((ExplainerError, TypeCheckError), match=r"explainer"):
        Sigma(lambda *given: None, "pgd")  # type: ignore[arg-type]
