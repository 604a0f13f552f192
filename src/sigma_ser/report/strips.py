"""Pictures of an exemplar that share one time axis, and the sounds that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int16

from sigma_ser.audio.writing import quantised

from . import formats
from .exemplar import SAMPLE_RATE, Exemplar
from .pictures import (
    HOP,
    area_path,
    channel_map,
    magnitude_picture,
    over_time,
    signed_picture,
    spectrogram,
    spectrogram_picture,
    wave_path,
)
from .sounds import difference, flac_uri, wave_of


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One picture with time on the horizontal axis, and the sound that it shows.

    Args:
        title: what is shown.
        note: unit or scale.
        width: share of the time axis that the picture covers, in per cent.
        uri: an image as a data URI; empty for an outline.
        path: an outline in a box 480 x 100, as an SVG path; empty for an image.
        style: class of the outline in the style sheet.
        sound: a recording as a data URI; empty where there is none.
    """

    title: str
    note: str
    width: float
    uri: str = ""
    path: str = ""
    style: str = ""
    sound: str = ""


def recording_strips(exemplar: Exemplar, span: float, *, audio: bool) -> tuple[Strip, ...]:
    """The original recording as spectrogram and waveform.

    Args:
        exemplar: with the recording.
        span: duration of the time axis in seconds.
        audio: embed the recording.
    """
    wave = exemplar.waveform
    if not len(wave):
        return ()
    levels = spectrogram(wave)
    return (
        Strip(
            title="Original",
            note="spectrogram, 0 to 8 kHz",
            width=_spectrogram_width(len(wave), span),
            uri=spectrogram_picture(levels, float(levels.max())),
            sound=flac_uri(quantised(wave)) if audio else "",
        ),
        Strip(
            title="Waveform",
            note="original",
            width=_width(len(wave), span),
            path=wave_path(wave),
            style="wave",
        ),
    )


def feature_strips(exemplar: Exemplar, span: float) -> tuple[Strip, ...]:
    """Explanations over time, and by frame and channel; mask and change of features.

    Args:
        exemplar: of an attack on features.
        span: duration of the time axis in seconds.
    """
    width = 100 * len(exemplar.mask) * exemplar.frame_seconds / span
    before, after = np.abs(exemplar.saliency_before), np.abs(exemplar.saliency_after)
    # Channels have no natural order, so all pictures sort them by saliency before the attack.
    order = np.argsort(-before.sum(0), kind="stable")
    before_map, after_map = channel_map(before, order), channel_map(after, order)
    full = float(np.quantile(before_map, 0.995))
    mask_map, delta_map = channel_map(exemplar.mask, order), channel_map(exemplar.delta, order)
    pictures = (
        ("Explanation before", "saliency, true class", magnitude_picture(before_map, full)),
        ("Explanation after", "same class and scale", magnitude_picture(after_map, full)),
        ("Mask", "values that may change", magnitude_picture(mask_map, float(mask_map.max()))),
        ("Change", "orange: increase, blue: decrease", signed_picture(delta_map)),
    )
    profiles = _explanations(
        "Over time,", "saliency summed over channels", before.sum(1, keepdims=True),
        after.sum(1, keepdims=True), width,
    )  # fmt: skip
    images = (Strip(title=a, note=b, width=width, uri=uri) for a, b, uri in pictures)
    return (*profiles, *images)


def waveform_strips(
    exemplar: Exemplar, perturbed: Int16[np.ndarray, "N"], span: float, *, audio: bool
) -> tuple[Strip, ...]:
    """Perturbed recording and difference, and over time the mask and the explanations.

    Args:
        exemplar: of an attack on the waveform.
        perturbed: its perturbed recording.
        span: duration of the time axis in seconds.
        audio: embed the recordings.
    """
    top = float(spectrogram(exemplar.waveform).max())
    delta = difference(exemplar.waveform, perturbed)
    levels = spectrogram(wave_of(delta.samples))
    # The picture is that of the difference itself, because the gain shifts all levels alike.
    shift = top - (float(levels.max()) - delta.gain)
    side = "below" if shift >= 0 else "above"
    scale = f"darkest {abs(shift):.0f} dB {side} that of the original"
    note = f"amplified by {formats.decimal(delta.gain, 0)} dB; {scale}"
    width = _spectrogram_width(len(perturbed), span)
    return (
        Strip(
            title="Perturbed",
            note="same scale as the original",
            width=width,
            uri=spectrogram_picture(spectrogram(wave_of(perturbed)), top),
            sound=flac_uri(perturbed) if audio else "",
        ),
        Strip(
            title="Difference",
            note=note if delta.samples.any() else "none at 16 bits",
            width=width,
            uri=spectrogram_picture(levels, float(levels.max())),
            sound=flac_uri(delta.samples) if audio else "",
        ),
        *_areas(exemplar, _width(len(perturbed), span)),
    )


def _areas(exemplar: Exemplar, width: float) -> list[Strip]:
    """Mask and explanations of samples over time."""
    mask = over_time(exemplar.mask)
    most = float(mask.max())
    verb = "were changed" if exemplar.explainer is None else "may change"
    strips = [
        Strip(
            title="Mask",
            note=f"share of the samples that {verb}, full height {formats.share(most)}",
            width=width,
            path=area_path(mask / (most or 1.0)),
            style="mask",
        )
    ]
    before, after = np.abs(exemplar.saliency_before), np.abs(exemplar.saliency_after)
    return [*strips, *_explanations("Explanation", "saliency, true class", before, after, width)]


def _explanations(
    title: str,
    note: str,
    before: Float[np.ndarray, "N 1"],
    after: Float[np.ndarray, "N 1"],
    width: float,
) -> list[Strip]:
    """Explanations over time before and after the attack; none where both are zero."""
    profiles = [over_time(one) for one in (before, after)]
    full = max(one.max() for one in profiles)
    titles = ((f"{title} before", note), (f"{title} after", "same class and scale"))
    return [
        Strip(title=a, note=b, width=width, path=area_path(c / full), style="saliency")
        for (a, b), c in zip(titles, profiles, strict=True)
        if full > 0
    ]


def _spectrogram_width(samples: int, span: float) -> float:
    """As `_width`; columns are whole steps, and the last one may be longer than the recording."""
    return _width(-(-samples // HOP) * HOP, span)


def _width(samples: int, span: float) -> float:
    """Share of the time axis that some samples take, in per cent."""
    return 100 * samples / SAMPLE_RATE / span
