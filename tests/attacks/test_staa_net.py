"""The generator attack: what training reaches, checkpoints bit for bit, files and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.attacks import Generator, train_generator
from sigma_ser.attacks.generator import CARD, WEIGHTS
from sigma_ser.attacks.generator_training import TRAINING, ball_of, straight_through
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import CountedVictim
from sigma_ser.testing import check_attack

SMALL: dict[str, Any] = {"width": 4, "levels": 1, "batch_size": 8}


class Level(nn.Module):
    """Two classes by the sign of the mean: the best perturbation moves every sample alike."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        score = x.sum((1, 2)) / lengths
        return torch.stack([score, -score], 1)


def waves(size: int, seed: int, samples: int = 32) -> FeatureBatch:
    """Noise around a positive or a negative level, full scale at 1."""
    rng = torch.Generator().manual_seed(seed)
    lengths = torch.randint(samples // 2, samples + 1, (size,), generator=rng)
    level = 0.2 * torch.where(torch.rand(size, 1, 1, generator=rng) < 0.5, -1, 1)
    return FeatureBatch(level + 0.05 * torch.randn(size, samples, 1, generator=rng), lengths)


@pytest.fixture(scope="module")
def victim() -> Any:
    return ss.wrap(Level().eval(), box=(-1, 1))


def labels_of(victim: Any, batch: FeatureBatch) -> Tensor:
    return victim(batch.x, batch.lengths).argmax(1)


def trained(victim: Any, **settings: Any) -> Generator:
    batch = waves(24, seed=1)
    budget = settings.pop("budget", ss.Budget.from_snr(batch, snr=10, sparsity=0.5))
    return train_generator(
        victim, batch, labels_of(victim, batch), budget, **{**SMALL, "steps": 6, **settings}
    )


def gain(victim: Any, generator: Generator, batch: FeatureBatch, budget: ss.Budget) -> Tensor:
    """The share of the largest possible change of the score that the attack attains."""
    labels = labels_of(victim, batch)
    result = ss.attack("staa-net", victim, batch, labels, budget, generator=generator)
    towards = torch.where(labels == 0, -1.0, 1.0)
    change = (result.x_adv - batch.x).sum((1, 2)) * towards
    epsilon = torch.as_tensor(budget.epsilon).flatten().float()
    return change / (epsilon * budget.elements(batch.lengths, 1))


def test_training_approaches_the_optimum_on_other_utterances(victim: Any) -> None:
    others = waves(12, seed=2)
    budget = ss.Budget.from_snr(others, snr=10, sparsity=0.5)
    before, after = (
        gain(victim, trained(victim, steps=steps, learning_rate=1e-2), others, budget)
        for steps in (1, 40)
    )
    assert after.min() > 0.8
    assert after.max() <= 1 + 1e-5
    assert before.mean() < 0.5
    labels = labels_of(victim, others)
    found = ss.attack("random", victim, others, labels, budget, draws=1)
    assert not found.success.any()


def test_the_mask_is_exact_and_has_the_gradient_of_the_scores(
    conv_victim: Any, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    budget = ss.Budget(sparsity=0.2)
    ball = ball_of(CountedVictim(conv_victim, batch), batch, labels, budget)
    rng = torch.Generator().manual_seed(0)
    score = torch.rand(batch.x.shape, generator=rng).requires_grad_()
    mask = straight_through(ball, score)
    expected = ss.topk_mask(score.detach(), batch.lengths, budget)
    torch.testing.assert_close(mask, expected.float())
    weight = torch.randn(batch.x.shape, generator=rng)
    (slope,) = torch.autograd.grad((weight * mask).sum(), score)
    assert torch.equal(slope, weight * batch.valid[:, :, None])


def test_an_interrupted_training_continues_bit_for_bit(victim: Any, tmp_path: Path) -> None:
    whole = trained(victim, checkpoint=tmp_path / "whole", every=2)

    def stop(done: int, _: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(victim, checkpoint=tmp_path / "parts", every=2, progress=stop)
    assert not (tmp_path / "parts" / WEIGHTS).exists()
    steps: list[tuple[int, int]] = []
    parts = trained(
        victim, checkpoint=tmp_path / "parts", every=2, progress=lambda *at: steps.append(at)
    )
    assert steps == [(5, 6), (6, 6)]
    assert parts.key == whole.key
    for name in (WEIGHTS, CARD):
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("whole", "parts"))
        assert first == second
    # More steps continue as well, and the same call again computes nothing.
    longer = trained(victim, steps=8, checkpoint=tmp_path / "parts")
    assert longer.key == trained(victim, steps=8).key != whole.key
    again = trained(victim, steps=8, checkpoint=tmp_path / "parts", progress=pytest.fail)
    assert again.key == longer.key


def test_every_utterance_is_used_once_before_one_is_used_again(
    victim: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    select = FeatureBatch.select

    def counted(batch: FeatureBatch, rows: Tensor) -> FeatureBatch:
        used.extend(rows.tolist())
        return select(batch, rows)

    monkeypatch.setattr(FeatureBatch, "select", counted)
    trained(victim, steps=6, batch_size=10)
    assert len(used) == 60
    assert sorted(used[:24]) == sorted(used[24:48]) == list(range(24))
    assert used[:24] != used[24:48]


def test_a_saved_generator_is_the_same_attack(victim: Any, tmp_path: Path) -> None:
    made = trained(victim)
    made.save(tmp_path)
    batch = waves(5, seed=4)
    task = (victim, batch, labels_of(victim, batch), ss.Budget.from_snr(batch, 12, 0.2))
    by_object, by_folder = (
        ss.make_attack("staa-net", generator=given) for given in (made, tmp_path)
    )
    assert repr(by_object) == repr(by_folder) == f"StaaNet(generator={made!r})"
    first, second = by_object(*task), by_folder(*task)
    assert torch.equal(first.x_adv, second.x_adv)
    assert first.forwards.tolist() == [2] * 5
    assert not first.backwards.any()
    loaded = Generator.load(tmp_path)
    assert loaded.card == made.card
    assert loaded.card["steps"] == 6


def test_outputs_do_not_saturate(victim: Any) -> None:
    # A past fault: scores of exactly 1 after some training selected the first samples.
    made, larger, batch = trained(victim), trained(victim), waves(3, seed=6)
    for layer in (larger.magnitude, larger.score):
        layer.weight.mul_(2**12)
        layer.bias.mul_(2**12)
    given = (batch.x, batch.lengths, torch.zeros(1), torch.ones(1))
    for first, second in zip(made(*given), larger(*given), strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=0.0)
        assert first.shape == batch.x.shape
        assert (first[batch.valid].abs() < 1).all()
        assert not first[~batch.valid].any()


def test_segments_are_selected_as_a_whole(victim: Any) -> None:
    batch = waves(4, seed=5)
    budget = ss.Budget(sparsity=0.3, epsilon=0.1, granularity="segment", segment_frames=5)
    made = trained(victim, budget=budget)
    result = ss.attack("staa-net", victim, batch, labels_of(victim, batch), budget, generator=made)
    assert (result.x_adv != batch.x).any()


def test_without_a_network_on_these_channels_there_is_no_attack(
    victim: Any, tmp_path: Path
) -> None:
    with pytest.raises(AttackError, match=r"train one with ss\.attacks\.train_generator"):
        ss.make_attack("staa-net")
    with pytest.raises(AttackError, match="holds no trained generator"):
        ss.make_attack("staa-net", generator=tmp_path)
    features = FeatureBatch(torch.randn(2, 9, 6), torch.tensor([9, 5]))
    other = ss.wrap(Level().eval())
    attack = ss.make_attack("staa-net", generator=trained(victim))
    with pytest.raises(AttackError, match="trained for 1 channels, and the features have 6"):
        attack(other, features, labels_of(other, features), ss.Budget(sparsity=0.1))
    check_attack("staa-net")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps of train_generator must be at least 1"),
        ({"every": 0}, "every of train_generator must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate of train_generator must be above 0"),
        ({"levels": 0}, "levels of a generator must be at least 1"),
        ({"learning_rate": float("inf")}, "generator is no longer finite"),
    ],
)
def test_settings_out_of_range_are_refused(
    settings: dict[str, Any], message: str, victim: Any
) -> None:
    with pytest.raises(AttackError, match=message):
        trained(victim, **settings)


def test_files_that_do_not_fit_are_refused(victim: Any, tmp_path: Path) -> None:
    trained(victim, checkpoint=tmp_path)
    with pytest.raises(AttackError, match="another victim, data, budget or settings"):
        trained(victim, checkpoint=tmp_path, seed=1)
    with pytest.raises(AttackError, match="holds a generator of 6 steps"):
        trained(victim, checkpoint=tmp_path, steps=3)
    (tmp_path / TRAINING).write_bytes(b"0")
    with pytest.raises(AttackError, match=r"cannot be read .* delete it"):
        trained(victim, checkpoint=tmp_path)
    other = tmp_path / "other"
    trained(victim, seed=1).save(other)
    (tmp_path / WEIGHTS).write_bytes((other / WEIGHTS).read_bytes())
    with pytest.raises(AttackError, match="does not belong to its"):
        Generator.load(tmp_path)
    (tmp_path / CARD).write_text("{}")
    with pytest.raises(AttackError, match="cannot be read"):
        Generator.load(tmp_path)


def test_training_leaves_the_victim_and_the_random_numbers_alone(
    conv_victim: Any, utterances: tuple[FeatureBatch, Tensor]
) -> None:
    batch, labels = utterances
    state = torch.random.get_rng_state()
    train_generator(conv_victim, batch, labels, ss.Budget(sparsity=0.3), **SMALL, steps=2)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(weight.grad is None for weight in conv_victim.module.parameters())
