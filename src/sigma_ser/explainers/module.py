"""Explainers that look inside: the torch module of a victim, and its answers as a module."""

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
    """The torch module behind a victim.

    Raises:
        ExplainerError: if the victim is no module and has none as `module`.
    """
    for candidate in (victim.victim, getattr(victim.victim, "module", None)):
        if isinstance(candidate, nn.Module):
            return candidate
    raise ExplainerError(
        f"{type(victim.victim).__name__} hides its torch module, which this explainer looks into; "
        "wrap the module with sigma_ser.wrap, or use an explainer of gradients or occlusions"
    )


class Scored(nn.Module):
    """The explained output of a request as a module, for methods that hook into modules."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        # Registered, so that hooks find the victim's layers.
        self.inside = module_of(request.victim)
        self._request = [request]

    def forward(self, x: Float[Tensor, "R T D"], owner: Int[Tensor, "R"]) -> Float[Tensor, "R"]:
        """Scores of the rows."""
        return self._request[0].score(x, owner)


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[tuple[Any, ...]]]:
    """Collects what a layer is called with, while the block lasts."""
    seen: list[tuple[Any, ...]] = []

    def note(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        seen.append(arguments)

    handle = module.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()
