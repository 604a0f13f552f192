"""Signs of masked gradients: found on shielded victims, absent on plain ones, and acted upon."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.attacks.active_set import ActiveSet
from sigma_ser.attacks.dual_averaging import DualAveraging
from sigma_ser.attacks.gradient_checks import GradientCheck
from sigma_ser.attacks.sparse_autoattack import SigmaAutoAttack
from sigma_ser.attacks.sparse_rs import SparseRS
from sigma_ser.attacks.surrogate_gradient import SmoothedGradient, SurrogateGradient
from sigma_ser.core.errors import ExplainerError, GradientError
from sigma_ser.core.gradient_signs import SIGNS, masked_warnings
from sigma_ser.victims.one_by_one import OneByOne
from sigma_ser.victims.victim import WrappedVictim

CLASSES, UTTERANCES, FRAMES, CHANNELS = 3, 18, 10, 8
BUDGET = ss.Budget(sparsity=0.05, epsilon=2.0)
QUERIES = 80
# The ensemble with fewer steps; `benchmarks/gradient_signs.py` measures the whole one.
ENSEMBLE = SigmaAutoAttack(
    members=(DualAveraging(steps=5, rounds=1, all_targets=True), SparseRS(queries=QUERIES // 4)),
    masked_members=(
        SurrogateGradient(steps=5),
        SmoothedGradient(steps=3),
        SparseRS(queries=QUERIES),
    ),
)
Shield = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.frame, self.out = nn.Linear(CHANNELS, 20), nn.Linear(20, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.out(torch.tanh(torch.tanh(self.frame(x)).mean(1) * 3))  # type: ignore[no-any-return]


class Shielded(nn.Module):
    def __init__(self, head: nn.Module, shield: Shield) -> None:
        super().__init__()
        self.head, self.shield = head, shield

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.shield(self.head, x, lengths)


def straight_through(value: Tensor, steps: float) -> Tensor:
    return value + (torch.round(value * steps) / steps - value).detach()


def noisy(value: Tensor, size: float) -> Tensor:
    return value + size * torch.randn_like(value)


def without_gradient(head: nn.Module, x: Tensor, lengths: Tensor) -> Tensor:
    with torch.no_grad():
        return head(x, lengths)  # type: ignore[no-any-return]


# Each with a sign that must be among those found.
SHIELDS: dict[str, tuple[str, Shield]] = {
    "rounded logits": ("zero-gradient", lambda m, x, n: torch.round(m(x, n) * 2) / 2),
    "finely rounded logits": ("zero-gradient", lambda m, x, n: torch.round(m(x, n) * 20) / 20),
    "quantised features": ("zero-gradient", lambda m, x, n: m(torch.round(x * 4) / 4, n)),
    "saturated probabilities": ("probabilities", lambda m, x, n: (m(x, n) * 1000).softmax(-1)),
    "probabilities": ("probabilities", lambda m, x, n: m(x, n).softmax(-1)),
    "saturated logits": ("zero-gradient", lambda m, x, n: torch.tanh(m(x, n) * 1000)),
    "straight-through logits": ("wrong-slope", lambda m, x, n: straight_through(m(x, n), 2)),
    "straight-through features": ("wrong-slope", lambda m, x, n: m(straight_through(x, 4), n)),
    # Past fault: moves that cross many small steps look like a slope.
    "fine straight-through features": (
        "wrong-slope",
        lambda m, x, n: m(straight_through(x, 600), n),
    ),
    "opposite gradient": ("wrong-slope", lambda m, x, n: m(2 * x.detach() - x, n)),
    "noisy features": ("random", lambda m, x, n: m(noisy(x, 0.5), n)),
    "noisy logits": ("random", lambda m, x, n: noisy(m(x, n), 0.01)),
    "detached": ("zero-gradient", lambda m, x, n: m(x.detach(), n)),
    "no_grad": ("zero-gradient", without_gradient),
    "batch statistics": ("batch-dependent", lambda m, x, n: m(x - 0.3 * x.mean(0), n)),
}
# Shields that leave the decisions nearly as they are.
KEPT = ["rounded logits", "quantised features", "saturated probabilities", "detached"]


@pytest.fixture(scope="module")
def head() -> nn.Module:
    """A head trained on noisy classes."""
    batch, labels = sample()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Pooled()
    optimiser = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(100):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(batch.x, batch.lengths), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return model.eval()


def sample() -> tuple[ss.FeatureBatch, Tensor]:
    labels = torch.arange(UTTERANCES) % CLASSES
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(UTTERANCES, FRAMES, CHANNELS, generator=rng)
    x += 0.5 * nn.functional.one_hot(labels, CHANNELS)[:, None]
    return ss.FeatureBatch(x, torch.full((UTTERANCES,), FRAMES)), labels


def shielded(head: nn.Module, name: str) -> WrappedVictim:
    return ss.wrap(Shielded(head, SHIELDS[name][1]).eval())


def checked(victim: ss.Victim) -> GradientCheck:
    return ss.check_gradients(victim, *sample(), BUDGET)


@pytest.mark.parametrize("name", SHIELDS)
def test_a_shielded_victim_has_its_sign(head: nn.Module, name: str) -> None:
    check = checked(shielded(head, name))
    assert check.masked
    assert SHIELDS[name][0] in check.warnings


@pytest.mark.parametrize("gain", [1.0, 2.0**-20, 2.0**20])
def test_a_plain_victim_has_no_sign_at_any_scale_of_its_logits(
    head: nn.Module, gain: float
) -> None:
    check = checked(ss.wrap(Shielded(head, lambda m, x, n: gain * m(x, n)).eval()))
    assert check.warnings == ()
    assert not check.masked
    assert check.unbounded == 1.0
    assert check.utterances > UTTERANCES / 2


def test_a_linear_victim_has_no_sign() -> None:
    class Mean(nn.Linear):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x.sum(1) / lengths[:, None])

    with torch.random.fork_rng():
        torch.manual_seed(1)
        victim = ss.wrap(Mean(CHANNELS, CLASSES).eval())
    batch, _ = sample()
    labels = victim(batch.x, batch.lengths).argmax(1)
    assert ss.check_gradients(victim, batch, labels, BUDGET).warnings == ()


def test_a_victim_without_recognised_utterances_has_no_rates(head: nn.Module) -> None:
    batch, labels = sample()
    victim = ss.wrap(head)
    wrong = victim(batch.x, batch.lengths).argmin(1)
    check = ss.check_gradients(victim, batch, wrong, BUDGET)
    assert (check.utterances, check.zero_gradient, check.unbounded) == (0, None, None)
    assert not check.masked
    del labels


def test_a_record_holds_the_whole_check(head: nn.Module) -> None:
    check = checked(shielded(head, "rounded logits"))
    record = check.record()
    assert record["masked"] is True
    assert record["signs"] == list(check.warnings)
    assert GradientCheck.from_record(record) == check


def test_the_warning_names_the_victim_and_each_sign_once() -> None:
    victims = [
        {"name": "plain", "gradient_check": {"masked": False, "signs": []}},
        {"name": "mask source", "gradient_check": None},
        *({"name": "rounded", "gradient_check": {"signs": list(SIGNS[:2])}} for _ in range(2)),
    ]
    (warning,) = masked_warnings(victims)
    assert "rounded" in warning
    assert all(warning.count(f"{sign}: ") == 1 for sign in SIGNS[:2])
    assert "no evidence of robustness" in warning


def test_the_search_without_gradients_is_short(head: nn.Module) -> None:
    """At most 16 survivors and 200 queries, whatever the size of the batch."""
    check = checked(shielded(head, "rounded logits"))
    assert check.surviving == min(16, check.utterances)
    assert check.passes * UTTERANCES < 16 * 200 + 20 * UTTERANCES


@pytest.mark.parametrize("name", KEPT)
def test_sigma_autoattack_is_no_weaker_than_random_search_on_shields(
    head: nn.Module, name: str
) -> None:
    victim, (batch, labels) = shielded(head, name), sample()
    right = victim(batch.x, batch.lengths).argmax(1) == labels
    found = ss.attack(ENSEMBLE, victim, batch, labels, BUDGET).success[right]
    control = ss.attack("sparse-rs", victim, batch, labels, BUDGET, queries=QUERIES).success[right]
    assert found.sum() >= control.sum() > 0


def test_sigma_autoattack_reaches_through_rounding_what_it_reaches_without(
    head: nn.Module,
) -> None:
    batch, labels = sample()
    plain, rounded = ss.wrap(head), shielded(head, "quantised features")
    rates = [
        float(ss.attack(ENSEMBLE, one, batch, labels, BUDGET).success.float().mean())
        for one in (plain, rounded)
    ]
    assert rates[1] >= rates[0] - 0.1


def test_sigma_autoattack_makes_no_further_pass_on_a_plain_victim(head: nn.Module) -> None:
    alone = dataclasses.replace(ENSEMBLE, masked_members=())
    victim, (batch, labels) = ss.wrap(head), sample()
    first = ENSEMBLE(victim, batch, labels, BUDGET)
    second = alone(victim, batch, labels, BUDGET)
    assert torch.equal(first.x_adv, second.x_adv)
    assert torch.equal(first.forwards, second.forwards)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Searched(SparseRS):
    """A search without gradients that raises the margin to a share of what gradients reached."""

    share: float = 1.0

    def search(self, active: ActiveSet) -> None:
        clean = active.observed_margin(active.problem.clean_logits[active.rows])
        active.best_margin = clean + self.share * (active.best_margin - clean)


@pytest.mark.parametrize(("share", "suspected"), [(0.9, False), (1.05, False), (1.3, True)])
def test_a_search_leads_if_it_raises_the_margin_much_further(
    head: nn.Module, share: float, suspected: bool
) -> None:
    """Past fault: on plain victims a lead in the last digits cost 2,700 further passes."""
    batch, labels = sample()
    small = ss.Budget(count=1, epsilon=0.1)
    members = (DualAveraging(steps=3, rounds=1), Searched(share=share))
    attack = dataclasses.replace(ENSEMBLE, members=members, masked_members=(SparseRS(queries=5),))
    found = attack(ss.wrap(head), batch, labels, small)
    alone = dataclasses.replace(attack, masked_members=())(ss.wrap(head), batch, labels, small)
    left = ~found.success
    assert left.any()
    assert (found.forwards - alone.forwards)[left].tolist() == [5 * suspected] * int(left.sum())


@pytest.mark.parametrize("attack", ["oneshot", "dual-averaging", "spgd", "sparse-rs", "homotopy"])
def test_a_result_says_where_all_gradients_were_zero(head: nn.Module, attack: str) -> None:
    batch, labels = sample()
    made = ss.make_attack(attack, max_passes=10)
    for name, zero in (
        ("rounded logits", attack != "sparse-rs"),
        ("straight-through logits", False),
    ):
        victim = shielded(head, name)
        right = victim(batch.x, batch.lengths).argmax(1) == labels
        found = ss.attack(made, victim, batch, labels, BUDGET).zero_gradient
        assert found is not None
        assert found[right].all() == zero
        assert found.any() == zero
        # Utterances that were misclassified from the start have no gradient.
        assert not found[~right].any()


@pytest.mark.parametrize("trainable", [True, False])
@pytest.mark.parametrize("name", ["detached", "no_grad"])
def test_a_missing_gradient_is_a_typed_error_that_names_attacks_without_gradients(
    head: nn.Module, name: str, trainable: bool
) -> None:
    victim, (batch, labels) = shielded(head, name), sample()
    head.requires_grad_(trainable)
    try:
        for attack in ("dual-averaging", "spgd", "sigma-lambda"):
            with pytest.raises(GradientError, match="sparse-rs"):
                ss.attack(attack, victim, batch, labels, BUDGET)
        with pytest.raises(ExplainerError, match="occlusion"):
            ss.explain("gradient", victim, batch, labels)
        if not trainable:
            # The ensemble goes on without its gradient attacks.
            assert ss.attack(ENSEMBLE, victim, batch, labels, BUDGET).success.any()
    finally:
        head.requires_grad_(True)


def test_an_ensemble_of_gradient_attacks_alone_needs_a_gradient(head: nn.Module) -> None:
    victim, (batch, labels) = shielded(head, "detached"), sample()
    members = (ss.attacks.OneShot(),)
    with pytest.raises(GradientError):
        ss.attack("sparse-autoattack", victim, batch, labels, BUDGET, members=members)


def test_one_by_one_gives_the_logits_of_each_utterance_alone(head: nn.Module) -> None:
    victim, (batch, _) = shielded(head, "batch statistics"), sample()
    together = OneByOne(victim)(batch.x, batch.lengths)
    for row in (0, UTTERANCES - 1):
        alone = victim(batch.x[row : row + 1], batch.lengths[row : row + 1])
        assert torch.equal(together[row], alone[0])
