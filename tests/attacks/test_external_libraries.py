"""Attacks of the other libraries themselves, where they are installed (`benchmarks/peers`)."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor

from sigma_ser.attacks.external.libraries import LIBRARIES
from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.sigma import Sigma
from sigma_ser.core.audit import audit
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import AttackError, UnknownNameError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim

MODULES = {"foolbox": "foolbox", "torchattacks": "torchattacks", "adv-lib": "adv_lib", "art": "art"}
# Name, settings that keep it quick, whether it takes a target, whether it works on whole batches.
CASES: list[tuple[str, dict[str, Any], bool, bool]] = [
    ("foolbox:LinfPGD", {"steps": 5}, True, True),
    ("foolbox:SparseL1DescentAttack", {"steps": 5}, True, True),
    ("foolbox:L0FMNAttack", {"steps": 10}, True, True),
    ("foolbox:L2CarliniWagnerAttack", {"steps": 5, "binary_search_steps": 2}, True, True),
    ("torchattacks:PGD", {"steps": 5}, True, True),
    ("torchattacks:PGDL2", {"steps": 5}, True, True),
    ("torchattacks:SparseFool", {"steps": 3}, False, False),
    ("torchattacks:OnePixel", {"steps": 2, "popsize": 4}, True, False),
    ("adv-lib:sigma_zero", {"num_steps": 10}, True, True),
    ("adv-lib:pgd_linf", {"steps": 5}, True, True),
    ("adv-lib:vfga", {"max_iter": 3}, True, False),
    ("art:ProjectedGradientDescent", {"max_iter": 5}, True, True),
    ("art:SaliencyMapMethod", {"theta": 0.5}, True, False),
]


def installed(name: str) -> str:
    """Skip where the library is absent."""
    library = name.partition(":")[0]
    if importlib.util.find_spec(MODULES[library]) is None:
        pytest.skip(f"{library} is not installed: pip install --no-deps "
                    f"{LIBRARIES[library].packages}")  # fmt: skip
    return name


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_under_the_budget_alone_and_in_company(
    case: tuple[str, dict[str, Any], bool, bool],
    conv_victim: WrappedVictim,
    utterances: tuple[FeatureBatch, Tensor],
) -> None:
    name, given, targeted, whole = case
    batch, labels = utterances
    budget = Budget(sparsity=0.2, epsilon=1.0)
    made = make_attack(installed(name), **given)
    mask = torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(5)) < 0.5
    result = made(conv_victim, batch, labels, budget, mask=mask)
    audit(batch, result.x_adv, budget, conv_victim.scale, mask)
    assert bool((result.forwards >= 3).all())
    alone = made(
        conv_victim,
        batch.select(torch.tensor([4])),
        labels[4:5],
        budget,
        mask=mask[4:5, : int(batch.lengths[4])],
    )
    assert torch.equal(alone.x_adv[0], result.x_adv[4, : int(batch.lengths[4])])
    assert int(alone.forwards) == int(result.forwards[4])

    target = (labels + 1) % 3
    if targeted:
        reached = made(conv_victim, batch, labels, budget, target=target)
        assert torch.equal(reached.success, reached.prediction == target)
    else:
        with pytest.raises(AttackError, match="takes no target"):
            made(conv_victim, batch, labels, budget, target=target)
    if whole:
        both = make_attack(name, **given, together=True, cut="inside")
        together = both(conv_victim, batch, labels, budget, mask=mask)
        audit(batch, together.x_adv, budget, conv_victim.scale, mask)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("foolbox:LinfPGD", "steps"),
        ("torchattacks:PGD", "steps"),
        ("adv-lib:pgd_linf", "steps"),
        ("art:ProjectedGradientDescent", "max_iter"),
    ],
)
def test_a_dense_attack_in_the_whole_ball_is_as_strong_as_ours(
    name: str,
    steps: str,
    conv_victim: WrappedVictim,
    utterances: tuple[FeatureBatch, Tensor],
) -> None:
    """With every element free, PGD is PGD: the box is our ball and nothing is lost in it."""
    batch, labels = utterances
    hits = []
    for epsilon in (0.2, 0.6):
        budget = Budget(sparsity=1.0, epsilon=epsilon)
        theirs = make_attack(installed(name), **{steps: 40}, together=True)(
            conv_victim, batch, labels, budget
        )
        mine = make_attack("pgd")(conv_victim, batch, labels, budget)
        hits += [int(theirs.success.sum()), int(mine.success.sum())]
    # Ours keeps the best iterate, theirs the last.
    assert hits[1] - 1 <= hits[0] <= hits[1]
    assert hits[3] - 1 <= hits[2] <= hits[3]
    assert hits[3] > 0


def test_inside_a_mask_of_sigma(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    budget = Budget(sparsity=0.2, epsilon=2.0)
    guided = Sigma("gradient-margin", make_attack(installed("foolbox:LinfPGD")), scope=1)
    result = guided(conv_victim, batch, labels, budget)
    elements = budget.elements(batch.lengths, 6)
    assert bool(((result.x_adv != batch.x).sum((1, 2)) <= elements).all())
    assert bool(result.success.any())


@pytest.mark.parametrize("library", sorted(MODULES))
def test_every_attack_of_a_library_is_found(library: str) -> None:
    name = installed(f"{library}:PGD")
    with pytest.raises(UnknownNameError, match=f"{library} has no attack 'Nothing'"):
        make_attack(f"{library}:Nothing")
    members = LIBRARIES[library].members(_without_checks(library))
    assert len(members) >= 15, name
    assert all(callable(member) for member in members.values())
    assert not any(inspect.isabstract(member) for member in members.values())


def _without_checks(library: str) -> Any:
    """A peer whose name is not checked."""
    made = object.__new__(LIBRARIES[library])
    object.__setattr__(made, "name", "any")
    return made
