"""Attack one batch and tell everything about it: a list for each column of the rows."""

from __future__ import annotations

import time
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack, AttackResult
from sigma_ser.core.rows import CONSISTENCY_METRICS, schema
from sigma_ser.core.seeds import utterance_seeds
from sigma_ser.evaluate.outcome import outcome
from sigma_ser.runs.files import read_tensors

from .artifacts import mask_seconds
from .batches import AsKept, Piece
from .steps import AttackStep
from .transfer import Perturbations


def run_attack(
    piece: Piece, step: AttackStep, attack: Attack, mask: Bool[Tensor, "B T D"] | None
) -> AttackResult:
    """The attack of a cell on one batch, with the seeds that belong to its utterances."""
    seeds = utterance_seeds(piece.batch.ids, step.seed, "attack", step.attack)
    return attack(
        piece.victim,
        piece.batch,
        piece.labels,
        Budget(**step.budget),
        mask=mask,
        seeds=seeds,
    )


def measure(
    piece: Piece, step: AttackStep, attack: Attack, kept: Perturbations | None = None
) -> dict[str, list[Any]]:
    """All columns of `core.rows` for one batch of a cell; `kept` gets the perturbations."""
    mask = piece.mask(step)
    started = time.perf_counter()
    result = run_attack(piece, step, attack, mask)
    seconds = time.perf_counter() - started
    if kept is not None:
        kept.add(piece.batch, result.x_adv)
    columns = {
        **_condition(piece, step, attack),
        **outcome(
            piece.victim,
            piece.batch,
            piece.labels,
            Budget(**step.budget),
            result,
            seconds=seconds,
            class_names=piece.class_names,
        ),
        **_mask_costs(piece, step),
        **_consistency(piece, step, result, mask),
    }
    return {name: columns.get(name, [None] * len(piece.batch)) for name in schema().names}


def _condition(piece: Piece, step: AttackStep, attack: Attack) -> dict[str, list[Any]]:
    """What was done to which utterance."""
    setting, budget = step.victim.setting, Budget(**step.budget)
    same: dict[str, Any] = {
        "corpus": setting.corpus,
        "protocol": setting.protocol,
        "fold": step.victim.fold.name,
        "encoder": setting.encoder,
        "layer": setting.layer,
        "victim": step.victim.name,
        "victim_seed": step.victim.seed,
        "attack": step.attack,
        "attack_settings": repr(attack),
        "attack_seed": step.seed,
        "explainer": None if step.mask is None else step.mask.explainer,
        "mask_source": step.mask_source,
        "scope": step.scope,
        "granularity": budget.granularity,
        "sparsity": budget.sparsity,
        "epsilon": float(budget.epsilon),
    }
    people = piece.utterances
    return {
        **{name: [value] * len(people) for name, value in same.items()},
        "utterance": [utterance.id for utterance in people],
        "speaker": [utterance.speaker for utterance in people],
        "text_id": [utterance.text_id for utterance in people],
        "label": [utterance.label for utterance in people],
        "duration": [utterance.seconds for utterance in people],
    }


def _mask_costs(piece: Piece, step: AttackStep) -> dict[str, list[Any]]:
    count = len(piece.batch)
    if step.mask is None or step.mask.universal is not None:
        # A universal map was made once, from other utterances: these bear nothing of it.
        free: dict[str, list[Any]] = {
            "mask_forwards": [0] * count,
            "mask_backwards": [0] * count,
            "mask_seconds": [0.0] * count,
        }
        return free
    forwards, backwards = torch.zeros(2, count, dtype=torch.long)
    seconds: list[float | None] = [0.0] * count
    for one in step.mask.maps:
        seen = piece.seen_by(one.victim)
        told = seen.bank(one).explain(seen.batch, seen.labels)
        forwards += told.forwards
        backwards += told.backwards
        known = mask_seconds(piece.task.paths, one)
        times = [known[name] for name in piece.batch.ids]
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
    piece: Piece, step: AttackStep, result: AttackResult, mask: Bool[Tensor, "B T D"] | None
) -> dict[str, list[Any]]:
    """What is left of the explanation, with its floor."""
    from sigma_ser.evaluate.consistency.measures import consistency

    if step.reference is None or step.floor is None:
        return {}
    task, bank = piece.task, piece.bank(step.reference)
    scores = consistency(
        AsKept(bank),
        piece.victim,
        piece.batch,
        result.x_adv,
        piece.labels,
        Budget(**step.budget),
        mask=mask,
        frame_seconds=step.victim.setting.frame_seconds,
        clean=bank.explain(piece.batch, piece.labels).saliency,
        seeds=bank.seeds(piece.batch),
    )
    floors = read_tensors(task.paths.floor(step.floor, task.part))
    scores |= {name: values[piece.rows] for name, values in floors.items()}
    kept = ["mask_mass"] + [
        f"{metric}{suffix}" for metric in CONSISTENCY_METRICS for suffix in ("", "_own", "_floor")
    ]
    return {
        "consistency_explainer": [step.reference.explainer] * len(piece.batch),
        **{name: scores[name].tolist() for name in kept if name in scores},
    }
