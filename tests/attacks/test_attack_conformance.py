"""The contract of every attack, tested on all members of the registry."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from sigma_ser.attacks.base import AttackInterrupted, SparseAttack
from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.limits import ObservedRange
from sigma_ser.attacks.losses import LOSSES
from sigma_ser.attacks.masked import MaskedAttack
from sigma_ser.attacks.sparse_autoattack import Ensemble
from sigma_ser.audio.quality import snr
from sigma_ser.core import registry
from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.errors import AttackError, BudgetError, ShapeError, VictimError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.testing import check_attack, check_attack_run, example_settings
from sigma_ser.victims.victim import WrappedVictim, wrap

NAMES = registry.names("attack")
SHORT = {
    "steps": 5, "restarts": 1, "queries": 20, "generations": 3, "candidates": 6, "probes": 16,
    "tries": 3, "searches": 2, "stages": 4, "refinements": 2, "samples": 2,
    "directions": 2, "path": 2, "halvings": 2, "deepfool_steps": 2,
}  # fmt: skip


def short(name: str, channels: int = 6, **settings: Any) -> SparseAttack:
    """The attack with fewer steps; those that move all they may keep the largest units."""
    return shortened(make_attack(name, **example_settings(name, channels), **settings))


def shortened(made: SparseAttack) -> SparseAttack:
    known = {field.name for field in dataclasses.fields(made)}
    chosen: dict[str, Any] = {key: value for key, value in SHORT.items() if key in known}
    if isinstance(made, MaskedAttack):
        chosen["keep_largest"] = True
    if isinstance(made, Ensemble):
        for members in {"members", "masked_members"} & known:
            chosen[members] = tuple(shortened(member) for member in getattr(made, members))
    return dataclasses.replace(made, **chosen)


def granularities(name: str) -> tuple[str, ...]:
    """Those that the attack knows; attacks on single elements say so."""
    return tuple(getattr(registry.get("attack", name), "granularities", GRANULARITIES))


@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_budget_is_law(name: str, conv_victim: WrappedVictim, data: st.DataObject) -> None:
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=4)))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    x = torch.randn(len(lengths), int(lengths.max()), 6, generator=rng)
    budget = Budget(
        sparsity=data.draw(st.floats(0.01, 1.0)),
        epsilon=data.draw(st.sampled_from([0.0, 0.1, 1.0, 5.0])),
        granularity=data.draw(st.sampled_from(granularities(name))),
        segment_frames=2,
    )
    mask = None
    if data.draw(st.booleans()):
        mask = torch.rand(x.shape, generator=rng) < data.draw(st.sampled_from([0.0, 0.5, 0.95]))
    labels = torch.randint(3, (len(lengths),), generator=rng)
    target = (labels + 1) % 3 if data.draw(st.booleans()) else None
    batch = FeatureBatch(x, lengths)

    check_attack_run(short(name), conv_victim, batch, labels, budget, mask=mask, target=target)


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_passes_the_conformance_suite(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    """Budget, true claims, one result for an utterance in any company, seeds, `repr`."""
    check_attack(short(name), victim=conv_victim, batch=utterances[0])


@pytest.mark.parametrize("name", NAMES)
def test_attacks_that_move_a_whole_mask_pass_without_a_selection_of_their_own(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    made = short(name)
    if not isinstance(made, MaskedAttack):
        pytest.skip("this attack selects its own support")
    check_attack(
        dataclasses.replace(made, keep_largest=False), victim=conv_victim, batch=utterances[0]
    )


@pytest.mark.parametrize("name", NAMES)
def test_epsilon_zero_and_empty_masks_change_nothing(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    still = short(name)(conv_victim, batch, labels, Budget(sparsity=0.5, epsilon=0.0))
    nowhere = torch.zeros_like(batch.x, dtype=torch.bool)
    shut = short(name)(conv_victim, batch, labels, Budget(sparsity=0.5), mask=nowhere)
    for result in (still, shut):
        assert torch.equal(result.x_adv, batch.x)
        assert not result.success.any()
        assert result.forwards.tolist() == [1] * len(batch)


@pytest.mark.parametrize("name", NAMES)
def test_wrong_from_the_start_costs_one_pass(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    result = short(name)(conv_victim, batch, (labels + 1) % 3, Budget(sparsity=0.3))
    assert torch.equal(result.x_adv, batch.x)
    assert result.success.all()
    assert result.forwards.tolist() == [1] * len(batch)
    assert not result.backwards.any()


@pytest.mark.parametrize("name", NAMES)
def test_limits_and_observed_range(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    box = ObservedRange(torch.full((6,), -1.0), torch.full((6,), 1.0))
    inside = FeatureBatch(batch.x.clamp(-1, 1), batch.lengths)
    with torch.no_grad():
        labels = conv_victim(inside.x, inside.lengths).argmax(1)
    budget = Budget(sparsity=0.5, epsilon=3.0)
    result = short(name, box=box, max_passes=7)(conv_victim, inside, labels, budget)
    assert result.x_adv.abs().max() <= 1 + 1e-6
    assert (result.forwards + result.backwards <= 8).all()
    assert torch.equal(result.steps > 0, (result.x_adv != inside.x).flatten(1).any(1))


class WaveHead(nn.Module):
    """A smooth victim of waves, which ignores padding."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv1d(1, 8, 9, padding=4)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        hidden = torch.tanh(4 * self.mix(x.transpose(1, 2))) * _valid(x, lengths)
        return 20 * self.out(hidden.sum(2) / lengths[:, None])


def _valid(x: Tensor, lengths: Tensor) -> Tensor:
    return (torch.arange(x.shape[1]) < lengths[:, None])[:, None, :]


@pytest.fixture(scope="module")
def waves() -> tuple[WrappedVictim, FeatureBatch, Tensor]:
    """A victim of waves within full scale; half of the samples are near its ends."""
    torch.manual_seed(5)
    victim = wrap(WaveHead().eval(), box=(-1, 1))
    rng = torch.Generator().manual_seed(8)
    x = torch.where(torch.rand(3, 64, 1, generator=rng) < 0.5, 0.1, 0.97)
    x = (
        x
        * torch.sign(torch.randn(3, 64, 1, generator=rng))
        * torch.tensor([1, 0.9, 0.5])[:, None, None]
    )
    batch = FeatureBatch(x, torch.tensor([64, 41, 52]))
    return victim, batch, victim(batch.x, batch.lengths).argmax(1)


@pytest.mark.parametrize("name", NAMES)
def test_waves_stay_in_full_scale_and_keep_their_ratio_alone_and_in_company(
    name: str, waves: tuple[WrappedVictim, FeatureBatch, Tensor]
) -> None:
    victim, batch, labels = waves
    budget = Budget.from_snr(batch, snr=8.0, sparsity=0.3)
    attack = short(name, channels=1)
    together = check_attack_run(attack, victim, batch, labels, budget)
    assert together.x_adv.abs().max() <= 1
    assert (together.x_adv != batch.x).any()
    ratio = snr(batch.x, together.x_adv, batch.lengths)
    assert (ratio.nan_to_num(torch.inf) >= 8.0 - 1e-5).all()
    for row in range(len(batch)):
        one = batch.select(torch.tensor([row]))
        alone = attack(victim, one, labels[row : row + 1], Budget.from_snr(one, 8.0, 0.3))
        size = int(batch.lengths[row])
        torch.testing.assert_close(alone.x_adv[0], together.x_adv[row, :size], atol=1e-5, rtol=0.0)


def test_the_box_of_a_victim_and_the_range_of_an_attack_hold_together(
    waves: tuple[WrappedVictim, FeatureBatch, Tensor],
) -> None:
    victim, batch, labels = waves
    low, high = torch.tensor([-2.0]), torch.tensor([0.5])
    result = short("dual-averaging", box=ObservedRange(low, high))(
        victim, batch, labels, Budget(sparsity=1.0, epsilon=5.0)
    )
    moved = result.x_adv[result.x_adv != batch.x]
    assert moved.min() == -1
    # Clean values above the range may only move towards it.
    assert moved.max() <= 0.97
    outside = ObservedRange(torch.tensor([1.5]), torch.tensor([2.0]))
    with pytest.raises(AttackError, match="outside the victim's box"):
        short("oneshot", box=outside)(victim, batch, labels, Budget(sparsity=1.0))


def test_time_is_a_limit_too(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    result = make_attack("spgd", max_seconds=1e-9)(conv_victim, batch, labels, Budget(sparsity=0.3))
    assert torch.equal(result.x_adv, batch.x)
    assert result.forwards.tolist() == [1] * len(batch)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
def test_every_loss_leads_somewhere(
    loss: str, targeted: bool, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    """Towards any class and towards a given one, further than chance goes."""
    batch, labels = utterances
    target = (labels + 1) % 3 if targeted else None
    budget = Budget(sparsity=0.3, epsilon=1.0)
    led = make_attack("dual-averaging", steps=5, losses=(loss,))
    reached = [
        run(conv_victim, batch, labels, budget, target=target).success.sum()
        for run in (led, make_attack("random"))
    ]
    assert reached[0] > reached[1]


@pytest.mark.parametrize("name", NAMES)
def test_bad_tasks_are_refused_in_one_sentence(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    budget = Budget(sparsity=0.3)
    run = short(name)
    # Under the shape checker, wrong shapes do not even get to the attack's own check.
    refused = (AttackError, TypeCheckError)
    with pytest.raises(refused, match="mask"):
        run(conv_victim, batch, labels, budget, mask=batch.x[:, :4] > 0)
    with pytest.raises(refused, match="labels"):
        run(conv_victim, batch, labels[:3], budget)
    with pytest.raises(refused, match="seeds"):
        run(conv_victim, batch, labels, budget, seeds=labels[:2])
    with pytest.raises(AttackError, match="between 0 and 2"):
        run(conv_victim, batch, labels + 3, budget)
    with pytest.raises(AttackError, match="target must differ from the label"):
        run(conv_victim, batch, labels, budget, target=labels)
    with pytest.raises(BudgetError):
        run(conv_victim, batch, labels, Budget(count=10_000))
    with pytest.raises(BudgetError):
        Budget(count=0)
    with pytest.raises(BudgetError, match="finite"):
        Budget(sparsity=0.3, epsilon=float("inf"))


class NanAfter(nn.Module):
    """Answers well until features have moved."""

    def __init__(self, clean: Tensor, head: WrappedVictim) -> None:
        super().__init__()
        self.clean, self.head = clean, head

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        moved = (x - self.clean[: len(x), : x.shape[1]]).abs().sum((1, 2)) > 0
        return self.head(x, lengths).masked_fill(moved[:, None], float("nan"))


@pytest.mark.parametrize("name", NAMES)
def test_a_victim_without_finite_logits_is_an_error(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    one = batch.select(torch.tensor([0]))
    victim = wrap(NanAfter(one.x, conv_victim).eval())
    with pytest.raises(VictimError, match="not finite"):
        short(name)(victim, one, labels[:1], Budget(sparsity=0.3, epsilon=2.0))


@pytest.mark.parametrize("name", NAMES)
def test_interrupted_attack_keeps_what_it_found(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    calls = []

    class Interrupted(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            calls.append(len(x))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return conv_victim(x, lengths)

    with pytest.raises(AttackInterrupted) as caught:
        short(name)(wrap(Interrupted().eval()), batch, labels, Budget(sparsity=0.1, epsilon=0.2))
    assert caught.value.result.x_adv.shape == batch.x.shape


@pytest.mark.parametrize("name", NAMES)
def test_repr_shows_the_settings(name: str) -> None:
    settings = example_settings(name)
    shown = repr(make_attack(name, **settings))
    fields = dataclasses.fields(registry.get("attack", name))
    for field in fields:
        hidden = field.name in ("box", "max_passes", "max_seconds")
        assert (f"{field.name}=" in shown) != hidden
    assert "max_passes=9" in repr(make_attack(name, max_passes=9, **settings))


@pytest.mark.parametrize("name", NAMES)
def test_every_utterance_may_have_a_count_of_its_own(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    # A past fault: after utterances left, `sapf` used a budget of six utterances for three.
    batch, labels = utterances
    budget = Budget(count=torch.tensor([20, 3, 12, 2, 9, 1]), epsilon=2.0)
    early = {"cut_every": 2} if name in {"sapf", "ead"} else {}
    result = short(name, **early)(conv_victim, batch, labels, budget)
    assert torch.equal(conv_victim(result.x_adv, batch.lengths).argmax(1), result.prediction)


class Detached(nn.Module):
    """Gives logits, and no gradient."""

    def __init__(self, head: WrappedVictim) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(x, lengths).detach()


def test_what_cannot_be_attacked_says_what_to_do(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    budget = Budget(sparsity=0.3)
    run = short("dual-averaging")
    with pytest.raises(VictimError, match=r"no gradient reaches .* sparse-rs"):
        run(wrap(Detached(conv_victim).eval()), batch, labels, budget)
    empty = batch.select(torch.arange(0))
    with pytest.raises(AttackError, match="at least one"):
        run(conv_victim, empty, labels[:0], budget)
    with pytest.raises((VictimError, TypeCheckError), match=r"ss\.wrap|victim"):
        run(conv_victim.module, batch, labels, budget)
    with pytest.raises((AttackError, TypeCheckError), match="labels"):
        run(conv_victim, batch, labels.tolist(), budget)
    with pytest.raises((ShapeError, TypeCheckError), match=r"batch|FeatureBatch"):
        run(conv_victim, batch.x, labels, budget)
    with pytest.raises((BudgetError, TypeCheckError), match="budget"):
        run(conv_victim, batch, labels, 0.1)
    with pytest.raises((AttackError, TypeCheckError), match="seeds"):
        run(conv_victim, batch, labels, budget, seeds=[1] * len(batch))
    with pytest.raises((AttackError, TypeCheckError), match="mask"):
        run(conv_victim, batch, labels, budget, mask=(batch.x > 0).numpy())


def test_features_behind_an_encoders_graph_are_attacked_as_data(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    # "No gradient reaches the features", it said of features that came with one of their own.
    batch, labels = utterances
    behind = FeatureBatch(batch.x.clone().requires_grad_() * 1.0, batch.lengths, batch.ids)
    budget = Budget(sparsity=0.1, epsilon=2.0)
    run = short("dual-averaging")
    result = run(conv_victim, behind, labels, budget)
    assert torch.equal(result.x_adv, run(conv_victim, batch, labels, budget).x_adv)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": "20"}, "steps .* whole number"),
        ({"growth": "a"}, "growth .* a number"),
        ({"max_passes": "20"}, "max_passes .* whole number"),
        ({"box": (-1, 1)}, r"box must be ObservedRange"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(settings: dict, said: str) -> None:
    with pytest.raises((AttackError, TypeCheckError), match=said):
        make_attack("dual-averaging", **settings)


def test_a_loss_and_a_name_that_do_not_exist_are_refused_at_once() -> None:
    # A wrong loss was a KeyError of the first step, after everything had been trained.
    for name in NAMES:
        if "loss" in inspect.signature(registry.get("attack", name)).parameters:
            with pytest.raises((AttackError, TypeCheckError), match=r"loss"):
                make_attack(name, loss="ce")
    with pytest.raises((AttackError, TypeCheckError), match=r"by its name|name"):
        make_attack(None)  # type: ignore[arg-type]


class NanSlope(nn.Module):
    """Answers well, with a gradient that is NaN, as behind a root at 0."""

    def __init__(self, head: WrappedVictim) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.head(x, lengths) + (0 * x).sum((1, 2)).sqrt()[:, None]


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_of_nan_is_no_robustness(
    name: str, conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    # Half of the attacks came back unchanged, and said that nothing had fooled the victim.
    batch, labels = utterances
    victim = wrap(NanSlope(conv_victim).eval(), scale=conv_victim.scale)
    budget = Budget(sparsity=0.3, epsilon=0.1)
    if short(name)(conv_victim, batch, labels, budget).backwards.any():
        with pytest.raises(VictimError, match="gradient is not finite"):
            short(name)(victim, batch, labels, budget)
    else:
        short(name)(victim, batch, labels, budget)
