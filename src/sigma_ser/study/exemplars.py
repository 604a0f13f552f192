"""A few attacked utterances in full, for the page."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sigma_ser.audio.reading import read_audio
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import RunError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import content_key
from sigma_ser.core.passes import per_channel
from sigma_ser.report.exemplar import Exemplar

from .artifacts import RunPaths
from .batches import AsKept, pieces
from .cell import run_attack
from .steps import AttackStep, Plan
from .tasks import PartTask
from .worker import make_attack


def make_exemplars(plan: Plan, paths: RunPaths, flipped: Mapping[str, int]) -> list[Exemplar]:
    """Utterances of different emotions, attacked again as in their cell, told in full.

    The cell is the strongest one inside the mask of an explanation, or the strongest at all where
    the study has none; flipped utterances come first.

    Args:
        plan: of the study, whose attacks are done.
        paths: where they lie.
        flipped: how many utterances fell in each cell, by its key; cells without rows are left out.
    """
    import polars as pl

    wanted = plan.study.evaluation.exemplars
    found: list[Exemplar] = []
    done = [step for step in plan.attacks if step.key in flipped]
    guided = [step for step in done if step.guided]
    best = max(guided or done, key=lambda step: flipped[step.key])
    files = (paths.rows(best, number) for number, _ in plan.parts(best))
    here = pl.read_parquet([path for path in files if path.exists()]).filter("correct_before")
    ordered = here.sort("success", "utterance", descending=[True, False])
    # One of each emotion before a second of any.
    ordered = ordered.with_columns(turn=pl.int_range(pl.len()).over("label")).sort(
        "turn", maintain_order=True
    )
    parts = plan.samples[best.victim.sample]
    for utterance in ordered["utterance"].head(wanted):
        path = paths.folder / "exemplars" / f"{content_key([best.key, utterance])}.safetensors"
        try:
            found.append(Exemplar.load(path))
        except RunError:
            number = next(n for n, part in enumerate(parts) if any(u.id == utterance for u in part))
            evaluation = plan.study.evaluation
            task = PartTask(
                paths, best, number, parts[number], evaluation.batch_size, evaluation.seed
            )
            found.append(_attack_again(task, best, utterance))
            found[-1].save(path)
    return found


def _attack_again(task: PartTask, step: AttackStep, utterance: str) -> Exemplar:
    piece = next(piece for piece in pieces(task) if utterance in piece.batch.ids)
    row = piece.batch.ids.index(utterance)
    length = int(piece.batch.lengths[row])
    victim = piece.victim
    batch, about = piece.batch, piece.utterances[row]
    mask = piece.mask(step)
    x_adv = run_attack(piece, step, make_attack(step), mask).x_adv
    delta = (x_adv - batch.x) / per_channel(victim.scale, batch.x)
    maps = [torch.zeros_like(batch.x)] * 2
    mapped = step.reference
    if mapped is None and step.mask is not None and len(step.mask.maps) == 1:
        (mapped,) = step.mask.maps
    if mapped is not None and mapped.victim == step.victim:
        bank = piece.bank(mapped)
        maps = [
            AsKept(bank)(
                victim,
                FeatureBatch(x, batch.lengths, batch.ids),
                piece.labels,
                seeds=bank.seeds(batch),
            ).saliency
            for x in (batch.x, x_adv)
        ]
    with torch.inference_mode():
        before, after = (victim(x, batch.lengths).softmax(1)[row] for x in (batch.x, x_adv))
    allowed = mask if mask is not None else delta != 0
    budget = Budget(**step.budget)
    assert budget.sparsity is not None
    return Exemplar(
        utterance=utterance,
        speaker=about.speaker,
        text=about.text_id,
        label=about.label,
        class_names=victim.class_names,
        victim=step.victim.name,
        attack=step.attack,
        explainer=None if step.mask is None else step.mask.explainer,
        mask_source=step.mask_source,
        scope=step.scope,
        sparsity=budget.sparsity,
        epsilon=float(budget.epsilon),
        probabilities_before=before.numpy(),
        probabilities_after=after.numpy(),
        waveform=read_audio(about.path),
        frame_seconds=step.victim.setting.frame_seconds,
        saliency_before=maps[0][row, :length].numpy(),
        saliency_after=maps[1][row, :length].numpy(),
        mask=allowed[row, :length].numpy(),
        delta=delta[row, :length].numpy(),
    )
