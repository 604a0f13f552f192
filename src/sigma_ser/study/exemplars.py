"""A few attacked utterances in full, for the page: which ones, and everything about each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16
from torch import Tensor

from sigma_ser.audio.quality import pesq, snr, stoi
from sigma_ser.audio.reading import read_utterance
from sigma_ser.audio.writing import quantised
from sigma_ser.core.errors import AudioError
from sigma_ser.core.features import FeatureBatch, pad
from sigma_ser.core.passes import per_channel
from sigma_ser.core.rows import schema
from sigma_ser.evaluate.rates import headline
from sigma_ser.evaluate.round_trip import features_of, from_files
from sigma_ser.report.exemplar import Exemplar
from sigma_ser.report.sounds import wave_of
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import read_part
from sigma_ser.runs.layout import RunLayout, exemplar_key

from .artifacts import Artifacts
from .batches import StepBatch, StoredExplainer, step_batches
from .cell import attack_of, run_attack
from .sections import FEATURES, WAVEFORM
from .steps import AttackStep, ExemplarStep, Plan
from .tasks import PartTask
from .transfer import Perturbations

_CONDITION = (
    "surface", "attack", "explainer", "mask_source", "scope", "sparsity", "epsilon", "budget_snr",
)  # fmt: skip


def exemplar_tasks(
    plan: Plan, layout: RunLayout, digests: Digests, flipped: Mapping[str, int]
) -> list[PartTask]:
    """The utterances that the page shows, known once the attacks are done.

    On each surface the cell is the strongest one inside the mask of an explanation, or the
    strongest of all where the study has none. Misclassified utterances come first, of different
    emotions.

    Args:
        plan: of the study, whose attacks are done.
        layout: of its run folder.
        digests: of the same folder.
        flipped: number of misclassified utterances of each cell, by its key; cells without rows
            are left out.
    """
    if not plan.study.evaluation.exemplars or plan.study.corpus is None:
        return []
    done = [step for step in plan.attacks if step.key in flipped]
    tasks = []
    for surface in (FEATURES, WAVEFORM):
        here = [step for step in done if step.victim.setting.surface == surface]
        if here:
            guided = [step for step in here if step.guided]
            best = max(guided or here, key=lambda step: flipped[step.key])
            tasks += _tasks(plan, layout, digests, best)
    return tasks


def _tasks(plan: Plan, layout: RunLayout, digests: Digests, best: AttackStep) -> list[PartTask]:
    """The shown utterances of one cell."""
    import polars as pl
    import pyarrow as pa

    files = (layout.attack(best.key, number) for number, _ in plan.parts(best))
    tables = []
    for path in (one for one in files if one.exists()):
        digests.check(path)
        tables.append(read_part(path, schema()))
    rows = headline(pl.DataFrame(pa.concat_tables(tables))).filter("correct_before")
    ordered = rows.sort("success", "utterance", descending=[True, False])
    # One of each emotion before a second of any.
    ordered = ordered.with_columns(turn=pl.int_range(pl.len()).over("label")).sort(
        "turn", maintain_order=True
    )
    wanted = ordered["utterance"].head(plan.study.evaluation.exemplars).to_list()
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
    """Show an utterance in full, as it was attacked in its cell."""
    (here,) = step_batches(task, artifacts)
    source, victim, batch = step.source, here.victim, here.batch
    row = batch.ids.index(step.utterance)
    length = int(batch.lengths[row])
    utterance = here.utterances[row]
    mask = here.mask(source)
    x_adv = _attacked(here, source, mask)[row : row + 1, :length]
    before = FeatureBatch(
        batch.x[row : row + 1, :length], batch.lengths[row : row + 1], [step.utterance]
    )
    delta = (x_adv - before.x) / per_channel(victim.scale, before.x)
    allowed = mask[row : row + 1, :length] if mask is not None else delta != 0
    on_waveform = source.victim.on_features is not None
    changed = _recorded(before, x_adv) if on_waveform else _Changed(x_adv)
    after = FeatureBatch(changed.x, before.lengths, before.ids)
    maps = _maps(here, source, row, (before, after))
    scores = [_probabilities(here, source, one) for one in (before, after)]
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
        saliency_before=maps[0][0].cpu().numpy(),
        saliency_after=maps[1][0].cpu().numpy(),
        mask=allowed[0].cpu().numpy(),
        delta=delta[0].cpu().numpy(),
        perturbed=changed.samples,
        snr=changed.quality.get("snr"),
        pesq=changed.quality.get("pesq"),
        stoi=changed.quality.get("stoi"),
    )


def _attacked(
    here: StepBatch, source: AttackStep, mask: Bool[Tensor, "B T D"] | None
) -> Float[Tensor, "B T D"]:
    """The batch after the attack: as the cell kept it, or attacked again where it kept nothing."""
    if not source.keep_perturbations:
        return run_attack(here, source, attack_of(source), mask).x_adv
    path = here.task.layout.perturbations(source.key, here.task.part)
    here.artifacts.digests.check(path)
    return Perturbations.load(path).applied(here.batch)


@dataclass(frozen=True, eq=False)
class _Changed:
    """What the victim receives after the attack, and on the waveform the recording."""

    x: Float[Tensor, "1 T D"]
    samples: Int16[np.ndarray, "N"] | None = None
    quality: Mapping[str, float | None] = field(default_factory=dict)


def _recorded(before: FeatureBatch, x_adv: Float[Tensor, "1 S 1"]) -> _Changed:
    """A perturbed wave as a recording of 16 bits, with its measured quality."""
    samples = quantised(x_adv[0, :, 0].cpu().numpy())
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


def _probabilities(here: StepBatch, source: AttackStep, batch: FeatureBatch) -> np.ndarray:
    """Class probabilities `(C,)` of one utterance; on the waveform those of its file."""
    victim, artifacts = here.victim, here.artifacts
    if source.victim.on_features is not None:
        victim, setting = artifacts.victim(source.victim.on_features), source.victim.setting
        dtype = str(artifacts.store(setting).card["dtype"])
        found = features_of(artifacts.encoder(setting), victim, from_files(batch), dtype=dtype)
        batch = pad(found, batch.ids).to(batch.device)
    with torch.inference_mode():
        probabilities: np.ndarray = victim(batch.x, batch.lengths).softmax(1)[0].cpu().numpy()
    return probabilities


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
