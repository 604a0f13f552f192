"""Random baselines: utterances, or Gaussian channel offsets."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import CountedVictim
from sigma_ser.core.seeds import UtteranceNoise


def draw_references(
    references: FeatureBatch | None,
    victim: CountedVictim,
    noise: UtteranceNoise,
    x: Float[Tensor, "G T D"],
) -> Float[Tensor, "G T D"]:
    """Draw a baseline for each utterance from the utterance's own generator.

    Args:
        references: utterances to draw from; a reference starts at a random frame and repeats
            cyclically over the length of the utterance. `None` draws a Gaussian offset for each
            channel.
        victim: its `mean` and `scale` are the parameters of the Gaussian.
        noise: the generators of the utterances.
        x: features of the utterances `(G, T, D)`.

    Returns:
        Baselines `(G, T, D)`.

    Raises:
        ShapeError: if the references have another number of channels.
    """
    drawn = torch.zeros_like(x)
    if references is not None and references.x.shape[2] != x.shape[2]:
        raise ShapeError(
            f"the references have {references.x.shape[2]} channels, the features {x.shape[2]}"
        )
    for row, (length, rng) in enumerate(zip(noise.lengths, noise.generators, strict=True)):
        if references is None:
            offset = torch.randn(x.shape[2], generator=rng, dtype=x.dtype).to(x.device)
            drawn[row] = victim.mean + victim.scale * offset
            continue
        chosen = int(torch.randint(len(references), (), generator=rng))
        frames = int(references.lengths[chosen])
        first = int(torch.randint(frames, (), generator=rng))
        index = (first + torch.arange(length)) % frames
        drawn[row, :length] = references.x[chosen, index.to(references.device)].to(x.device)
    return drawn
