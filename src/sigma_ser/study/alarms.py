"""Alarms of a study: which are fitted, on what, and their scores for every attacked utterance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.saliency_maps import DifferentiableMap
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.rows import CELL_COLUMNS, schema
from sigma_ser.core.seeds import utterance_seeds
from sigma_ser.evaluate.alarm.assessment import KINDS, fit_alarms
from sigma_ser.evaluate.alarm.detector import Alarm
from sigma_ser.evaluate.alarm.evasion import AlarmEvasion
from sigma_ser.evaluate.alarm.features import MapFeatures
from sigma_ser.evaluate.alarm.table import EVASION, score_schema
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.runs.files import read_part, read_tensors

from .artifacts import Artifacts
from .batches import StepBatch, step_batches
from .config import StudyConfig
from .sections import FEATURES
from .steps import AlarmScoreStep, AlarmStep, AttackStep, Part, Sample
from .tasks import PartTask
from .transfer import Perturbations

if TYPE_CHECKING:
    import pyarrow as pa


def attack_settings(study: StudyConfig, name: str) -> dict[str, Any]:
    """The settings of an attack that alarms are fitted on: those of its section, if it has one."""
    return next((one.settings for one in study.attacks if one.name == name), {})


def alarm_steps(
    study: StudyConfig,
    attacks: Iterable[AttackStep],
    parts: Mapping[Sample, tuple[Part, Part]],
    attacked: Mapping[Sample, str],
    key: Callable[..., str],
) -> tuple[tuple[AlarmStep, ...], tuple[AlarmScoreStep, ...]]:
    """The alarms of a study, and their scores for each cell on the features.

    Args:
        study: the configuration.
        attacks: all cells.
        parts: for each sample the utterances of the mean maps and of the fit.
        attacked: for each sample the key of the attacked utterances.
        key: makes the key of a step from its kind and parts.
    """
    section = study.alarm
    if section is None:
        return (), ()
    settings = dict(study.explainers.get(section.explainer, {}))
    name = str(settings.pop("name", section.explainer))
    fitted_on = tuple((one, attack_settings(study, one)) for one in section.fitted_on)
    alarms: dict[str, AlarmStep] = {}
    scores: list[AlarmScoreStep] = []
    for attack in attacks:
        victim, budget = attack.victim, attack.budget
        if victim.setting.surface != FEATURES:
            continue
        of_classes, fitting = parts[victim.sample]
        ids = [[one.id for one in part] for part in parts[victim.sample]]
        one = key(
            "alarm", victim.key, budget.parts, name, settings, fitted_on, study.evaluation.seed,
            study.evaluation.batch_size, ids,
        )  # fmt: skip
        if one not in alarms:
            alarms[one] = AlarmStep(
                one, victim, budget, section.explainer, name, settings, fitted_on, of_classes,
                fitting,
            )  # fmt: skip
            if section.adaptive:
                found = key("alarm-evasion", one, section.settings, attacked[victim.sample])
                scores.append(AlarmScoreStep(found, alarms[one], None, section.settings))
        found = key("alarm-scores", one, attack.key)
        scores.append(AlarmScoreStep(found, alarms[one], attack, {}))
    return tuple(alarms.values()), tuple(scores)


def fit_part(task: PartTask, step: AlarmStep, artifacts: Artifacts) -> dict[str, Tensor]:
    """Fit the alarms of a step: mean map of each class, weights and biases.

    Raises:
        ExplainerError: if too few attacks succeed, or a class does not occur.
    """
    explainer = make_explainer(step.name, **dict(step.settings))
    of_classes = dataclasses.replace(task, utterances=step.of_classes)
    found = MapFeatures.of_batches(
        explainer,
        artifacts.victim(step.victim),
        ((here.batch, here.labels) for here in step_batches(of_classes, artifacts)),
    )
    clean, attacked = [torch.zeros(0, 5)], [torch.zeros(0, 5)]
    for batch, labels in _recognised(step_batches(task, artifacts)):
        clean.append(found(batch).cpu())
        for name, settings in step.fitted_on:
            seeds = utterance_seeds(batch.ids, task.seed, "alarm", name)
            attack, budget = make_attack(name, **settings), step.budget.of(batch)
            result = attack(found.victim, batch, labels, budget, seeds=seeds)
            attacked.append(found(result.features(batch))[result.success].cpu())
    alarms = fit_alarms(found, torch.cat(clean), torch.cat(attacked))
    return {
        "class_maps": found.class_maps.cpu(),
        "weight": torch.stack([alarms[kind].weight for kind in KINDS]),
        "bias": torch.tensor([alarms[kind].bias for kind in KINDS], dtype=torch.float64),
    }


def score_part(task: PartTask, step: AlarmScoreStep, artifacts: Artifacts) -> pa.Table:
    """Scores of each alarm for one part of a cell, or for the attack that knows the alarm."""
    import pyarrow as pa

    alarms = _fitted(step.alarm, artifacts)
    lines = _evaded(task, step, artifacts, alarms) if step.source is None else _noticed(
        task, step, step.source, artifacts, alarms
    )  # fmt: skip
    about = {
        "alarm_explainer": step.alarm.explainer,
        "fitted_on": ", ".join(name for name, _ in step.alarm.fitted_on),
    }
    return pa.Table.from_pylist([about | line for line in lines], schema=score_schema())


def _noticed(
    task: PartTask,
    step: AlarmScoreStep,
    source: AttackStep,
    artifacts: Artifacts,
    alarms: Mapping[str, Alarm],
) -> Iterator[dict[str, Any]]:
    """Scores for the kept perturbations of a cell."""
    files = (
        task.layout.attack(source.key, task.part),
        task.layout.perturbations(source.key, task.part),
    )
    for path in files:
        artifacts.digests.check(path)
    columns = [*CELL_COLUMNS, "utterance", "correct_before", "success"]
    rows = read_part(files[0], schema()).select(columns).to_pylist()
    kept = Perturbations.load(files[1])
    for here in step_batches(task, artifacts):
        after = FeatureBatch(kept.applied(here.batch), here.batch.lengths, here.batch.ids)
        yield from _lines(alarms, rows[here.rows], here.batch, after)


def _evaded(
    task: PartTask, step: AlarmScoreStep, artifacts: Artifacts, alarms: Mapping[str, Alarm]
) -> Iterator[dict[str, Any]]:
    """Scores for an attack on each alarm, which it knows."""
    victim = step.victim
    given = dict(step.evasion)
    if step.alarm.name in get_args(DifferentiableMap):
        given = {"saliency": step.alarm.name} | given
    same = {
        **victim.setting.columns, "fold": victim.fold.name, "victim": victim.name,
        "victim_seed": victim.seed, "attack": EVASION, "attack_seed": task.seed,
        **step.alarm.budget.columns,
    }  # fmt: skip
    for here in step_batches(task, artifacts):
        with torch.no_grad():
            correct = here.victim(here.batch.x, here.batch.lengths).argmax(1) == here.labels
        seeds = utterance_seeds(here.batch.ids, task.seed, "alarm", EVASION)
        for kind, alarm in alarms.items():
            attack = AlarmEvasion(alarm=alarm, **given)
            settings = ", ".join(f"{name}={value!r}" for name, value in given.items())
            budget = step.alarm.budget.of(here.batch)
            result = attack(here.victim, here.batch, here.labels, budget, seeds=seeds)
            rows = [
                {
                    **same, "attack_settings": f"AlarmEvasion({settings})", "utterance": name,
                    "correct_before": right, "success": fooled,
                }
                for name, right, fooled in zip(
                    here.batch.ids, correct.tolist(), result.success.tolist(), strict=True
                )
            ]  # fmt: skip
            yield from _lines({kind: alarm}, rows, here.batch, result.features(here.batch))


def _lines(
    alarms: Mapping[str, Alarm],
    rows: list[dict[str, Any]],
    before: FeatureBatch,
    after: FeatureBatch,
) -> Iterator[dict[str, Any]]:
    """One line for each alarm and utterance."""
    features = next(iter(alarms.values())).features
    values = features(before), features(after)
    for kind, alarm in alarms.items():
        first, second = (alarm.of_features(one).tolist() for one in values)
        for row, clean, attacked in zip(rows, first, second, strict=True):
            yield {**row, "alarm": kind, "score_before": clean, "score_after": attacked}


def _fitted(step: AlarmStep, artifacts: Artifacts) -> dict[str, Alarm]:
    path = artifacts.layout.alarm(step.key)
    artifacts.digests.check(path)
    kept = read_tensors(path)
    explainer = make_explainer(step.name, **dict(step.settings))
    features = MapFeatures(explainer, artifacts.victim(step.victim), kept["class_maps"])
    return {
        kind: Alarm(features, kept["weight"][row], float(kept["bias"][row]))
        for row, kind in enumerate(KINDS)
    }


def _recognised(
    batches: Iterable[StepBatch],
) -> Iterator[tuple[FeatureBatch, Int[Tensor, "B"]]]:
    """The correctly classified utterances of each batch."""
    for here in batches:
        with torch.no_grad():
            right = here.victim(here.batch.x, here.batch.lengths).argmax(1) == here.labels
        rows = right.nonzero()[:, 0]
        if len(rows):
            yield here.batch.select(rows), here.labels[rows]
