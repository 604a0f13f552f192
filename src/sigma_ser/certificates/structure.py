"""The layers of a victim whose structure is known, read from its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core.contracts import Victim
from sigma_ser.victims.checkpoint import TrainedVictim
from sigma_ser.victims.victim import Standardised, WrappedVictim

_LAYERS = (nn.Linear, nn.Conv1d)


@dataclass(frozen=True, eq=False)
class KnownHead:
    """A head of this package and the standardisation in front of it: `head((x - mean) / scale)`.

    `mean` and `scale` are float64 `(D,)`, or `()` for a head that stands alone.
    """

    module: nn.Module
    mean: Tensor
    scale: Tensor

    def standardised(self, x: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """The input of the head, float64."""
        return (x - self.mean) / self.scale


def known_head(victim: Victim, heads: tuple[type[nn.Module], ...]) -> KnownHead | None:
    """The head of a victim, if nothing but the code of this package computes its logits.

    Args:
        victim: any victim.
        heads: the classes that are looked for; subclasses may compute something else.

    Returns:
        `None` if the victim is of another class, if a module has hooks or a `forward` of its own,
        or if a layer is not a plain one.
    """
    if type(victim) not in {WrappedVictim, TrainedVictim}:
        return None
    assert isinstance(victim, WrappedVictim)
    module = victim.module
    mean, scale = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    if any(_changed(part) for part in module.modules()):
        return None
    if type(module) is Standardised:
        mean, scale = exact(module.mean), exact(module.scale)
        module = module.head
    return KnownHead(module, mean, scale) if type(module) in heads else None


def _changed(module: nn.Module) -> bool:
    hooks = bool(module._forward_hooks) or bool(module._forward_pre_hooks)
    replaced = "forward" in vars(module)
    # Pruned, quantised or reparametrised layers are subclasses, or have hooks.
    derived = isinstance(module, _LAYERS) and type(module) not in _LAYERS
    return hooks or replaced or derived


def exact(weight: Tensor) -> Tensor:
    """A weight in float64 on the processor, detached."""
    return weight.detach().cpu().double()


def weight_and_bias(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear or convolutional layer in float64; zeros without a bias."""
    assert isinstance(layer, _LAYERS)
    weight = exact(layer.weight)
    return weight, weight.new_zeros(len(weight)) if layer.bias is None else exact(layer.bias)
