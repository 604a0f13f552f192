"""Black-box attacks use no gradient, observe only their feedback, and log each query."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from sigma_ser.attacks.black_box import BlackBoxAttack, QueriedResult
from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.losses import margin
from sigma_ser.attacks.sparse_autoattack import SparseAutoAttack
from sigma_ser.attacks.sparse_rs import SparseRS
from sigma_ser.core import registry
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim, wrap

NAMES = [
    name
    for name in registry.names("attack")
    if isinstance(made := registry.get("attack", name), type) and issubclass(made, BlackBoxAttack)
]
SETTINGS: dict[str, dict[str, Any]] = {
    "sparse-rs": {"queries": 60},
    "onepixel": {"candidates": 12, "generations": 4},
    "cornersearch": {"probes": 40, "tries": 5},
}


class NoWayBack(torch.autograd.Function):
    """Identity that cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise AssertionError("a black-box attack requested a gradient")


class QueryCounter(nn.Module):
    """Counts its rows, and can reduce logits to a one-hot decision."""

    def __init__(self, head: WrappedVictim, *, decision: bool = False) -> None:
        super().__init__()
        self.head, self.decision, self.rows = head, decision, 0

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        self.rows += len(x)
        logits = NoWayBack.apply(self.head(x, lengths))
        if self.decision:
            return nn.functional.one_hot(logits.argmax(1), logits.shape[1]).float()
        return logits


@pytest.mark.parametrize("feedback", ["logits", "decision"])
@pytest.mark.parametrize("name", NAMES)
def test_every_query_is_logged_and_none_is_a_gradient(
    name: str, feedback: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    counter = QueryCounter(conv_victim)
    victim = wrap(counter.eval(), scale=conv_victim.scale)
    made = make_attack(name, feedback=feedback, **SETTINGS[name])
    result = made(victim, batch, labels, Budget(sparsity=0.2, epsilon=1.0))
    assert isinstance(result, QueriedResult)
    assert not result.backwards.any()
    log = result.log
    assert torch.equal(log.queries, result.forwards)
    assert int(log.queries.sum()) == counter.rows
    assert result.success.any()
    for row, queries in enumerate(log.queries.tolist()):
        seen = log.best_margin[row, :queries]
        assert (seen.diff() >= 0).all()
        assert log.best_margin[row, queries:].isnan().all()
        assert bool(seen[-1] > 0) == bool(result.success[row])
        assert not bool((seen[:-1] > 0).any())  # it leaves at its first success
    assert log.success_rate(int(log.queries.max())) == float(result.success.float().mean())
    if feedback == "logits":
        with torch.no_grad():
            reached = margin(conv_victim(result.x_adv, batch.lengths), labels)
            best = log.best_margin.nan_to_num(nan=-torch.inf).amax(1)
            clean = margin(conv_victim(batch.x, batch.lengths), labels)
        torch.testing.assert_close(torch.maximum(reached, clean), best)
    else:
        assert set(log.best_margin.nan_to_num(nan=1.0).unique().tolist()) == {-1.0, 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_decisions_are_all_that_a_decision_attack_uses(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    """The result is the same for a victim that returns one-hot decisions."""
    batch, labels = utterances
    budget = Budget(sparsity=0.2, epsilon=1.0)
    made = make_attack(name, feedback="decision", **SETTINGS[name])
    full = made(conv_victim, batch, labels, budget)
    bare = wrap(QueryCounter(conv_victim, decision=True).eval(), scale=conv_victim.scale)
    restricted = made(bare, batch, labels, budget)
    assert torch.equal(full.x_adv, restricted.x_adv)
    assert torch.equal(full.forwards, restricted.forwards)
    with_logits = make_attack(name, **SETTINGS[name])(conv_victim, batch, labels, budget)
    assert with_logits.success.sum() >= full.success.sum()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_search_beats_chance(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    """The observed margins help: the search beats as many random perturbations."""
    batch, labels = utterances
    budget = Budget(sparsity=0.12, epsilon=0.5)
    settings = {
        "sparse-rs": {"queries": 100},
        "onepixel": {"candidates": 10, "generations": 9},
        "cornersearch": {"probes": 100, "tries": 10},
    }[name]
    searched = make_attack(name, **settings)(conv_victim, batch, labels, budget)
    draws = int((searched.forwards + searched.backwards).max())
    # The values of `onepixel` lie inside the ball, so its control is its first population.
    control = (
        make_attack("onepixel", candidates=draws // 2, generations=1)
        if name == "onepixel"
        else make_attack("random", draws=draws)
    )
    chance = control(conv_victim, batch, labels, budget)

    def reached(x_adv: Tensor) -> float:
        with torch.no_grad():
            return float(margin(conv_victim(x_adv, batch.lengths), labels).clamp(max=0).sum())

    assert reached(searched.x_adv) > reached(chance.x_adv)


def test_settings_are_checked() -> None:
    # Under the type checker, a wrong literal does not even get to the attack's own check.
    with pytest.raises((AttackError, TypeCheckError), match="feedback"):
        make_attack("onepixel", feedback="gradient")
    with pytest.raises(AttackError, match="candidates of the attack 'onepixel' must be above 3"):
        make_attack("onepixel", candidates=3)
    with pytest.raises(AttackError, match="feedback='decision' alone"):
        SparseAutoAttack(members=(SparseRS(feedback="decision"),))


def test_cornersearch_ends_with_its_whole_budget() -> None:
    # A past fault: the sizes 2, 3, 4, 6, 9 ... skipped the whole budget of 7.
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.changed: list[int] = []

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            self.changed.append(int((x != 0).sum()))
            return torch.stack([9 + 0 * x.sum((1, 2)), x.sum((1, 2))], 1)

    module = Watched().eval()
    batch = FeatureBatch(torch.zeros(1, 4, 5), torch.tensor([4]))
    made = make_attack("cornersearch", probes=40, tries=2)
    made(wrap(module), batch, torch.tensor([0]), Budget(count=7, epsilon=1.0))
    assert module.changed[:41] == [0] + [1] * 40
    assert module.changed[41:] == [2, 2, 3, 3, 4, 4, 6, 6, 7, 7]
