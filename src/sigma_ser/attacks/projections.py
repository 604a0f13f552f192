"""Norms and projections of perturbations, one utterance a row."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-30


def l2_normalised(gradient: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """`g / |g|_2` of each utterance; a gradient of zeros stays zero."""
    norms = torch.linalg.vector_norm(gradient, dim=(1, 2), keepdim=True)
    normalised: Tensor = gradient / norms.clamp(min=_TINY)
    return normalised


def l1_normalised(gradient: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """`g / |g|_1` of each utterance; a gradient of zeros stays zero."""
    norms = gradient.abs().sum(dim=(1, 2), keepdim=True)
    return gradient / norms.clamp(min=_TINY)


def linf_normalised(gradient: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
    """`g / |g|_inf` of each utterance; a gradient of zeros stays zero."""
    norms = gradient.abs().amax(dim=(1, 2), keepdim=True)
    return gradient / norms.clamp(min=_TINY)
