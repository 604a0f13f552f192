"""A few attacked utterances in full, for the page: which ones, and everything about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int16
from torch import Tensor

from sigma_ser.audio.quality import pesq, snr, stoi
from sigma_ser.audio.reading import read_utterance
from sigma_ser.audio.writing import quantised
from sigma_ser.core.errors import AudioError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel
from sigma_ser.core.rows import schema
from sigma_ser.report.exemplar import FEATURES, WAVEFORM, Exemplar
from sigma_ser.report.sounds import wave_of
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import read_part
from sigma_ser.runs.layout import RunLayout, exemplar_key

from .artifacts import Artifacts
from .batches import StepBatch, StoredExplainer, step_batches
from .cell import attack_of, run_attack
from .steps import AttackStep, ExemplarStep, Plan
from .tasks import PartTask

_CONDITION = ("attack", "explainer", "mask_source", "scope", "sparsity", "epsilon")


def exemplar_tasks(
    plan: Plan, layout: RunLayout, digests: Digests, flipped: Mapping[str, int]
) -> list[PartTask]:
    """The utterances that the page shows, known once the attacks are done.

    The cell is the strongest one inside the mask of an explanation, or the strongest of all where
    the study has none. Misclassified utterances come first, of different emotions.

    Args:
        plan: of the study, whose attacks are done.
        layout: of its run folder.
        digests: of the same folder.
        flipped: number of misclassified utterances of each cell, by its key; cells without rows
            are left out.
    """
    import polars as pl
    import pyarrow as pa

    evaluation = plan.study.evaluation
    done = [
        step for step in plan.attacks
        if step.key in flipped and step.victim.on_features is None
    ]  # fmt: skip
    if not evaluation.exemplars or plan.study.corpus is None or not done:
        return []
    guided = [step for step in done if step.guided]
    best = max(guided or done, key=lambda step: flipped[step.key])
    files = (layout.attack(best.key, number) for number, _ in plan.parts(best))
    tables = []
    for path in (one for one in files if one.exists()):
        digests.check(path)
        tables.append(read_part(path, schema()))
    rows = pl.DataFrame(pa.concat_tables(tables)).filter("correct_before")
    ordered = rows.sort("success", "utterance", descending=[True, False])
    # One of each emotion before a second of any.
    ordered = ordered.with_columns(turn=pl.int_range(pl.len()).over("label")).sort(
        "turn", maintain_order=True
    )
    wanted = ordered["utterance"].head(evaluation.exemplars).to_list()
    return [_task(plan, layout, best, name) for name in wanted]


def _task(plan: Plan, layout: RunLayout, source: AttackStep, utterance: str) -> PartTask:
    size = plan.study.evaluation.batch_size
    number, part, row = next(
        (number, part, row)
        for number, part in plan.parts(source)
        for row, one in enumerate(part)
        if one.id == utterance
    )
    # The whole batch, so that the attack repeats what it did in its cell.
    start = row - row % size
    step = ExemplarStep(exemplar_key(source.key, utterance), source, utterance)
    batch = part[start : start + size]
    return PartTask(layout, step, number, batch, size, plan.study.evaluation.seed)


def exemplar(task: PartTask, step: ExemplarStep, artifacts: Artifacts) -> Exemplar:
    """Attack the batch of an utterance again, as in its cell, and show the utterance in full."""
    (here,) = step_batches(task, artifacts)
    source, victim, batch = step.source, here.victim, here.batch
    row = batch.ids.index(step.utterance)
    length = int(batch.lengths[row])
    utterance = here.utterances[row]
    mask = here.mask(source)
    x_adv = run_attack(here, source, attack_of(source), mask).x_adv[row : row + 1, :length]
    before = FeatureBatch(
        batch.x[row : row + 1, :length], batch.lengths[row : row + 1], [step.utterance]
    )
    delta = (x_adv - before.x) / per_channel(victim.scale, before.x)
    allowed = mask[row : row + 1, :length] if mask is not None else delta != 0
    surface, changed = source.condition.get("surface", FEATURES), _Changed(x_adv)
    if surface == WAVEFORM:
        changed = _recorded(before, x_adv)
    after = FeatureBatch(changed.x, before.lengths, before.ids)
    maps = _maps(here, source, row, (before, after))
    with torch.inference_mode():
        scores = [victim(one.x, one.lengths).softmax(1)[0].numpy() for one in (before, after)]
    return Exemplar(
        utterance=utterance.id,
        speaker=utterance.speaker,
        text=utterance.text_id,
        label=utterance.label,
        class_names=here.class_names,
        victim=source.victim.name,
        **{name: source.condition[name] for name in _CONDITION},
        probabilities_before=scores[0],
        probabilities_after=scores[1],
        waveform=read_utterance(utterance),
        frame_seconds=source.victim.setting.frame_seconds,
        saliency_before=maps[0][0].numpy(),
        saliency_after=maps[1][0].numpy(),
        mask=allowed[0].numpy(),
        delta=delta[0].numpy(),
        surface=surface,
        budget_snr=source.condition.get("budget_snr"),
        perturbed=changed.samples,
        **changed.quality,
    )


@dataclass(frozen=True, eq=False)
class _Changed:
    """What the victim receives after the attack, and on the waveform the recording."""

    x: Float[Tensor, "1 T D"]
    samples: Int16[np.ndarray, "N"] | None = None
    quality: Mapping[str, float | None] = field(default_factory=dict)


def _recorded(before: FeatureBatch, x_adv: Float[Tensor, "1 S 1"]) -> _Changed:
    """A perturbed wave as a recording of 16 bits, with its measured quality."""
    samples = quantised(x_adv[0, :, 0].numpy())
    x = torch.from_numpy(wave_of(samples)).to(before.x)[None, :, None]
    scores = {"snr": snr(before.x, x, before.lengths)}
    try:
        scores |= {
            name: measure(before.x, x, before.lengths).values
            for name, measure in (("pesq", pesq), ("stoi", stoi))
        }
    except AudioError as fault:
        # Without the packages of the extra, a study shows the rest.
        if fault.reason != "missing":
            raise
    return _Changed(
        x,
        samples,
        {name: one.item() if one.isfinite() else None for name, one in scores.items()},
    )


def _maps(
    here: StepBatch, source: AttackStep, row: int, batches: Sequence[FeatureBatch]
) -> list[Float[Tensor, "1 T D"]]:
    """Explanations of the true class by the explainer of the cell; zero where it has none."""
    mapped = source.reference
    if mapped is None and source.mask is not None and len(source.mask.maps) == 1:
        (mapped,) = source.mask.maps
    if mapped is None or mapped.victim != source.victim:
        return [torch.zeros_like(batch.x) for batch in batches]
    bank = here.bank(mapped)
    explain, labels = StoredExplainer(bank), here.labels[row : row + 1]
    return [
        explain(here.victim, batch, labels, seeds=bank.seeds(batch)).saliency for batch in batches
    ]
