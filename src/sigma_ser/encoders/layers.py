"""Which hidden state of a transformer is the feature: one layer, their mean, or all of them.

State 0 is what enters the first layer, state `i` what enters layer `i` (counted from 0), state `n`
the output of the model, after its last norm. `transformers` 5 reports the last state of pre-norm
models before that norm, earlier versions after it; reading the inputs of the layers ourselves
gives the same states with every version, and the layers above the wanted one need not run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core.errors import EncoderError

Layer = int | Literal["mean", "all"]


def resolve_layer(layer: int | str, layers: int) -> Layer:
    """The layer counted from 0, or `"mean"` or `"all"`.

    Args:
        layer: an index from `-(layers + 1)` to `layers`, `"mean"` or `"all"`.
        layers: how many transformer layers the model has.

    Raises:
        EncoderError: if there is no such layer.

    >>> resolve_layer(-1, 12)
    12
    """
    if layer in ("mean", "all"):
        return cast("Layer", layer)
    if isinstance(layer, str) or not -layers - 1 <= layer <= layers:
        raise EncoderError(
            f"there is no layer {layer!r}; this encoder has layers 0 (before the first transformer "
            f'layer) to {layers}, also negative, "mean" and "all"'
        )
    return layer % (layers + 1)


class HiddenStates:
    """Reads the wanted hidden states while a model runs.

    Args:
        stack: the model's transformer layers; those above a single wanted one are taken away.
        layer: as :func:`resolve_layer` gives it.
    """

    def __init__(self, stack: nn.ModuleList, layer: Layer) -> None:
        self.layer = layer
        self._states: list[Tensor] = []
        if isinstance(layer, int) and layer < len(stack):
            del stack[layer + 1 :]
            stack[layer] = _Stop()
        elif not isinstance(layer, int):
            for module in stack:
                module.register_forward_pre_hook(self._keep, with_kwargs=True)

    def __call__(self, run: Callable[[], Float[Tensor, "B T D"]]) -> Float[Tensor, "B T F"]:
        """The features of one pass: `F` is `D`, or for `"all"` `(layers + 1) * D`, by layer."""
        self._states.clear()
        try:
            last = run()
        except _Reached as reached:
            return reached.state
        if isinstance(self.layer, int):
            return last
        states = [*self._states, last]
        self._states.clear()
        if len({state.shape for state in states}) > 1:
            raise EncoderError(
                "the layers of this encoder differ in frame rate or width, "
                f"so there is no {self.layer!r} of them; choose one layer by its index"
            )
        return torch.stack(states).mean(0) if self.layer == "mean" else torch.cat(states, dim=-1)

    def _keep(self, _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._states.append(_state(inputs, named))


class _Reached(Exception):
    """Carries the wanted state out of a model whose further layers are of no use."""

    def __init__(self, state: Tensor) -> None:
        super().__init__()
        self.state = state


class _Stop(nn.Module):
    """Stands where the first unneeded layer was."""

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        raise _Reached(_state(inputs, named))


def _state(inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    state: Tensor = inputs[0] if inputs else named["hidden_states"]
    return state
