"""The size of what a run would add to its folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from functools import cache

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.utterance import Utterance
from sigma_ser.runs.layout import RunLayout

from .inputs import StudyInput
from .steps import Plan, RowStep, Sample, VictimStep

# Size of a row in Parquet, measured over the demo study.
_ROW_BYTES = 260
# Size of a changed element of a stored perturbation: its position and its new value.
_CHANGE_BYTES = 8


def missing_bytes(plan: Plan, layout: RunLayout, inputs: Sequence[StudyInput]) -> int:
    """Size of the features, maps, perturbations and rows that are missing."""
    total = 0.0
    for one in inputs:
        if not one.folder.exists():
            total += one.frames(one.corpus) * one.dim * 2
    by_key = {one.features: one for one in inputs}

    def elements(victim: VictimStep, utterances: Iterable[Utterance]) -> int:
        if victim.on_features is not None:
            return round(sum(each.seconds for each in utterances) * SAMPLE_RATE)
        one = by_key[victim.setting.features]
        return one.frames(utterances) * channels_of(one, victim.setting.layer)

    # Many steps work on the same utterances, which are counted once.
    @cache
    def attacked(victim: VictimStep, sample: Sample) -> int:
        return elements(victim, itertools.chain.from_iterable(plan.samples[sample]))

    for universal in plan.universals:
        if not layout.universal(universal.key).exists():
            total += elements(universal.victim, universal.utterances) * 2
    for saliency in plan.saliencies:
        if not layout.saliency(saliency.key, 0).exists():
            total += attacked(saliency.victim, saliency.sample) * 2
    row_steps: list[RowStep] = [*plan.attacks, *plan.corruptions]
    for row_step in row_steps:
        if not layout.attack(row_step.key, 0).exists():
            total += plan.utterances(row_step) * _ROW_BYTES
    for cell in plan.attacks:
        if cell.keep_perturbations and not layout.attack(cell.key, 0).exists():
            changed = attacked(cell.victim, cell.victim.sample) * cell.budget.sparsity
            total += changed * _CHANGE_BYTES
    return round(total)


def channels_of(one: StudyInput, layer: str) -> int:
    """Channels that a victim receives: of all layers, one weighted sum."""
    layers = int(one.card["layers"]) + 1 if layer == "all" else 1
    return one.dim // layers
