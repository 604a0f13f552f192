"""Success is decided outside the attack: what changes its inputs or claims too much is an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.attacks.active_set import ActiveSet
from sigma_ser.attacks.base import SparseAttack
from sigma_ser.attacks.verification import majority, verified
from sigma_ser.core.errors import AttackError, AuditError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim, wrap

BUDGET = ss.Budget(count=3, epsilon=0.5)
Inputs = tuple[FeatureBatch, Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Cheat(SparseAttack):
    """An attack in whose search something is changed, before or after an honest step."""

    change: Callable[[ActiveSet], Any] = lambda _: None
    back: Callable[[ActiveSet], Any] = lambda _: None

    def search(self, active: ActiveSet) -> None:
        self.change(active)
        try:
            active.observe(active.corner(torch.ones_like(active.x)))
        finally:
            self.back(active)


IN_PLACE = {
    "the features of the search": lambda active: active.x.add_(3.0),
    "the features of the batch": lambda active: active.problem.batch.x.add_(3.0),
    "lengths": lambda active: active.problem.batch.lengths.sub_(1),
    "labels": lambda active: active.problem.labels.add_(1).remainder_(3),
    "labels of the search": lambda active: active.labels.add_(1).remainder_(3),
    "mask": lambda active: active.problem.mask.fill_(True),
    "budget": lambda active: object.__setattr__(active.problem.budget, "epsilon", 9.0),
    "the tensor of a budget": lambda active: active.problem.budget.count.mul_(2),
    "weights": lambda active: active.victim.victim.module.out.bias.data.roll(1),
}


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "whole"])
@pytest.mark.parametrize("what", [name for name in IN_PLACE if name != "weights"])
def test_a_search_that_changes_its_inputs_is_an_error_without_a_further_pass(
    what: str, cut: bool, conv_victim: WrappedVictim, utterances: Inputs
) -> None:
    # A past fault: moved clean features were measured against themselves, and passed.
    batch, labels = utterances
    if not cut:
        batch, labels = batch.select(torch.tensor([0, 3])), labels[[0, 3]]
    before = batch.x.clone(), batch.lengths.clone(), labels.clone()
    mask = torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    kept = mask.clone()
    budget = ss.Budget(count=torch.full((len(batch),), 3), epsilon=0.5)
    with pytest.raises(AttackError, match=r"^Cheat changes the .* in place"):
        Cheat(change=IN_PLACE[what])(conv_victim, batch, labels, budget, mask=mask)
    for old, new in zip((*before, kept), (batch.x, batch.lengths, labels, mask), strict=True):
        assert torch.equal(old, new)
    assert budget.count.tolist() == [3] * len(batch)
    assert budget.epsilon == 0.5


def test_changed_weights_are_an_error(conv_victim: WrappedVictim, utterances: Inputs) -> None:
    batch, labels = utterances
    weight = conv_victim.module.out.weight

    def scaled(_: ActiveSet) -> None:
        with torch.no_grad():
            weight.mul_(2.0)

    def hidden(_: ActiveSet) -> None:
        # Autograd does not notice this one, so only the verification does.
        weight.data = weight.data.flip(0).clone()

    original = weight.detach().clone()
    try:
        with pytest.raises(AttackError, match="Cheat changes the weights of the victim"):
            Cheat(change=scaled)(conv_victim, batch, labels, BUDGET)
        weight.data = original.clone()
        with pytest.raises(AttackError, match="Cheat changes the weights of the victim"):
            verified(Cheat(change=hidden), conv_victim, batch, labels, BUDGET)
    finally:
        weight.data = original


def test_features_that_are_moved_and_moved_back_are_found_by_the_fresh_pass(
    conv_victim: WrappedVictim, utterances: Inputs
) -> None:
    batch, labels = utterances

    def moved(active: ActiveSet) -> None:
        active.x.data.add_(30.0)  # autograd counts no version of `.data`
        active.high.data.add_(99.0)

    def back(active: ActiveSet) -> None:
        active.x.data.sub_(30.0)

    attack = Cheat(change=moved, back=back)
    assert attack(conv_victim, batch, labels, BUDGET).success.any()
    with pytest.raises((AttackError, AuditError), match=r"Cheat|perturbation"):
        verified(attack, conv_victim, batch, labels, BUDGET)


@dataclasses.dataclass(frozen=True)
class Foreign:
    """An attack that is not one of this package; `change` falsifies its result or its inputs."""

    change: Callable[..., Any]

    def __call__(
        self, victim: ss.Victim, batch: FeatureBatch, labels: Tensor, budget: ss.Budget, **_: Any
    ) -> Any:
        result = ss.make_attack("oneshot")(victim, batch, labels, budget)
        changed = self.change(result, batch, labels, budget)
        return result if changed is None else changed


def _replaced(**values: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda result, *_: dataclasses.replace(
        result, **{name: change(getattr(result, name)) for name, change in values.items()}
    )


CLAIMS = {
    "success": _replaced(success=torch.ones_like),
    "no success": _replaced(success=torch.zeros_like),
    "prediction": _replaced(prediction=lambda value: (value + 1) % 3),
    "both": _replaced(prediction=lambda value: (value + 1) % 3, success=torch.ones_like),
    "a class that does not exist": _replaced(prediction=lambda value: value + 3),
    "the shape": lambda result, *_: object.__setattr__(result, "prediction", result.steps[:1]),
    "no result": lambda result, *_: result.x_adv,
    "features": lambda _, batch, *__: batch.x.add_(1.0) and None,
    "lengths": lambda _, batch, *__: batch.lengths.sub_(1) and None,
    "labels": lambda _, __, labels, ___: labels.sub_(1) and None,
    "budget": lambda *given: object.__setattr__(given[3], "epsilon", 2.0),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_the_victim_contradicts_is_an_error_that_names_the_attack(
    claim: str, conv_victim: WrappedVictim, utterances: Inputs
) -> None:
    batch, labels = utterances
    change = CLAIMS[claim]
    if claim in {"features", "lengths", "labels"}:
        inner = change

        def change(*given: Any) -> None:  # in place, without a result of its own
            try:
                inner(*given)
            except RuntimeError:
                return  # the truth of a tensor is not defined

    epsilon = 3.0 if claim == "no success" else 0.5
    with pytest.raises(AttackError, match=r"^Foreign "):
        ss.attack(Foreign(change), conv_victim, batch, labels, ss.Budget(count=3, epsilon=epsilon))


def test_the_features_are_audited_with_inputs_the_attack_never_held(
    conv_victim: WrappedVictim, utterances: Inputs
) -> None:
    batch, labels = utterances
    attack = Foreign(_replaced(x_adv=lambda x: x + 1e-3))
    with pytest.raises(AuditError, match="changes padding"):
        ss.attack(attack, conv_victim, batch, labels, BUDGET)


@pytest.mark.parametrize("name", ["dual-averaging", "oneshot", "sparse-rs"])
def test_an_honest_attack_is_not_changed_by_the_verification(
    name: str, conv_victim: WrappedVictim, utterances: Inputs
) -> None:
    batch, labels = utterances
    attack = ss.make_attack(name, max_passes=60)
    target = (labels + 1) % 3
    budget = ss.Budget(count=5, epsilon=2.0)
    for goal in (None, target):
        plain = attack(conv_victim, batch, labels, budget, target=goal)
        checked = ss.attack(attack, conv_victim, batch, labels, budget, target=goal)
        assert type(plain) is type(checked)
        for field in ("x_adv", "success", "prediction", "steps", "forwards", "backwards"):
            assert torch.equal(getattr(plain, field), getattr(checked, field)), field


def test_the_verification_takes_one_pass(conv_victim: WrappedVictim, utterances: Inputs) -> None:
    batch, labels = utterances
    rows = []

    class Counting(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            rows.append(len(x))
            return conv_victim(x, lengths)

    victim = wrap(Counting().eval(), scale=conv_victim.scale)
    result = ss.make_attack("oneshot")(victim, batch, labels, BUDGET)
    assert sum(rows) == result.forwards.sum()
    rows.clear()
    ss.attack("oneshot", victim, batch, labels, BUDGET)
    assert sum(rows) == result.forwards.sum() + len(batch)


class Noisy(nn.Module):
    """Logits with noise of their own at every call."""

    def __init__(self, head: WrappedVictim) -> None:
        super().__init__()
        self.head, self.rng = head, torch.Generator().manual_seed(0)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        logits = self.head(x, lengths)
        return logits + 0.4 * torch.randn(logits.shape, generator=self.rng)


def test_success_on_a_random_victim_means_more_than_half_of_further_passes(
    conv_victim: WrappedVictim, utterances: Inputs
) -> None:
    # A past fault: the best of many noisy passes counted as a success.
    batch, labels = utterances
    victim = wrap(Noisy(conv_victim).eval(), scale=conv_victim.scale)
    budget = ss.Budget(count=1, epsilon=0.01)
    claimed = ss.make_attack("random", draws=40)(victim, batch, labels, budget)
    found = ss.attack("random", victim, batch, labels, budget, draws=40)
    assert claimed.success.sum() > found.success.sum()
    wrong = torch.stack(
        [victim(found.x_adv, batch.lengths).argmax(1) != labels for _ in range(200)]
    )
    share = wrong.double().mean(0)
    clear = (share - 0.5).abs() > 0.2
    assert torch.equal(found.success[clear], share[clear] > 0.5)
    assert torch.equal(found.success, found.prediction != labels)


def test_a_majority_is_more_than_half() -> None:
    answers = iter(torch.tensor([[0, 0], [1, 1], [1, 1], [0, 2]]))

    class Scripted(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return nn.functional.one_hot(next(answers), 3).float()

    batch = FeatureBatch(torch.zeros(2, 1, 1), torch.tensor([1, 1]))
    victim = wrap(Scripted().eval())
    labels = torch.tensor([0, 0])
    # Two of four passes are not more than half; three of four are.
    assert majority(victim, batch, labels, passes=4).tolist() == [0, 1]
    answers = iter(torch.tensor([[0, 0], [1, 1], [1, 1], [0, 1]]))
    assert majority(victim, batch, labels, torch.tensor([1, 1]), passes=4).tolist() == [0, 1]


class Centred(nn.Module):
    """Logits depend on the other utterances of a batch, without a module that shows it."""

    def __init__(self, head: WrappedVictim) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        logits = self.head(x, lengths)
        return logits + (logits - logits.mean(0) if len(x) > 1 else 0.0)


def test_an_utterance_of_a_batch_dependent_victim_is_classified_alone(
    conv_victim: WrappedVictim, utterances: Inputs
) -> None:
    batch, labels = utterances
    victim = wrap(Centred(conv_victim).eval(), scale=conv_victim.scale)
    labels = victim(batch.x, batch.lengths).argmax(1)
    attack = Foreign(_replaced(success=torch.ones_like))
    found = ss.attack(attack, victim, batch, labels, ss.Budget(count=5, epsilon=1.0))
    alone = [
        int(victim(found.x_adv[[row], :frames], batch.lengths[[row]]).argmax())
        for row, frames in enumerate(batch.lengths.tolist())
    ]
    assert found.prediction.tolist() == alone
    assert torch.equal(found.success, found.prediction != labels)


def test_a_near_tie_is_decided_by_the_fresh_pass_without_an_accusation(
    conv_victim: WrappedVictim, utterances: Inputs
) -> None:
    batch, _ = utterances

    class Tie(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            score = x.sum((1, 2))
            return torch.stack([score, score - 1e-6, score - 9], 1)

    labels = torch.zeros(len(batch), dtype=torch.long)
    attack = Foreign(_replaced(prediction=torch.ones_like, success=torch.ones_like))
    found = ss.attack(attack, wrap(Tie().eval()), batch, labels, ss.Budget(count=1, epsilon=1e-6))
    assert not found.success.any()
    assert not found.prediction.any()
