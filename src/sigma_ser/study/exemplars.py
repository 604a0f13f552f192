"""A few attacked utterances in full, for the page: which ones, and everything about each."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sigma_ser.audio.reading import read_utterance
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel
from sigma_ser.core.rows import schema
from sigma_ser.report.exemplar import Exemplar
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import read_part
from sigma_ser.runs.layout import RunLayout, exemplar_key

from .artifacts import Artifacts
from .batches import StoredExplainer, step_batches
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
    x_adv = run_attack(here, source, attack_of(source), mask).x_adv
    delta = (x_adv - batch.x) / per_channel(victim.scale, batch.x)
    maps = [torch.zeros_like(batch.x)] * 2
    mapped = source.reference
    if mapped is None and source.mask is not None and len(source.mask.maps) == 1:
        (mapped,) = source.mask.maps
    if mapped is not None and mapped.victim == source.victim:
        bank = here.bank(mapped)
        maps = [
            StoredExplainer(bank)(
                victim,
                FeatureBatch(x, batch.lengths, batch.ids),
                here.labels,
                seeds=bank.seeds(batch),
            ).saliency
            for x in (batch.x, x_adv)
        ]
    with torch.inference_mode():
        before, after = (victim(x, batch.lengths).softmax(1)[row] for x in (batch.x, x_adv))
    allowed = mask if mask is not None else delta != 0
    condition = source.condition
    return Exemplar(
        utterance=utterance.id,
        speaker=utterance.speaker,
        text=utterance.text_id,
        label=utterance.label,
        class_names=here.class_names,
        victim=source.victim.name,
        **{name: condition[name] for name in _CONDITION},
        probabilities_before=before.numpy(),
        probabilities_after=after.numpy(),
        waveform=read_utterance(utterance),
        frame_seconds=source.victim.setting.frame_seconds,
        saliency_before=maps[0][row, :length].numpy(),
        saliency_after=maps[1][row, :length].numpy(),
        mask=allowed[row, :length].numpy(),
        delta=delta[row, :length].numpy(),
    )
