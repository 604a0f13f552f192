"""Measurement, with the model at hand, of how far padding changes features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from .forward import batch_states

if TYPE_CHECKING:
    from .family import Encoder

TOLERANCE = 1e-5
"""Largest change under padding of an encoder that is padded."""

# Frames of the waves. One is padded by half, as a long context, and one by a single frame.
_FRAMES = (24, 23, 12)


@torch.no_grad()
def padding_change(encoder: Encoder) -> float:
    """The largest change of features when waves share a padded batch.

    Whether a model may be padded depends on its configuration, which has more switches than a list
    of families knows: one norm or bias in the wrong place is enough. So the model itself encodes
    waves of noise alone and in a padded batch.

    Args:
        encoder: with its model loaded.

    Returns:
        The largest absolute difference, relative to the largest absolute feature where that is
        above 1; NaN if a feature is not finite.
    """
    rng = np.random.default_rng(0)
    # The odd sample shows what depends on the remainder of a division.
    sizes = [encoder.receptive_field + encoder.hop * frames + 1 for frames in _FRAMES]
    waves = [0.1 * rng.standard_normal(size, dtype=np.float32) + 0.01 for size in sizes]
    inputs = [encoder.prepare(wave) for wave in waves]
    alone = [batch_states(encoder, [one])[0] for one in inputs]
    together = batch_states(encoder, inputs)
    largest = max(1.0, *(float(one.abs().max()) for one in alone))
    changes = [
        (padded[: len(one)] - one).abs().max() / largest
        for one, padded in zip(alone, together, strict=True)
    ]
    return float(torch.stack(changes).max())
