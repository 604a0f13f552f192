"""Attack one batch and measure everything about it: a list for each column of the rows."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.verification import majority, verified
from sigma_ser.audio.corruptions.base import Corruption
from sigma_ser.core import registry
from sigma_ser.core.contracts import Attack, AttackResult, Victim
from sigma_ser.core.rows import CONSISTENCY_METRICS, schema
from sigma_ser.core.seeds import utterance_seeds
from sigma_ser.evaluate.consistency.measures import consistency
from sigma_ser.evaluate.outcome import change, outcome
from sigma_ser.runs.files import read_tensors
from sigma_ser.victims.one_by_one import OneByOne

from .audio_columns import Columns, audio_columns
from .batches import StepBatch, StoredExplainer
from .steps import AttackStep, CorruptionStep, RowStep
from .transfer import Perturbations


def attack_of(step: AttackStep) -> Attack:
    """The attack of a cell, with its settings."""
    return make_attack(step.attack, **step.settings)


def run_attack(
    here: StepBatch, step: AttackStep, attack: Attack, mask: Bool[Tensor, "B T D"] | None
) -> AttackResult:
    """The verified attack of a cell on one batch, with the seeds of its utterances."""
    seeds = utterance_seeds(here.batch.ids, step.seed, "attack", step.attack)
    victim, budget = attacked_victim(here, step), step.budget.of(here.batch)
    result = verified(attack, victim, here.batch, here.labels, budget, mask=mask, seeds=seeds)
    if not _has_sign(here, step, "random"):
        return result
    prediction = majority(victim, result.features(here.batch), here.labels)
    return dataclasses.replace(result, success=prediction != here.labels, prediction=prediction)


def attacked_victim(here: StepBatch, step: AttackStep) -> Victim:
    """The victim of a cell; one whose logits depend on the batch receives utterances alone."""
    return OneByOne(here.victim) if _has_sign(here, step, "batch-dependent") else here.victim


def _has_sign(here: StepBatch, step: AttackStep, sign: str) -> bool:
    check = here.artifacts.gradient_check(step.check)
    return check is not None and sign in check.warnings


def measure(
    here: StepBatch, step: AttackStep, attack: Attack, kept: Perturbations | None = None
) -> Columns:
    """All columns of `core.rows` for one batch of a cell; `kept` collects the perturbations."""
    mask = here.mask(step)
    started = time.perf_counter()
    result = run_attack(here, step, attack, mask)
    seconds = time.perf_counter() - started
    if kept is not None:
        kept.add(here.batch, result.x_adv)
    random = _has_sign(here, step, "random")
    columns: Columns = {
        **condition(here, step, repr(attack)),
        **outcome(
            attacked_victim(here, step),
            here.batch,
            here.labels,
            step.budget.of(here.batch),
            result,
            seconds=seconds,
            class_names=here.class_names,
        ),
        **_mask_costs(here, step),
        **_consistency(here, step, result, mask),
    }
    if step.victim.on_features is not None:
        columns |= audio_columns(here, result.x_adv, random=random)
    if random:
        # A single pass would decide by chance which utterances are recognised.
        before = majority(here.victim, here.batch, here.labels)
        columns["correct_before"] = (before == here.labels).tolist()
        columns["prediction_before"] = [here.class_names[one] for one in before.tolist()]
    return {name: columns.get(name, [None] * len(here.batch)) for name in schema().names}


def condition(here: StepBatch, step: RowStep, settings: str) -> Columns:
    """Victim, attack, mask and budget, and the utterance they were applied to."""
    utterances = here.utterances
    same: dict[str, Any] = {
        **step.victim.setting.columns,
        "fold": step.victim.fold.name,
        "victim": step.victim.name,
        "victim_seed": step.victim.seed,
        "attack_settings": settings,
        **step.condition,
    }
    return {
        **{name: [value] * len(utterances) for name, value in same.items()},
        "utterance": [utterance.id for utterance in utterances],
        "speaker": [utterance.speaker for utterance in utterances],
        "text_id": [utterance.text_id for utterance in utterances],
        "label": [utterance.label for utterance in utterances],
        "duration": [utterance.seconds for utterance in utterances],
    }


def _mask_costs(here: StepBatch, step: AttackStep) -> Columns:
    """Passes and seconds of the explanations behind the mask, per utterance."""
    count = len(here.batch)
    forwards, backwards = torch.zeros(2, count, dtype=torch.long)
    seconds: list[float | None] = [0.0] * count
    # A universal map was estimated once, from other utterances, so these bear no cost.
    for one in step.mask.maps if step.mask is not None else ():
        there = here.for_victim(one.victim)
        explanation = there.bank(one).explain(there.batch, there.labels)
        forwards += explanation.forwards
        backwards += explanation.backwards
        known = here.artifacts.mask_seconds(one)
        times = [known[name] for name in here.batch.ids]
        seconds = [
            None if total is None or more is None else total + more
            for total, more in zip(seconds, times, strict=True)
        ]
    return {
        "mask_forwards": forwards.tolist(),
        "mask_backwards": backwards.tolist(),
        "mask_seconds": seconds,
    }


def _consistency(
    here: StepBatch, step: AttackStep, result: AttackResult, mask: Bool[Tensor, "B T D"] | None
) -> Columns:
    """Consistency of the explanation before and after the attack, with its floor."""
    if step.reference is None or step.floor is None:
        return {}
    task, bank = here.task, here.bank(step.reference)
    scores = consistency(
        StoredExplainer(bank),
        here.victim,
        here.batch,
        result.x_adv,
        here.labels,
        step.budget.of(here.batch),
        mask=mask,
        frame_seconds=step.victim.setting.frame_seconds,
        clean=bank.explain(here.batch, here.labels).saliency,
        seeds=bank.seeds(here.batch),
    )
    path = task.layout.floor(step.floor.key, task.part)
    here.artifacts.digests.check(path)
    floors = read_tensors(path)
    scores |= {name: values[here.rows] for name, values in floors.items()}
    kept = ["mask_mass"] + [
        f"{metric}{suffix}" for metric in CONSISTENCY_METRICS for suffix in ("", "_own", "_floor")
    ]
    return {
        "consistency_explainer": [step.reference.explainer] * len(here.batch),
        **{name: scores[name].tolist() for name in kept if name in scores},
    }


def corrupted(here: StepBatch, step: CorruptionStep) -> Columns:
    """All columns of `core.rows` for one batch of a natural corruption."""
    corruption: Corruption = registry.make("corruption", step.corruption, step.settings)
    seeds = utterance_seeds(here.batch.ids, step.seed, "corruption", step.corruption)
    changed = corruption(here.batch, seeds=seeds)
    columns: Columns = {
        **condition(here, step, repr(corruption)),
        **change(here.victim, here.batch, here.labels, changed, here.class_names),
        **audio_columns(here, changed),
    }
    return {name: columns.get(name, [None] * len(here.batch)) for name in schema().names}
