"""Access to the torch module of a victim, for explainers that use its layers."""

from __future__ import annotations

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


class Scored(nn.Module):
    """The explained output of a request as a torch module, for methods that register hooks."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        # Registered as a submodule, so that hooks find the victim's layers.
        self.inside = module_of(request.victim)
        self._request = [request]

    def forward(self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> Float[Tensor, "R"]:
        """Return the explained output of each row; `owner` is the utterance of each row."""
        return self._request[0].score(x, owner)


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[tuple[Any, ...]]]:
    """Record the arguments of every call of a module inside the `with` block."""
    recorded: list[tuple[Any, ...]] = []

    def record(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        recorded.append(arguments)

    handle = module.register_forward_pre_hook(record)
    try:
        yield recorded
    finally:
        handle.remove()
