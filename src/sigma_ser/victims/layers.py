"""A learned weighted sum of hidden states: one number for each layer, trained with the head.

Source: SUPERB (Yang et al. 2021, section 3.1). Features of `layer="all"` hold all hidden states of
a frame side by side, `(B, T, L * D)`. While a head learns, softmax weights sum them to
`(B, T, D)`; afterwards the weights are frozen, and that sum is what the victim is given.
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
    """Sum the `L` hidden states that lie side by side in each frame, `F = L * D`.

    Raises:
        ShapeError: if the channels cannot be cut into `L` equal parts.

    >>> weighted_sum(torch.tensor([[[1.0, 2.0, 10.0, 20.0]]]), torch.tensor([0.5, 0.5])).tolist()
    [[[5.5, 11.0]]]
    """
    if x.shape[-1] % len(weights):
        raise ShapeError(
            f"{x.shape[-1]} channels cannot hold {len(weights)} hidden states side by side; "
            'give features of layer="all"'
        )
    return torch.einsum("...ld,l->...d", x.reshape(*x.shape[:-1], len(weights), -1), weights)


def weighted_batch(batch: FeatureBatch, weights: Float[Tensor, "L"]) -> FeatureBatch:
    """A batch of all layers as a victim with these frozen weights is given it: the surface."""
    return FeatureBatch(weighted_sum(batch.x, weights.to(batch.x)), batch.lengths, batch.ids)


class LayerSum(nn.Module):
    """Softmax weights of hidden states, with the moments of the sum that they give.

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
        """One weight for each hidden state, above 0; they sum to 1."""
        return torch.softmax(self.scores, 0)

    def moments(self) -> tuple[Float[Tensor, "D"], Float[Tensor, "D"]]:
        """Mean and standard deviation of each channel of the sum, over the training part."""
        weights = self.weights.detach()
        variance = torch.einsum("l,dlm,m->d", weights, self.covariance, weights)
        return weighted_sum(self.mean[None], weights)[0], variance.clamp(min=0).sqrt()

    def forward(self, x: Float[Tensor, "B T F"]) -> Float[Tensor, "B T D"]:
        """The sum."""
        return weighted_sum(x, self.weights)


def layer_covariance(
    store: FeatureStore, ids: Sequence[str], mean: Float[Tensor, "F"]
) -> Float[Tensor, "D L L"]:
    """Covariance `(D, L, L)` of the hidden states of each channel, over all frames of `ids`.

    The spread of a weighted sum follows from it for any weights, so that the standardisation
    keeps up while the weights are learnt, in one pass over the store.
    """
    layers = store.layers
    total, frames = torch.zeros(store.dim // layers, layers, layers, dtype=torch.float64), 0
    for name in ids:
        flat = store.features(name).double() - mean.double()
        centred = flat.reshape(len(flat), layers, -1)
        total += torch.einsum("tld,tmd->dlm", centred, centred)
        frames += len(centred)
    return (total / frames).float()
