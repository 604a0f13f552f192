"""Selection of hidden states of a transformer: one layer, the mean of all layers, or all of them.

State 0 is the input of the first layer, state `i` the input of layer `i` (counted from 0), state
`n` the output of the model, after its last norm. `transformers` 5 reports the last state of
pre-norm models before that norm, earlier versions after it. Here the inputs of the layers are read
directly, which gives the same states with every version; layers above the selected one do not run.
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
        layers: number of transformer layers of the model.

    Raises:
        EncoderError: if there is no such layer.

    >>> resolve_layer(-1, 12)
    12
    """
    if layer in ("mean", "all"):
        return cast("Layer", layer)
    if isinstance(layer, str) or not -layers - 1 <= layer <= layers:
        raise EncoderError(
            f"there is no layer {layer!r}; give 0 (before the first transformer layer) to {layers},"
            ' a negative number that counts from the end (-1 is the last), "mean" or "all"'
        )
    return layer % (layers + 1)


class HiddenStates:
    """Reads the selected hidden states while a model runs.

    Args:
        stack: transformer layers of the model; those above a single selected one are removed.
        layer: the result of `resolve_layer`.
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
    """Ends the forward pass of a model and carries the selected state."""

    def __init__(self, state: Tensor) -> None:
        super().__init__()
        self.state = state


class _Stop(nn.Module):
    """Replaces the first layer that is not needed."""

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        raise _Reached(_state(inputs, named))


def _state(inputs: tuple[Any, ...], named: dict[str, Any]) -> Tensor:
    state: Tensor = inputs[0] if inputs else named["hidden_states"]
    return state
