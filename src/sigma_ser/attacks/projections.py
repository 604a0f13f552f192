"""Normalised gradients, one utterance per row."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-30


def l2_normalised(gradient: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """`g / |g|_2` per utterance; a zero gradient stays zero."""
    norms = torch.linalg.vector_norm(gradient, dim=(1, 2), keepdim=True)
    normalised: Tensor = gradient / norms.clamp(min=_TINY)
    return normalised


def l1_normalised(gradient: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """`g / |g|_1` per utterance; a zero gradient stays zero."""
    norms = gradient.abs().sum(dim=(1, 2), keepdim=True)
    return gradient / norms.clamp(min=_TINY)


def linf_normalised(gradient: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """`g / |g|_inf` per utterance; a zero gradient stays zero."""
    norms = gradient.abs().amax(dim=(1, 2), keepdim=True)
    return gradient / norms.clamp(min=_TINY)
