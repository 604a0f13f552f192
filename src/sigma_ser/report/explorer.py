"""The exemplars of the page: pictures, class probabilities and the sounds of an utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import formats
from .cells import Cell
from .exemplar import SAMPLE_RATE, WAVEFORM, Exemplar
from .strips import Strip, feature_strips, recording_strips, waveform_strips

# What an exemplar and its cell share.
_CELL = ("surface", "victim", "attack", "explainer", "mask_source", "scope", "sparsity", "epsilon",
         "budget_snr")  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One attack on the utterance."""

    exemplar: Exemplar
    cell: str
    method: str
    budget: str
    effect: str
    strips: tuple[Strip, ...]
    probabilities: tuple[tuple[str, float, float], ...]  # class, before, after


@dataclass(frozen=True)
class UtteranceView:
    """One utterance with all attacks on it; its own strips show the original recording."""

    utterance: str
    speaker: str
    text: str
    label: str
    seconds: float
    strips: tuple[Strip, ...]
    attempts: tuple[Attempt, ...]


def utterance_views(
    exemplars: Sequence[Exemplar], cells: Sequence[Cell] = (), *, audio: bool = True
) -> list[UtteranceView]:
    """Group exemplars by utterance, in the given order, and draw them.

    Args:
        exemplars: of a run.
        cells: lines of `page_cells`; an attempt names the one that it belongs to.
        audio: embed the sounds.
    """
    names = {tuple(cell[key] for key in _CELL): cell["cell"] for cell in reversed(cells)}
    groups: dict[str, list[Exemplar]] = {}
    for exemplar in exemplars:
        groups.setdefault(exemplar.utterance, []).append(exemplar)
    return [_view(group, names, audio=audio) for group in groups.values()]


def method_of(exemplar: Exemplar) -> str:
    """The name of the attack with its mask."""
    if exemplar.explainer is None:
        return f"{exemplar.attack}, no mask"
    source = exemplar.mask_source
    foreign = "" if source in (None, "own", exemplar.victim) else f" of {source}"
    return f"{exemplar.attack} in {exemplar.explainer} ×{exemplar.scope or 1}{foreign}"


def _view(
    group: list[Exemplar], names: Mapping[tuple[Any, ...], str], *, audio: bool
) -> UtteranceView:
    first = group[0]
    recorded = len(first.waveform) / SAMPLE_RATE
    framed = max(len(exemplar.mask) * exemplar.frame_seconds for exemplar in group)
    span = max(recorded, framed)
    return UtteranceView(
        utterance=first.utterance,
        speaker=first.speaker,
        text=first.text,
        label=first.label,
        seconds=span,
        strips=recording_strips(first, span, audio=audio),
        attempts=tuple(_attempt(exemplar, span, names, audio=audio) for exemplar in group),
    )


def _attempt(
    exemplar: Exemplar, span: float, names: Mapping[tuple[Any, ...], str], *, audio: bool
) -> Attempt:
    perturbed = exemplar.perturbed
    return Attempt(
        exemplar=exemplar,
        cell=names.get(tuple(getattr(exemplar, key) for key in _CELL), ""),
        method=method_of(exemplar),
        budget=_budget(exemplar),
        effect=_on_features(exemplar) if perturbed is None else _on_waveform(exemplar),
        strips=feature_strips(exemplar, span)
        if perturbed is None
        else waveform_strips(exemplar, perturbed, span, audio=audio),
        probabilities=tuple(
            zip(
                exemplar.class_names,
                exemplar.probabilities_before.tolist(),
                exemplar.probabilities_after.tolist(),
                strict=True,
            )
        ),
    )


def _budget(exemplar: Exemplar) -> str:
    """Size and bound of the change, in short."""
    if exemplar.budget_snr is not None:
        bound = f"{exemplar.budget_snr:g} dB"
    else:
        bound = f"ε {exemplar.epsilon:g}"
    surface = ", waveform" if exemplar.surface == WAVEFORM else ""
    return f"{formats.share(exemplar.sparsity)}, {bound}{surface}"


def _on_features(exemplar: Exemplar) -> str:
    """What the attack changed, as a sentence."""
    changed = exemplar.delta != 0
    return (
        f"The attack changes {formats.count(int(changed.sum()))} of "
        f"{formats.count(changed.size)} feature values, in {int(changed.any(1).sum())} of "
        f"{len(changed)} frames, each by at most {exemplar.epsilon:g} σ."
    )


def _on_waveform(exemplar: Exemplar) -> str:
    """What the attack changed, and how far it can be noticed, as sentences."""
    changed, largest = exemplar.delta != 0, float(np.abs(exemplar.delta).max(initial=0.0))
    asked = "" if exemplar.budget_snr is None else f" (budget: {exemplar.budget_snr:g} dB)"
    measured = [
        f"signal-to-noise ratio {formats.decimal(exemplar.snr, 1)} dB{asked}"
        if exemplar.snr is not None
        else "",
        f"PESQ {exemplar.pesq:.2f}" if exemplar.pesq is not None else "",
        f"STOI {exemplar.stoi:.3f}" if exemplar.stoi is not None else "",
    ]
    quality = ", ".join(part for part in measured if part)
    return (
        f"The attack changes {formats.count(int(changed.sum()))} of "
        f"{formats.count(changed.size)} samples of the recording, each by at most "
        f"{formats.share(largest)} of full scale. The perturbed recording was rounded to 16 bits "
        "before it was classified" + (f"; {quality}." if quality else ".")
    )
