"""Attacks do not depend on the unit of the logits, nor on the default type of torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sigma_ser.attacks.external.adapter import ExternalAttack
from sigma_ser.attacks.external.peer import Peer
from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.sparse_autoattack import SparseAutoAttack
from sigma_ser.attacks.sparse_rs import SparseRS
from sigma_ser.attacks.spgd import SparsePGD
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import AttackResult
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.seeds import UtteranceNoise
from sigma_ser.testing import ConformanceError
from sigma_ser.testing.units import Rescaled, check_default_dtype, check_unit_of_logits
from sigma_ser.victims.victim import WrappedVictim, wrap

BUDGET = Budget(sparsity=0.1, epsilon=0.6)


class Scores(nn.Module):
    """One weight per class and element."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(classes, 10, 6, generator=rng))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return torch.einsum("btd,ctd->bc", x, self.weight)


def linear(classes: int) -> tuple[WrappedVictim, FeatureBatch, Tensor]:
    """A linear victim, 40 utterances, and their predicted classes."""
    victim = wrap(Scores(classes).eval())
    x = torch.randn(40, 10, 6, generator=torch.Generator().manual_seed(5))
    batch = FeatureBatch(x, torch.full((40,), 10))
    with torch.no_grad():
        return victim, batch, victim(x, batch.lengths).argmax(1)


def _rate(result: AttackResult) -> float:
    return float(result.success.float().mean())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("fgsm", {"keep_largest": True}),
        ("mifgsm", {"keep_largest": True}),
        ("pgd", {"keep_largest": True, "steps": 10}),
        ("pgd0", {"steps": 10}),
        ("saif", {"steps": 20}),
        ("spgd", {"steps": 20}),
        ("sigma-lambda", {"steps": 5}),
        ("sigma-zero", {"steps": 20}),
    ],
)
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_other_units_change_the_rate_by_at_most_five_points(
    name: str, settings: dict[str, Any], factor: float
) -> None:
    # With logits multiplied by 1e6 the cross-entropy has no gradient: rates fell to zero.
    victim, batch, labels = linear(4)
    budget = Budget(sparsity=0.05, epsilon=1.0)
    attack = make_attack(name, **settings)
    before = _rate(attack(victim, batch, labels, budget))
    after = _rate(attack(Rescaled(victim, factor), batch, labels, budget))
    assert 0.2 < before < 1
    assert abs(after - before) <= 0.05


@pytest.mark.parametrize("exponent", [-20, -3, 20])
@pytest.mark.parametrize("saliency", ["gradient", "input-x-gradient", "integrated-gradients"])
def test_the_explained_objective_has_no_unit(
    conv_victim: WrappedVictim,
    utterances: tuple[FeatureBatch, Tensor],
    saliency: str,
    exponent: int,
) -> None:
    batch, labels = utterances
    attack = make_attack("sigma-lambda", saliency=saliency, steps=5)
    before = attack(conv_victim, batch, labels, BUDGET)
    after = attack(Rescaled(conv_victim, 2.0**exponent), batch, labels, BUDGET)
    assert torch.equal(before.x_adv, after.x_adv)


class OneStep(Peer):
    """A library with one attack, a gradient step on the cross-entropy."""

    library = "ours"
    packages = "nothing"
    ours = frozenset({"model", "z", "labels"})

    def members(self) -> dict[str, Callable[..., Any]]:
        def step(model: nn.Module, z: Tensor, labels: Tensor) -> Tensor:
            z = z.clone().requires_grad_()
            nn.functional.cross_entropy(model(z), labels, reduction="sum").backward()
            assert z.grad is not None
            return (z + 0.5 * z.grad / z.grad.abs().max()).clamp(0, 1).detach()

        return {"step": step}

    def __call__(
        self, model: nn.Module, z: Tensor, labels: Tensor, target: Tensor | None, elements: int
    ) -> Tensor:
        moved: Tensor = self.member()(model, z, labels)
        return moved


def test_attacks_of_other_libraries_see_normalised_logits(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    """They maximise the cross-entropy too, and have constants for the logits of images."""
    batch, labels = utterances
    attack = ExternalAttack(peer=OneStep("step", {}), cut="inside")
    before = attack(conv_victim, batch, labels, BUDGET)
    assert before.success.any()
    for exponent in (-20, 20):
        after = attack(Rescaled(conv_victim, 2.0**exponent), batch, labels, BUDGET)
        assert torch.equal(before.x_adv, after.x_adv)


@pytest.mark.parametrize("name", ["oneshot", "dual-averaging"])
@pytest.mark.parametrize(("classes", "targeted"), [(2, False), (2, True), (3, True)])
def test_a_ratio_that_would_be_constant_is_as_strong_as_the_margin(
    name: str, classes: int, targeted: bool
) -> None:
    # Without a third class (with a target, a fourth) the ratio was constant and fooled none.
    victim, batch, labels = linear(classes)
    target = (labels + 1) % classes if targeted else None
    budget = Budget(sparsity=0.3, epsilon=1.0)
    losses = {
        loss: make_attack(name, **({"loss": loss} if name == "oneshot" else {"losses": (loss,)}))
        for loss in ("margin", "dlr")
    }
    rates = {
        loss: _rate(attack(victim, batch, labels, budget, target=target))
        for loss, attack in losses.items()
    }
    assert rates["margin"] > 0.3
    assert rates["dlr"] == rates["margin"]


@pytest.mark.parametrize("feedback", ["logits", "decision"])
@pytest.mark.parametrize("name", ["cornersearch", "onepixel", "sparse-rs"])
def test_black_box_attacks_do_not_depend_on_the_default_type(
    name: str,
    feedback: str,
    conv_victim: WrappedVictim,
    utterances: tuple[FeatureBatch, Tensor],
) -> None:
    settings = {
        "cornersearch": {"probes": 16, "tries": 3},
        "onepixel": {"candidates": 6, "generations": 3},
        "sparse-rs": {"queries": 20},
    }
    attack = make_attack(name, feedback=feedback, **settings[name])
    check_default_dtype(attack, conv_victim, *utterances, budget=BUDGET)


def test_draws_of_an_utterance_do_not_depend_on_the_default_type() -> None:
    like, lengths = torch.zeros(2, 5, 3), torch.tensor([5, 4])

    def draws() -> list[Tensor]:
        noise = UtteranceNoise(torch.tensor([1, 2]), lengths)
        return [noise.normal(like), noise.uniform(like), noise.signs(like), noise.accept(0.5)]

    expected = draws()
    torch.set_default_dtype(torch.float64)
    try:
        found = draws()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


def test_members_of_ensembles_keep_the_laws(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    attack = SparseAutoAttack(members=(SparsePGD(steps=10), SparseRS(queries=20)))
    check_unit_of_logits(attack, conv_victim, *utterances, budget=BUDGET)


@dataclasses.dataclass(frozen=True)
class PlainCrossEntropy:
    """FGSM on the raw logits: its gradient underflows when they are large."""

    dtype: torch.dtype | None = None

    def __call__(self, victim, batch, labels, budget, **given):
        x = batch.x.clone().requires_grad_()
        nn.functional.cross_entropy(victim(x, batch.lengths), labels).backward()
        weight = torch.ones(batch.x.shape, dtype=self.dtype)
        step = budget.epsilon * x.grad.sign() * weight
        x_adv = batch.x + step
        with torch.no_grad():
            prediction = victim(x_adv, batch.lengths).argmax(1)
        base = make_attack("random")(victim, batch, labels, Budget(sparsity=1.0))
        return dataclasses.replace(
            base, x_adv=x_adv, prediction=prediction, success=prediction != labels
        )


def test_an_attack_on_raw_logits_breaks_the_law() -> None:
    victim, batch, labels = linear(4)
    with pytest.raises(ConformanceError, match=r"when the logits are multiplied by 2\^20"):
        check_unit_of_logits(PlainCrossEntropy(), victim, batch, labels, budget=BUDGET)


def test_an_attack_in_the_default_type_breaks_the_law() -> None:
    victim, batch, labels = linear(4)
    with pytest.raises(ConformanceError, match="default type of torch is float64"):
        check_default_dtype(PlainCrossEntropy(), victim, batch, labels, budget=BUDGET)
    check_default_dtype(PlainCrossEntropy(torch.float32), victim, batch, labels, budget=BUDGET)
