"""Similarity in shape: cosine, centre of mass along time, structural similarity, mask mass."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn import functional

from sigma_ser.core.features import valid_frames
from sigma_ser.evaluate.utterances import for_each_in_double, for_each_utterance, time_profiles

# Wang et al. 2004, section III.B: an 11-tap Gaussian of 1.5, K1 = 0.01, K2 = 0.03.
_TAPS = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def cosine(
    a: Float[Tensor, "B T D"], b: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Cosine similarity `<a, b> / (|a| |b|)` over the valid elements.

    Args:
        a: magnitudes `|A(x)|` of one map `(B, T, D)`, finite, at least 0.
        b: magnitudes of the other map `(B, T, D)`.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [0, 1]; NaN where a map is all zero.
    """
    return for_each_in_double(_cosine, lengths, a, b)


def centre_shift(
    a: Float[Tensor, "B T D"],
    b: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    frame_seconds: float,
) -> Float64[Tensor, "B"]:
    """Distance between the centres of mass of two maps along time (Ghorbani et al. 2019).

    Args:
        a: magnitudes `|A(x)|` of one map `(B, T, D)`, finite, at least 0.
        b: magnitudes of the other map `(B, T, D)`.
        lengths: valid frames `(B,)`.
        frame_seconds: time from one frame to the next.

    Returns:
        `(B,)` in seconds, at least 0; NaN where a map is all zero.
    """
    seconds = torch.arange(a.shape[1], device=a.device, dtype=torch.float64) * frame_seconds
    centres = []
    for magnitude in (a, b):
        profile = time_profiles(magnitude, lengths)
        centres.append((profile * seconds).sum(1) / profile.sum(1))
    return (centres[0] - centres[1]).abs()


def ssim_time(
    a: Float[Tensor, "B T D"], b: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Structural similarity of the time profiles (Wang et al. 2004, eq. 13).

    A profile is the sum of magnitudes over channels; channels have no spatial order. The dynamic
    range is the largest value of either profile. Only windows that lie entirely in the utterance
    count; an utterance shorter than 11 frames uses windows of its largest odd length.

    Args:
        a: magnitudes `|A(x)|` of one map `(B, T, D)`, finite, at least 0.
        b: magnitudes of the other map `(B, T, D)`.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [-1, 1]; NaN where both maps are all zero.
    """
    first, second = time_profiles(a, lengths), time_profiles(b, lengths)
    result = first.new_zeros(len(first))
    taps = torch.clamp((lengths - 1) // 2 * 2 + 1, max=_TAPS)
    for size in sorted(set(taps.tolist())):
        rows = (taps == size).nonzero()[:, 0]
        result[rows] = _ssim(first[rows], second[rows], lengths[rows], size)
    return result


def mask_mass(
    a: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T D"], lengths: Int[Tensor, "B"]
) -> Float64[Tensor, "B"]:
    """Share of the magnitude of a map that lies in a mask.

    Args:
        a: magnitudes `|A(x)|` `(B, T, D)`, finite, at least 0.
        mask: `(B, T, D)`.
        lengths: valid frames `(B,)`.

    Returns:
        `(B,)` in [0, 1]; NaN where the map is all zero.
    """

    def share(magnitude: Tensor, chosen: Tensor) -> Tensor:
        return magnitude[chosen].double().sum() / magnitude.double().sum()

    return for_each_utterance(share, lengths, a, mask)


def _cosine(a: Float64[Tensor, "T D"], b: Float64[Tensor, "T D"]) -> Float64[Tensor, ""]:
    # Without an epsilon a map of zeros gives NaN, and small gradients keep their direction.
    return functional.cosine_similarity(a.flatten(), b.flatten(), dim=0, eps=0.0).clamp(-1, 1)


def _ssim(
    a: Float64[Tensor, "B T"], b: Float64[Tensor, "B T"], lengths: Int[Tensor, "B"], size: int
) -> Float64[Tensor, "B"]:
    offsets = torch.arange(size, device=a.device, dtype=torch.float64) - size // 2
    window = torch.exp(-0.5 * (offsets / _SIGMA) ** 2)
    window = window / window.sum()

    def blur(profile: Float64[Tensor, "B T"]) -> Float64[Tensor, "B W"]:
        return profile.unfold(1, size, 1) @ window

    mean_a, mean_b = blur(a), blur(b)
    variance_a = blur(a * a) - mean_a**2
    variance_b = blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    largest = torch.maximum(a.amax(1), b.amax(1))[:, None]
    c1, c2 = (_K1 * largest) ** 2, (_K2 * largest) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    inside = valid_frames(lengths - size + 1, similarity.shape[1])
    return similarity.masked_fill(~inside, 0.0).sum(1) / inside.sum(1)
