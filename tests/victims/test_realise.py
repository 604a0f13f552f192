"""Realisation of feature attacks: the optimum of a linear encoder, limits, and refusals."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.audio.quality import snr
from sigma_ser.core.errors import ShapeError, VictimError
from sigma_ser.core.features import pad
from sigma_ser.core.seeds import UtteranceNoise
from sigma_ser.victims.wave_search import WaveSearch

SIZES = (48, 36, 40)


class Mean(nn.Module):
    """The mean of the frames and a linear layer."""

    def __init__(self, channels: int = 6) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(6)
        self.weight = nn.Parameter(torch.randn(channels, 3, generator=rng))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return 20 * (x.sum(1) / lengths[:, None]) @ self.weight


@dataclasses.dataclass(frozen=True)
class Task:
    """A sparse feature attack on waves of a linear encoder."""

    encoder: Any
    victim: Any
    waves: ss.FeatureBatch
    batch: ss.FeatureBatch
    labels: Tensor
    result: ss.AttackResult

    def run(self, rows: slice = slice(None), **settings: Any) -> ss.Realisation:
        chosen = torch.arange(len(self.batch))[rows]
        batch, waves = self.batch.select(chosen), self.waves.select(chosen)
        x_adv = self.result.x_adv[chosen, : batch.x.shape[1]]
        part = ss.AttackResult(
            x_adv,
            *[
                getattr(self.result, name)[chosen]
                for name in ("success", "prediction", "steps", "forwards", "backwards")
            ],
        )
        given = (self.encoder, self.victim, waves, batch, self.labels[chosen], part)
        return ss.realise(*given, **settings)


@pytest.fixture(scope="module")
def task(linear_frames: type[Any]) -> Task:
    encoder, victim = linear_frames(), ss.wrap(Mean().eval())
    rng = torch.Generator().manual_seed(1)
    waves = pad([0.2 * torch.randn(size, 1, generator=rng) for size in SIZES])
    batch = pad(encoder.trace([wave[:size, 0] for wave, size in zip(waves.x, SIZES, strict=True)]))
    labels = victim(batch.x, batch.lengths).argmax(1)
    budget = ss.Budget(sparsity=0.2, epsilon=0.05)
    result = ss.attack("dual-averaging", victim, batch, labels, budget, steps=2)
    assert (result.x_adv != batch.x).any()
    return Task(encoder, victim, waves, batch, labels, result)


def test_reach_is_that_of_the_least_squares_solution(task: Task) -> None:
    found = task.run(steps=300)
    matrix = task.encoder.matrix.double().numpy()
    delta = (task.result.x_adv - task.batch.x).double().numpy()
    for row, frames in enumerate(task.batch.lengths.tolist()):
        wanted = delta[row, :frames]
        solution, *_ = np.linalg.lstsq(matrix.T, wanted.T, rcond=None)
        change = solution.T @ matrix
        reach = np.square(change).sum() / np.square(wanted).sum()
        assert 0.05 < reach < 0.95
        assert float(found.reach[row]) == pytest.approx(reach, abs=1e-4)
        leak = np.square(change[wanted == 0]).sum() / np.square(change).sum()
        assert float(found.leak[row]) == pytest.approx(leak, abs=2e-3)
        moved = task.encoder.trace([found.waves[row, : SIZES[row], 0]])[0]
        logits = task.victim(moved[None], torch.tensor([frames]))
        assert bool(found.realised[row]) == (int(logits.argmax()) != int(task.labels[row]))


def test_a_scale_changes_what_is_near(task: Task) -> None:
    # With one channel much smaller than the others, that channel alone decides.
    scale = torch.tensor([1e-3, 1.0, 1.0, 1.0, 1.0, 1.0])
    victim = ss.wrap(Mean().eval(), scale=scale)
    x_adv = task.batch.x.clone()
    x_adv[:, :, 0] += 0.1 * task.batch.valid
    result = dataclasses.replace(task.result, x_adv=x_adv)
    found = dataclasses.replace(task, victim=victim, result=result).run(steps=400)
    assert (found.reach > 0.999).all()


def test_the_wave_stays_within_its_ball_and_full_scale(task: Task) -> None:
    found = task.run(epsilon=0.01, restarts=2, steps=30)
    change = found.waves - task.waves.x
    assert 0.009 < float(change.abs().max()) <= 0.01 + 1e-7
    free = task.run(steps=30)
    assert (found.reach <= free.reach + 1e-6).all()
    assert (found.reach > 0).all()
    loud = task.waves.x / task.waves.x.abs().amax(1, keepdim=True)
    waves = ss.FeatureBatch(loud, task.waves.lengths)
    batch = pad(task.encoder.trace([w[:n, 0] for w, n in zip(loud, SIZES, strict=True)]))
    x_adv = batch.x + (task.result.x_adv - task.batch.x) * 20
    result = dataclasses.replace(task.result, x_adv=x_adv)
    near = dataclasses.replace(task, waves=waves, batch=batch, result=result).run(steps=30)
    assert float(near.waves.abs().max()) == 1.0
    ratio = snr(task.waves.x, task.run(snr=30, steps=30).waves, task.waves.lengths)
    assert (ratio >= 30 - 1e-4).all()


def test_an_utterance_alone_has_the_realisation_that_it_has_in_company(task: Task) -> None:
    settings = {"epsilon": 0.01, "steps": 20, "restarts": 2}
    together = task.run(**settings)
    for row in range(len(task.batch)):
        alone = task.run(slice(row, row + 1), **settings)
        assert torch.equal(alone.waves[0], together.waves[row, : SIZES[row]])
        for name in ("reach", "leak", "realised"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row])


def test_searches_start_at_the_wave_and_then_at_random_points() -> None:
    wave = torch.linspace(-0.5, 0.5, 20)

    def nearness(x: Tensor) -> Tensor:
        """Largest, with a gradient of 0, at the wave itself."""
        return -(x - wave).square().sum()

    def found(restarts: int, seed: int) -> Tensor:
        noise = UtteranceNoise(torch.tensor([seed]), torch.tensor([20]))
        return WaveSearch(steps=40, restarts=restarts, step_size=0.1)(nearness, wave, 0.1, noise)

    assert torch.equal(found(1, 0), wave)
    first, again, other = found(2, 0), found(2, 0), found(2, 1)
    torch.testing.assert_close((first - wave).abs(), torch.full((20,), 0.1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_to_reach_has_no_share(task: Task) -> None:
    x_adv = task.result.x_adv.clone()
    x_adv[1] = task.batch.x[1]
    found = dataclasses.replace(
        task, result=dataclasses.replace(task.result, x_adv=x_adv), labels=task.labels * 0 + 7
    ).run(steps=20)
    assert found.reach.isnan().tolist() == found.leak.isnan().tolist() == [False, True, False]
    assert torch.equal(found.waves[1], task.waves.x[1])
    assert found.realised.all()  # of no class: what the victim predicts is wrong everywhere


def test_leak_is_what_lies_outside_the_mask(task: Task) -> None:
    everything = torch.ones_like(task.batch.x, dtype=torch.bool)
    assert task.run(steps=20, mask=everything).leak.tolist() == [0, 0, 0]
    assert task.run(steps=20, mask=~everything).leak.tolist() == [1, 1, 1]


def test_a_victim_with_a_sum_of_layers(linear_frames: type[Any], task: Task) -> None:
    encoder, victim = linear_frames(), ss.wrap(Mean().eval())
    victim.layer_weights = weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    encoder.layer = "all"
    # All layers are multiples of one, so that the sum is that of the plain encoder.
    encoder.matrix = torch.cat([task.encoder.matrix * w for w in (1, 2, -1, 1.5)], 1)
    total = float((weights * torch.tensor([1, 2, -1, 1.5])).sum())
    encoder.matrix /= total
    found = dataclasses.replace(task, encoder=encoder, victim=victim).run(steps=40)
    torch.testing.assert_close(found.reach, task.run(steps=40).reach, atol=1e-3, rtol=0.0)


def test_the_random_counterpart_has_the_sizes_of_the_attack(task: Task) -> None:
    given = (task.victim, task.batch, task.labels, task.result)
    random = ss.random_counterpart(*given)
    sizes, expected = ((x.x_adv - task.batch.x).abs() for x in (random, task.result))
    torch.testing.assert_close(sizes, expected, atol=1e-6, rtol=0.0)
    assert not torch.equal(random.x_adv, task.result.x_adv)
    assert torch.equal(random.success, random.prediction != task.labels)
    assert torch.equal(random.x_adv, ss.random_counterpart(*given).x_adv)
    found = dataclasses.replace(task, result=random).run(steps=5)
    assert (found.reach > 0).all()
    with pytest.raises((ShapeError, TypeCheckError), match="seeds"):
        ss.random_counterpart(*given, seeds=torch.arange(2))


@pytest.mark.parametrize(
    ("changed", "settings", "message"),
    [
        ({}, {"steps": 0}, "steps must be at least 1"),
        ({}, {"restarts": 0}, "restarts must be at least 1"),
        ({}, {"step_size": 0.0}, "step_size must be above 0"),
        ({}, {"epsilon": 0.1, "snr": 30.0}, "at most one of epsilon= and snr="),
        ({}, {"epsilon": 0.0}, "epsilon of realise must be above 0"),
        ({}, {"epsilon": torch.ones(2)}, "one for each of the 3 utterances|epsilon"),
        ({}, {"seeds": torch.arange(2)}, "2 seeds were given for 3|seeds"),
        ({}, {"mask": torch.ones(3, 2, 6, dtype=torch.bool)}, "the mask has the shape"),
        ({"waves": "features"}, {}, r"needs waves \(B, S, 1\)"),
        ({"waves": "fewer"}, {}, "the same utterances"),
        ({"waves": "swapped"}, {}, "in the order of the batch"),
        ({"waves": "shifted"}, {}, "are not those that this encoder gives"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    task: Task, changed: dict[str, str], settings: dict[str, Any], message: str
) -> None:
    waves = {
        "features": task.batch,
        "fewer": task.waves.select(torch.tensor([0, 1])),
        "swapped": task.waves.select(torch.tensor([1, 0, 2])),
        "shifted": ss.FeatureBatch(-task.waves.x, task.waves.lengths),
        None: task.waves,
    }[changed.get("waves")]
    given = (task.encoder, task.victim, waves, task.batch, task.labels, task.result)
    with pytest.raises((ShapeError, VictimError, TypeCheckError), match=message):
        ss.realise(*given, **settings)


@pytest.mark.slow
def test_features_that_a_wave_has_are_reached_further_than_others() -> None:
    corpus, encoder = ss.load_corpus("demo"), ss.load_encoder("demo")
    waves = ss.waveforms(corpus, [corpus.utterances[3].id])
    wave = waves.x[0, 4_000:8_000, 0]
    waves = pad([wave[:, None]])
    (clean,) = encoder.trace([wave])
    noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(0))
    (other,) = encoder.trace([wave + 0.001 * noise.sign()])
    batch, zero = pad([clean]), torch.tensor([0])
    victim = ss.wrap(Mean(encoder.dim).eval())
    result = dataclasses.replace(
        ss.attack("random", victim, batch, zero, ss.Budget(count=1), draws=1), x_adv=other[None]
    )
    random = ss.random_counterpart(victim, batch, zero, result)
    near, far = (
        ss.realise(encoder, victim, waves, batch, zero, one, epsilon=0.001, steps=10).reach
        for one in (result, random)
    )
    assert float(near) > 0.4
    assert float(near) > float(far) + 0.2
