"""A few attacked utterances in full, for the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from sigma_ser.audio.reading import read_audio
from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import RunError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import content_key
from sigma_ser.core.passes import per_channel
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.report.exemplar import Exemplar

from .measurement import run_attack
from .plan import AttackStep, Plan
from .work import AsKept, Conditions, PartTask, RunPaths, load_victim, make_attack, pieces

if TYPE_CHECKING:
    import polars as pl


def make_exemplars(
    plan: Plan, paths: RunPaths, conditions: Conditions, corpus: Corpus
) -> list[Exemplar]:
    """Utterances of different emotions, attacked again as in their cell, told in full.

    The cell is the strongest one inside the mask of an explanation, or the strongest at all where
    the study has none; flipped utterances come first.
    """
    found = []
    for step, part, utterance in _chosen(plan, paths):
        path = paths.folder / "exemplars" / f"{content_key([step.key, utterance])}.safetensors"
        try:
            found.append(Exemplar.load(path))
        except RunError:
            ids = plan.samples[step.victim.fold.name][part]
            task = PartTask(paths, conditions, step, part, tuple(corpus[name] for name in ids))
            found.append(_attack_again(task, step, utterance))
            found[-1].save(path)
    return found


def _chosen(plan: Plan, paths: RunPaths) -> Iterator[tuple[AttackStep, int, str]]:
    import polars as pl

    def rows(step: AttackStep) -> pl.DataFrame:
        parts = [
            pl.read_parquet(paths.rows(step, number)).with_columns(part=pl.lit(number))
            for number, _ in plan.parts(step.victim.fold.name)
        ]
        return pl.concat(parts).filter(pl.col("correct_before"))

    guided = [step for step in plan.attacks if step.mask is not None and step.mask.name != "random"]
    best = max(guided or plan.attacks, key=lambda step: rows(step)["success"].sum())
    ordered = rows(best).sort("success", "utterance", descending=[True, False])
    # One of each emotion before a second of any.
    ordered = ordered.with_columns(turn=pl.int_range(pl.len()).over("label")).sort(
        "turn", maintain_order=True
    )
    for row in ordered.head(plan.study.evaluation.exemplars).iter_rows(named=True):
        yield best, row["part"], row["utterance"]


def _attack_again(task: PartTask, step: AttackStep, utterance: str) -> Exemplar:
    piece = next(piece for piece in pieces(task) if utterance in piece.batch.ids)
    row = piece.batch.ids.index(utterance)
    length = int(piece.batch.lengths[row])
    victim = load_victim(task.paths.victim(step.victim))
    batch, about = piece.batch, piece.utterances[row]
    mask = piece.mask(step)
    x_adv = run_attack(piece, step, make_attack(step), mask).x_adv
    delta = (x_adv - batch.x) / per_channel(victim.scale, batch.x)
    mapped = step.reference or step.mask
    maps = [torch.zeros_like(batch.x)] * 2
    if mapped is not None:
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
        class_names=victim.labels,
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
        frame_seconds=task.conditions.frame_seconds,
        saliency_before=maps[0][row, :length].numpy(),
        saliency_after=maps[1][row, :length].numpy(),
        mask=allowed[row, :length].numpy(),
        delta=delta[row, :length].numpy(),
    )
