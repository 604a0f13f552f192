"""A learned weighted sum of hidden states: one weight for each layer, trained with the head.

Source: SUPERB (Yang et al. 2021, section 3.1). Features of `layer="all"` are the concatenated
hidden states of a frame, `(B, T, L * D)`. During training, softmax weights sum them to `(B, T, D)`;
afterwards the weights are frozen, and the sum is the input of the victim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core.errors import ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.encoders.store import FeatureStore


def weighted_sum(
    x: Float[Tensor, "*B T F"], weights: Float[Tensor, "L"]
) -> Float[Tensor, "*B T D"]:
    """Compute the weighted sum of the `L` concatenated hidden states of each frame.

    Args:
        x: features `(..., T, F)` with `F = L * D`.
        weights: `(L,)`.

    Returns:
        `(..., T, D)`.

    Raises:
        ShapeError: if `F` is not a multiple of `L`.

    >>> weighted_sum(torch.tensor([[[1.0, 2.0, 10.0, 20.0]]]), torch.tensor([0.5, 0.5])).tolist()
    [[[5.5, 11.0]]]
    """
    if x.shape[-1] % len(weights):
        raise ShapeError(
            f"{x.shape[-1]} channels cannot hold {len(weights)} hidden states of equal width; "
            'give features of layer="all"'
        )
    return torch.einsum("...ld,l->...d", x.reshape(*x.shape[:-1], len(weights), -1), weights)


def weighted_batch(batch: FeatureBatch, weights: Float[Tensor, "L"]) -> FeatureBatch:
    """Compute the input of a victim with frozen layer weights from a batch of all layers.

    Args:
        batch: features `(B, T, L * D)`.
        weights: `(L,)`, such as `victim.layer_weights`.

    Returns:
        Features `(B, T, D)` with the same lengths and ids.

    Raises:
        ShapeError: if the number of channels is not a multiple of `L`.
    """
    return FeatureBatch(weighted_sum(batch.x, weights.to(batch.x)), batch.lengths, batch.ids)


class LayerSum(nn.Module):
    """Softmax weights of hidden states, with the moments of the weighted sum.

    Args:
        mean: `(L * D,)` channel means of the training part.
        covariance: `(D, L, L)` of the hidden states of each channel over the training part.
    """

    mean: Tensor
    covariance: Tensor

    def __init__(self, mean: Float[Tensor, "F"], covariance: Float[Tensor, "D L L"]) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(covariance.shape[1]))
        self.register_buffer("mean", mean.clone())
        self.register_buffer("covariance", covariance.clone())

    @property
    def weights(self) -> Float[Tensor, "L"]:
        """Weights of the hidden states `(L,)`, above 0, with the sum 1."""
        return torch.softmax(self.scores, 0)

    def moments(self) -> tuple[Float[Tensor, "D"], Float[Tensor, "D"]]:
        """Compute mean and standard deviation `(D,)` of the sum over the training part."""
        weights = self.weights.detach()
        variance = torch.einsum("l,dlm,m->d", weights, self.covariance, weights)
        return weighted_sum(self.mean[None], weights)[0], variance.clamp(min=0).sqrt()

    def forward(self, x: Float[Tensor, "B T F"]) -> Float[Tensor, "B T D"]:
        """Return the weighted sum of hidden states."""
        return weighted_sum(x, self.weights)


def layer_covariance(
    store: FeatureStore, ids: Sequence[str], mean: Float[Tensor, "F"]
) -> Float[Tensor, "D L L"]:
    """Compute the covariance of the hidden states of each channel over all frames.

    It determines the variance of the weighted sum for any weights, so the standardisation follows
    the weights during training without further passes over the store.

    Args:
        store: features of all layers.
        ids: the utterances of the training part.
        mean: `(L * D,)` their channel means.

    Returns:
        `(D, L, L)`.
    """
    layers = store.layers
    total, frames = torch.zeros(store.dim // layers, layers, layers, dtype=torch.float64), 0
    for name in ids:
        flat = store.features(name).double() - mean.double()
        centred = flat.reshape(len(flat), layers, -1)
        total += torch.einsum("tld,tmd->dlm", centred, centred)
        frames += len(centred)
    return (total / frames).float()
