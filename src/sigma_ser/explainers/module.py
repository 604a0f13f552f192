"""Access to the torch module of a victim, for explainers that use its layers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.passes import CountedVictim

from .request import Request


def module_of(victim: CountedVictim) -> nn.Module:
    """Return the torch module of a victim.

    Raises:
        ExplainerError: if the victim is not a module and has none as its attribute `module`.
    """
    for candidate in (victim.victim, getattr(victim.victim, "module", None)):
        if isinstance(candidate, nn.Module):
            return candidate
    raise ExplainerError(
        f"{type(victim.victim).__name__} has no torch module as its attribute `module`, which this "
        "explainer requires; wrap the module with sigma_ser.wrap, or use an explainer based on "
        "gradients or occlusion"
    )


def with_own_modules(request: Request) -> Request:
    """Return the request on a copy of the victim, whose modules may be hooked.

    Hooks on the victim itself would also run in other threads that call it at the same time, and
    methods that keep activations on its modules would mix up their calls. The copy shares all
    tensors with the victim, and its passes are counted with those of the request. Modules made by
    `torch.compile` are replaced by the original ones, because a compiled graph ignores hooks that
    are registered later.

    Raises:
        ExplainerError: if the victim has no torch module, or cannot be copied.
    """
    shared: dict[int, Any] = {}
    layers = list(module_of(request.victim).modules())
    for layer in layers:
        held = (*vars(layer).values(), *layer._parameters.values(), *layer._buffers.values())
        shared.update({id(value): value for value in held if isinstance(value, Tensor)})
    victim = request.victim.victim
    try:
        for layer in layers:
            original = getattr(layer, "_orig_mod", None)
            if isinstance(original, nn.Module):
                shared[id(layer)] = copy.deepcopy(original, shared)
        own = CountedVictim(copy.deepcopy(victim, shared), request.batch)
    except Exception as fault:
        raise ExplainerError(
            f"{type(victim).__name__} cannot be copied ({type(fault).__name__}: {fault}), and this "
            "explainer hooks the layers of a copy; use an explainer based on gradients or occlusion"
        ) from fault
    own.forwards, own.backwards = request.victim.forwards, request.victim.backwards
    return dataclasses.replace(request, victim=own)


class Scored(nn.Module):
    """The explained output of a request as a torch module, for methods that register hooks.

    The request should have modules of its own, see `with_own_modules`.
    """

    def __init__(self, request: Request) -> None:
        super().__init__()
        # Registered as a submodule, so that hooks find the victim's layers.
        self.inside = module_of(request.victim)
        self._request = [request]

    def forward(self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> Float[Tensor, "R"]:
        """Return the explained output of each row; `owner` is the utterance of each row."""
        return self._request[0].score(x, owner)


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Record the arguments of every call of a module inside the `with` block."""
    recorded: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def record(_: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        recorded.append((arguments, keywords))

    handle = module.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield recorded
    finally:
        handle.remove()
