"""Alarms: features against other implementations, controls that cannot detect, and evasion."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import entr
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.core.errors import AttackError, ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.evaluate.alarm import (
    FEATURES,
    Alarm,
    AlarmEvasion,
    MapFeatures,
    alarm_table,
    assess_alarms,
    detection,
    fit_alarm,
    map_features,
)
from sigma_ser.evaluate.alarm.table import score_schema
from sigma_ser.evaluate.quality.shape import gini
from sigma_ser.victims.victim import WrappedVictim

LENGTHS = torch.tensor([9, 4, 7])
BUDGET = ss.Budget(sparsity=0.3, epsilon=1.5)


def some_maps(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Magnitudes with padding, logits, and mean maps of three classes."""
    rng = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 9, 6, generator=rng, dtype=dtype)
    maps = maps.masked_fill(~valid_frames(LENGTHS, 9)[:, :, None], 0.0)
    return (
        maps,
        torch.randn(3, 3, generator=rng, dtype=dtype),
        torch.rand(3, 10, 6, generator=rng, dtype=dtype),
    )


def test_features_are_those_of_other_implementations() -> None:
    maps, logits, means = some_maps()
    found = dict(zip(FEATURES, map_features(maps, LENGTHS, logits, means, 0.1).T, strict=True))
    for row, length in enumerate(LENGTHS.tolist()):
        one = maps[row, :length].double().numpy()
        largest = np.sort(one.ravel())[::-1][: round(0.1 * one.size)]
        assert float(found["top_mass"][row]) == pytest.approx(largest.sum() / one.sum(), rel=1e-5)
        entropy = entr(one.sum(1) / one.sum()).sum() / np.log(length)
        assert float(found["time_entropy"][row]) == pytest.approx(entropy, rel=1e-5)
    torch.testing.assert_close(found["gini"].double(), gini(maps, LENGTHS), atol=1e-5, rtol=1e-5)
    ordered = logits.sort(descending=True).values
    torch.testing.assert_close(found["margin"], ordered[:, 0] - ordered[:, 1])
    assert ((found["class_distance"] > 0) & (found["class_distance"] < 1)).all()


def test_features_depend_on_neither_padding_nor_the_scale_of_the_map() -> None:
    maps, logits, means = some_maps()
    found = map_features(maps, LENGTHS, logits, means, 0.1)
    wider = torch.cat([8 * maps, torch.zeros(3, 5, 6)], dim=1)
    torch.testing.assert_close(map_features(wider, LENGTHS, logits, means, 0.1), found)
    alone = map_features(maps[1:2, :4], LENGTHS[1:2], logits[1:2], means, 0.1)
    torch.testing.assert_close(alone, found[1:2])


def test_features_are_differentiable() -> None:
    maps, logits, means = some_maps(torch.float64)
    # Padding is excluded: magnitudes below 0 are not possible.
    maps, lengths = maps[:, :4], torch.full((3,), 4)
    assert torch.autograd.gradcheck(
        lambda a, z: map_features(a, lengths, z, means, 0.1),
        (maps.requires_grad_(), logits.requires_grad_()),
    )
    with_padding, logits, means = some_maps()
    map_features(with_padding.requires_grad_(), LENGTHS, logits, means, 0.1).sum().backward()
    assert with_padding.grad is not None
    assert torch.isfinite(with_padding.grad).all()


def test_a_map_of_zeros_has_features() -> None:
    _, logits, means = some_maps()
    found = map_features(torch.zeros(3, 9, 6), LENGTHS, logits, means, 0.1)
    assert found[:, :3].abs().max() == 0
    assert found[:, 3].tolist() == [1, 1, 1]


def test_auroc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    clean, attacked = rng.normal(size=40).round(1), rng.normal(0.5, size=40).round(1)
    counts = rng.random(40) < 0.7
    found = detection(clean, attacked, counts)
    kind = np.repeat([0, 1], [40, counts.sum()])
    expected = roc_auc_score(kind, np.concatenate([clean, attacked[counts]]))
    assert found.auroc == pytest.approx(expected)
    assert found.auroc_low < found.auroc < found.auroc_high
    assert found.utterances == counts.sum()
    assert found.false_alarms <= 0.05
    assert found.rate == (attacked[counts] > found.threshold).mean()


def test_clean_inputs_are_not_detected_among_clean_ones() -> None:
    scores = np.random.default_rng(0).normal(size=60)
    same = detection(scores, scores)
    assert same.auroc == pytest.approx(0.5)
    assert same.rate == same.false_alarms == pytest.approx(0.05)
    others = detection(scores, np.random.default_rng(1).normal(size=60))
    assert others.auroc_low < 0.5 < others.auroc_high


def test_scores_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="same utterances"):
        detection(np.zeros(3), np.zeros(2))
    with pytest.raises(ShapeError, match="nothing to detect"):
        detection(np.zeros(3), np.zeros(3), np.zeros(3, dtype=bool))


def speech(count: int = 24) -> FeatureBatch:
    rng = torch.Generator().manual_seed(7)
    lengths = torch.tensor([9, 4, 7] * (count // 3))
    x = torch.randn(count, 9, 6, generator=rng)
    return FeatureBatch(x.masked_fill(~valid_frames(lengths, 9)[:, :, None], 0.0), lengths)


class Opposite(nn.Module):
    """Two classes with opposite weights: the magnitudes of its gradient never change."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        score = (x.sum(1) / lengths[:, None]) @ self.weight
        return torch.stack([score, -score], dim=1)


class Rectified(nn.Module):
    """A convolution with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.mix, self.out = nn.Conv1d(6, 16, 3, padding=1), nn.Linear(16, 3)
        with torch.no_grad():  # every class occurs
            self.out.bias -= self(speech().x, speech().lengths).mean(0)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_frames(lengths, x.shape[1])[:, None, :]
        hidden = torch.relu(self.mix(x.transpose(1, 2) * valid)) * valid
        logits: Tensor = self.out(hidden.sum(2) / lengths[:, None])
        return logits


def prepared(module: nn.Module, explainer: str) -> tuple[WrappedVictim, FeatureBatch, MapFeatures]:
    """A victim, utterances, and the features of its maps; all utterances are recognised."""
    victim, batch = ss.wrap(module.eval()), speech()
    labels = victim(batch.x, batch.lengths).argmax(1)
    return victim, batch, MapFeatures.of(explainer, victim, batch, labels, top=0.1)


def test_a_constant_map_detects_nothing() -> None:
    victim, batch, source = prepared(Opposite(), "gradient")
    labels = victim(batch.x, batch.lengths).argmax(1)
    result = ss.attack("oneshot", victim, batch, labels, BUDGET)
    assert result.success.any()
    clean, attacked = source(batch), source(result.features(batch))
    alarm = fit_alarm(source, clean, attacked, used=FEATURES[:4])
    found = detection(
        alarm.of_features(clean).round(decimals=4).numpy(),
        alarm.of_features(attacked).round(decimals=4).numpy(),
        result.success.numpy(),
    )
    assert found.auroc_low <= 0.5 <= found.auroc_high


@pytest.fixture(scope="module")
def alarm() -> Alarm:
    """Fitted on one attack, on the victim with ReLU."""
    victim, batch, source = prepared(Rectified(), "input-x-gradient")
    labels = victim(batch.x, batch.lengths).argmax(1)
    plain = ss.attack("dual-averaging", victim, batch, labels, BUDGET)
    clean, attacked = source(batch), source(plain.features(batch))
    return fit_alarm(source, clean, attacked[plain.success])


def test_an_attack_that_knows_the_alarm_evades_it(alarm: Alarm) -> None:
    victim, batch = alarm.features.victim, speech()
    labels = victim(batch.x, batch.lengths).argmax(1)
    plain = ss.attack("dual-averaging", victim, batch, labels, BUDGET)
    evading = AlarmEvasion(alarm=alarm, steps=10)(victim, batch, labels, BUDGET)
    assert evading.success.sum() >= plain.success.sum() - 1
    clean = alarm(batch).numpy()
    both = (plain.success & evading.success).numpy()
    before = detection(clean, alarm(plain.features(batch)).numpy(), both)
    after = detection(clean, alarm(evading.features(batch)).numpy(), both)
    assert before.auroc > 0.6
    assert after.auroc < before.auroc - 0.1


def test_the_map_of_the_evasion_is_that_of_the_alarm(alarm: Alarm) -> None:
    """The score that the attack minimises is the score of the alarm, for whole batches."""
    victim, batch = alarm.features.victim, speech()
    labels = victim(batch.x, batch.lengths).argmax(1)
    scores: list[Tensor] = []
    watched = dataclasses.replace(alarm)
    object.__setattr__(watched, "of_map", lambda *a: scores.append(alarm.of_map(*a)) or scores[-1])
    evasion = AlarmEvasion(alarm=watched, steps=1, weight=0.0)
    evasion(victim, batch, labels, BUDGET)
    torch.testing.assert_close(scores[0].detach(), alarm(batch), atol=1e-4, rtol=1e-4)


def test_an_assessment_has_controls_masks_and_the_attack_that_knows_the_alarm() -> None:
    victim, batch, source = prepared(Rectified(), "input-x-gradient")
    labels = victim(batch.x, batch.lengths).argmax(1)
    first, second = ((batch.select(rows), labels[rows]) for rows in torch.arange(24).split(12))
    mask = second[0].valid[:, :, None].expand(second[0].x.shape)
    attacks = {name: ss.make_attack(name) for name in ("dual-averaging", "random")}

    def assessed(budget: ss.Budget) -> pl.DataFrame:
        return assess_alarms(
            source, first, second, budget, fitted_on=attacks["dual-averaging"], attacks=attacks,
            masks={"all": mask}, evasion={"steps": 3},
        )  # fmt: skip

    table = assessed(BUDGET)
    # Three alarms, on clean utterances and on three attacks without and with a mask.
    assert len(table) == 3 * (1 + 3 * 2)
    random = table.filter(attack="random")
    assert random["utterances"].to_list() == [12] * 6
    attacked = table.filter(attack="dual-averaging")
    assert attacked["asr"].n_unique() == 1
    assert attacked["utterances"][0] == round(12 * attacked["asr"][0])
    # A mask of all elements is none, and an alarm without the margin differs from one with it.
    for alarm in ("map", "margin", "all"):
        assert attacked.filter(alarm=alarm)["auroc"].n_unique() == 1
    assert table["auroc"].is_between(0, 1).all()
    with pytest.raises(ExplainerError, match="at least 5"):
        assessed(ss.Budget(sparsity=0.02, epsilon=0.01))


def test_settings_are_checked(alarm: Alarm) -> None:
    for wrong in ({"steps": 0}, {"weight": -1.0}, {"beta": 0.0}):
        with pytest.raises(AttackError, match=next(iter(wrong))):
            AlarmEvasion(alarm=alarm, **wrong)
    with pytest.raises(ExplainerError, match="nothing"):
        fit_alarm(alarm.features, torch.zeros(1, 5), torch.zeros(1, 5), used=["nothing"])
    with pytest.raises(ExplainerError, match="one of both is empty"):
        fit_alarm(alarm.features, torch.zeros(0, 5), torch.zeros(1, 5))
    victim, batch = alarm.features.victim, speech()
    with pytest.raises(ExplainerError, match="every class"):
        MapFeatures.of("gradient", victim, batch, torch.zeros(24, dtype=torch.long))


def test_mean_maps_of_batches_are_those_of_all_utterances() -> None:
    victim, batch = ss.wrap(Opposite().eval()), speech().select(torch.arange(6))
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    rows = torch.arange(2), torch.arange(2, 6)
    parts = [(batch.select(some), labels[some]) for some in rows]
    whole = MapFeatures.of("input-x-gradient", victim, batch, labels)
    split = MapFeatures.of_batches("input-x-gradient", victim, parts)
    torch.testing.assert_close(split.class_maps, whole.class_maps)
    with pytest.raises(ExplainerError, match="does not occur"):
        MapFeatures.of_batches("gradient", victim, parts[:0])


def test_the_table_of_a_run_counts_successes_and_all_of_a_control() -> None:
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 30))
    success = rng.random(30) < 0.5
    lines = [
        {
            **dict.fromkeys(score_schema().names), "attack": attack, "alarm": "map", "fold": "f",
            "utterance": str(row), "correct_before": row > 0, "success": bool(success[row]),
            "score_before": before[row], "score_after": after[row],
        }
        for attack in ("pgd", "random", "none at all")
        for row in range(30)
    ]  # fmt: skip
    scores = pl.DataFrame(lines, infer_schema_length=None).with_columns(
        success=pl.col("success") & (pl.col("attack") != "none at all")
    )
    none, pgd, random, nothing = alarm_table(scores).to_dicts()
    chosen = success[1:]
    kind = np.repeat([0, 1], [29, chosen.sum()])
    expected = roc_auc_score(kind, np.concatenate([before[1:], after[1:][chosen]]))
    assert pgd["auroc"] == pytest.approx(expected)
    assert (pgd["utterances"], pgd["clean"]) == (chosen.sum(), 29)
    assert (random["utterances"], random["asr"]) == (29, pytest.approx(chosen.mean()))
    assert (none["attack"], none["clean"], none["asr"]) == ("none", 14, None)
    assert (nothing["utterances"], nothing["auroc"]) == (0, None)
