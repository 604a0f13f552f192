"""The adapter for attacks of other libraries, tested with a library defined here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from sigma_ser.attacks.base import AttackInterrupted
from sigma_ser.attacks.external.adapter import ExternalAttack
from sigma_ser.attacks.external.libraries import LIBRARIES
from sigma_ser.attacks.external.peer import Peer
from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.limits import ObservedRange
from sigma_ser.core.audit import audit
from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.errors import AttackError, UnknownNameError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import WrappedVictim, wrap


def ascend(model: nn.Module, z: Tensor, labels: Tensor, steps: int, rate: float) -> Tensor:
    """Gradient steps in the box from a random start, as dense attacks of images make them."""
    z = (z + 1e-3 * torch.randn(z.shape)).clamp(0, 1)
    for _ in range(steps):
        z = z.detach().requires_grad_()
        loss = nn.functional.cross_entropy(model(z), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, z)
        z = (z + rate * gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True)).clamp(0, 1)
    return z.detach()


class OurLibrary(Peer):
    """A library that is always installed."""

    library = "ours"
    packages = "nothing"
    ours = frozenset({"model", "z", "labels"})

    def members(self) -> dict[str, Callable[..., Any]]:
        def backwards(model: nn.Module, z: Tensor, labels: Tensor) -> Tensor:
            model(z[: max(1, len(z) - 1)])
            return z

        def interrupted(model: nn.Module, z: Tensor, labels: Tensor) -> Tensor:
            if z.shape[2] == 4:
                raise KeyboardInterrupt
            return ascend(model, z, labels, 5, 0.2)

        def broken(model: nn.Module, z: Tensor, labels: Tensor) -> Tensor:
            raise ValueError("images only")

        def escaped(model: nn.Module, z: Tensor, labels: Tensor) -> Tensor:
            return torch.full_like(z, torch.nan).index_fill_(2, torch.tensor([0]), 7.0)

        return {
            "ascend": ascend, "partial": backwards, "interrupted": interrupted,
            "broken": broken, "escaped": escaped,
        }  # fmt: skip

    def __call__(
        self, model: nn.Module, z: Tensor, labels: Tensor, target: Tensor | None, elements: int
    ) -> Tensor:
        self.refuse_target(target)
        moved: Tensor = self.member()(model, z, labels, **self.settings)
        return moved


def dense(steps: int = 5, **own: Any) -> ExternalAttack:
    return ExternalAttack(peer=OurLibrary("ascend", {"steps": steps, "rate": 0.2}), **own)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_budget_is_law(conv_victim: WrappedVictim, data: st.DataObject) -> None:
    lengths = torch.tensor(data.draw(st.lists(st.integers(1, 8), min_size=1, max_size=4)))
    rng = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    x = torch.randn(len(lengths), int(lengths.max()), 6, generator=rng)
    budget = Budget(
        sparsity=data.draw(st.floats(0.01, 1.0)),
        epsilon=data.draw(st.sampled_from([0.0, 0.1, 5.0])),
        granularity=data.draw(st.sampled_from(GRANULARITIES)),
        segment_frames=2,
    )
    mask = torch.rand(x.shape, generator=rng) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    batch = FeatureBatch(x, lengths)
    box = ObservedRange(torch.full((6,), -1.5), torch.full((6,), 1.5))
    made = dense(
        2,
        together=data.draw(st.booleans()),
        cut=data.draw(st.sampled_from(["after", "inside"])),
        box=box if data.draw(st.booleans()) else None,
    )
    labels = conv_victim(x, lengths).argmax(1)

    result = made(conv_victim, batch, labels, budget, mask=mask)

    audit(batch, result.x_adv, budget, conv_victim.scale, mask)
    if made.box is not None:
        # Clean values outside the range may only move towards it.
        reach = batch.x.abs().clamp(min=1.5)
        assert bool((result.x_adv.abs() <= reach + 1e-6).all())
    wrong = conv_victim(result.x_adv, lengths).argmax(1) != labels
    assert torch.equal(wrong, result.success)


def test_what_leaves_the_box_is_brought_back(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    budget = Budget(sparsity=0.1, epsilon=1.0)
    made = ExternalAttack(peer=OurLibrary("escaped", {}))
    result = made(conv_victim, batch, labels, budget)
    delta = result.x_adv - batch.x
    assert torch.isfinite(result.x_adv).all()
    assert bool((delta != 0).any())
    assert bool((delta[:, 1:] == 0).all())


def test_each_utterance_is_alone(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    budget = Budget(sparsity=0.1, epsilon=1.0)
    company = dense()(conv_victim, batch, labels, budget)
    for row in range(len(batch)):
        one = torch.tensor([row])
        alone = dense()(conv_victim, batch.select(one), labels[one], budget)
        frames = alone.x_adv.shape[1]
        assert torch.equal(alone.x_adv[0], company.x_adv[row, :frames])
        assert int(alone.forwards) == int(company.forwards[row])


def test_passes_are_counted_and_limited(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    budget = Budget(sparsity=0.05, epsilon=0.01)  # no utterance is misclassified
    for together in (False, True):
        result = dense(5, together=together)(conv_victim, batch, labels, budget)
        # The first classification, five steps, and the evaluation of the output.
        assert result.forwards.tolist() == [7] * 6
        assert result.backwards.tolist() == [5] * 6
    limited = dense(50, max_passes=9)(conv_victim, batch, labels, budget)
    assert limited.forwards.tolist() == [1 + 4 + 1] * 6
    assert bool((limited.x_adv != batch.x).flatten(1).any(1).all())


def test_the_cut_inside_shows_the_victim_k_elements_and_the_attack_all_gradients() -> None:
    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.changed: list[int] = []

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            self.changed.append(int((x != 0).sum()))
            return torch.stack([9 + 0 * x.sum((1, 2)), x.sum((1, 2))], 1)

    gradients: list[Tensor] = []

    class Watching(OurLibrary):
        def __call__(
            self, model: nn.Module, z: Tensor, labels: Tensor, target: Tensor | None, elements: int
        ) -> Tensor:
            z = torch.linspace(0.5, 0.9, z.numel()).view(z.shape).requires_grad_()
            gradients.append(torch.autograd.grad(model(z)[:, 1].sum(), z)[0])
            return z.detach()

    for cut, seen in (("after", 11), ("inside", 3)):
        module = Watched().eval()
        made = ExternalAttack(peer=Watching("ascend", {}), cut=cut)  # type: ignore[arg-type]
        batch = FeatureBatch(torch.zeros(1, 2, 6), torch.tensor([2]))
        made(wrap(module), batch, torch.tensor([0]), Budget(count=3, epsilon=1.0))
        assert module.changed == [0, seen, 3]
        # The spread of the clean logits, 9, is halved; a unit of z is twice the bound of 1.
        assert torch.equal(gradients[-1], torch.full((1, 1, 2, 6), 0.5 * 2.0))


def test_global_generators_are_left_alone(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    before = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    dense()(conv_victim, batch, labels, Budget(sparsity=0.1))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_rows_that_are_mixed_up_are_refused(conv_victim: WrappedVictim) -> None:
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    batch = FeatureBatch(x, torch.tensor([5, 5, 5]))
    labels = conv_victim(batch.x, batch.lengths).argmax(1)
    made = ExternalAttack(peer=OurLibrary("partial", {}), together=True)
    with pytest.raises(AttackError, match="together=False"):
        made(conv_victim, batch, labels, Budget(sparsity=0.1))


def test_an_interruption_keeps_what_is_finished(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    made = ExternalAttack(peer=OurLibrary("interrupted", {}))
    with pytest.raises(AttackInterrupted) as caught:
        made(conv_victim, batch, labels, Budget(sparsity=0.1, epsilon=1.0))
    changed = (caught.value.result.x_adv != batch.x).flatten(1).any(1)
    assert changed.tolist() == [True, False, False, False, False, False]


def test_a_failure_of_the_library_names_it(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    made = ExternalAttack(peer=OurLibrary("broken", {}))
    with pytest.raises(AttackError, match=r"ours:broken\(\).*images only"):
        made(conv_victim, batch, labels, Budget(sparsity=0.1))
    with pytest.raises(AttackError, match="takes no target"):
        dense()(conv_victim, batch, labels, Budget(sparsity=0.1), target=(labels + 1) % 3)


@pytest.mark.parametrize(("library", "module"), [
    ("foolbox", "foolbox"), ("torchattacks", "torchattacks"), ("adv-lib", "adv_lib"),
    ("art", "art"),
])  # fmt: skip
def test_the_error_for_a_missing_library_names_the_install_command(
    library: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(AttackError, match=f"pip install --no-deps {LIBRARIES[library].packages}"):
        make_attack(f"{library}:Whatever")


def test_names_and_settings_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="known: adv-lib, art, foolbox, torchattacks"):
        make_attack("foolbix:LinfPGD")
    with pytest.raises(UnknownNameError, match="did you mean ascend"):
        OurLibrary("asend", {})
    with pytest.raises(AttackError, match="has no setting 'step'; it has steps, rate"):
        OurLibrary("ascend", {"step": 3})
    with pytest.raises((AttackError, TypeCheckError), match="cut"):
        dense(cut="before")
    assert repr(dense(5)) == (
        "ExternalAttack(peer=ours:ascend(steps=5, rate=0.2), together=False, cut='after')"
    )


@pytest.mark.slow
def test_every_utterance_may_have_its_own_budget(
    conv_victim: WrappedVictim, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    # A success curve uses such budgets, with one count per row of the complete batch.
    batch, labels = utterances
    counts, epsilons = torch.tensor([20, 3, 12, 2, 9, 1]), torch.linspace(0.2, 1.2, 6)
    made = dense(cut="inside")
    for budget, each in (
        (Budget(count=counts), [Budget(count=int(k)) for k in counts]),
        (
            Budget(sparsity=0.2, epsilon=epsilons[:, None]),
            [Budget(sparsity=0.2, epsilon=float(e)) for e in epsilons],
        ),
    ):
        together = made(conv_victim, batch, labels, budget)
        for row, own in enumerate(each):
            one = batch.select(torch.tensor([row]))
            alone = made(conv_victim, one, labels[row : row + 1], own)
            found = together.x_adv[row, : one.x.shape[1]]
            torch.testing.assert_close(found, alone.x_adv[0])
