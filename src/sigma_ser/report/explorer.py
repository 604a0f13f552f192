"""The exemplars of the page: pictures, class probabilities and the recording of an utterance."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .exemplar import SAMPLE_RATE, Exemplar
from .pictures import (
    channel_map,
    magnitude_picture,
    signed_picture,
    spectrogram_picture,
    wave_path,
)


@dataclass(frozen=True)
class Strip:
    """One picture with time on the horizontal axis."""

    title: str
    note: str
    uri: str


@dataclass(frozen=True)
class Attempt:
    """One attack on the utterance."""

    exemplar: Exemplar
    method: str
    strips: tuple[Strip, ...]
    width: float  # share of the time axis that the frames cover, in per cent
    probabilities: tuple[tuple[str, float, float], ...]  # class, before, after
    changed: int
    elements: int
    frames_changed: int


@dataclass(frozen=True)
class UtteranceView:
    """One utterance with all attacks on it."""

    utterance: str
    speaker: str
    text: str
    label: str
    seconds: float
    wave: str
    wave_width: float
    spectrogram: str
    audio: str  # data URI; empty if the recording is not embedded
    attempts: tuple[Attempt, ...]


def utterance_views(exemplars: Sequence[Exemplar], *, audio: bool = True) -> list[UtteranceView]:
    """Group exemplars by utterance, in the given order, and draw them."""
    groups: dict[str, list[Exemplar]] = {}
    for exemplar in exemplars:
        groups.setdefault(exemplar.utterance, []).append(exemplar)
    return [_view(group, audio=audio) for group in groups.values()]


def method_of(exemplar: Exemplar) -> str:
    """The name of the attack with its mask."""
    if exemplar.explainer is None:
        return f"{exemplar.attack}, no mask"
    source = exemplar.mask_source
    foreign = "" if source in (None, "own", exemplar.victim) else f" of {source}"
    return f"{exemplar.attack} in {exemplar.explainer} ×{exemplar.scope or 1}{foreign}"


def _view(group: list[Exemplar], *, audio: bool) -> UtteranceView:
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
        wave=wave_path(first.waveform),
        wave_width=100 * recorded / span,
        spectrogram=spectrogram_picture(first.waveform) if len(first.waveform) else "",
        audio=_flac(first.waveform) if audio and len(first.waveform) else "",
        attempts=tuple(_attempt(exemplar, span) for exemplar in group),
    )


def _attempt(exemplar: Exemplar, span: float) -> Attempt:
    before, after = np.abs(exemplar.saliency_before), np.abs(exemplar.saliency_after)
    # Channels have no natural order, so all pictures sort them by saliency before the attack.
    order = np.argsort(-before.sum(0), kind="stable")
    before_map, after_map = channel_map(before, order), channel_map(after, order)
    full = float(np.quantile(before_map, 0.995))
    changed = exemplar.delta != 0
    mask_map, delta_map = channel_map(exemplar.mask, order), channel_map(exemplar.delta, order)
    mask = magnitude_picture(mask_map, float(mask_map.max()))
    strips = (
        Strip("Explanation before", "saliency, true class", magnitude_picture(before_map, full)),
        Strip("Explanation after", "same class and scale", magnitude_picture(after_map, full)),
        Strip("Mask", "values that may change", mask),
        Strip("Change", "orange: increase, blue: decrease", signed_picture(delta_map)),
    )
    return Attempt(
        exemplar=exemplar,
        method=method_of(exemplar),
        strips=strips,
        width=100 * len(exemplar.mask) * exemplar.frame_seconds / span,
        probabilities=tuple(
            zip(
                exemplar.class_names,
                exemplar.probabilities_before.tolist(),
                exemplar.probabilities_after.tolist(),
                strict=True,
            )
        ),
        changed=int(changed.sum()),
        elements=changed.size,
        frames_changed=int(changed.any(1).sum()),
    )


def _flac(waveform: Float[np.ndarray, "N"]) -> str:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(buffer.getvalue()).decode()
