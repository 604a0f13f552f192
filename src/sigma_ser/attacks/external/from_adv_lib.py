"""Attacks of adv-lib, the adversarial library (Rony & Ben Ayed)."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from .peer import Peer

# Modules that adv-lib imports for plots and perceptual distances; its attacks do not use them.
_STAND_INS = {"visdom": "Visdom", "torchvision": "models"}


class AdvLibPeer(Peer):
    """The function `adv_lib.attacks.<name>`; a radius without a default is set to the whole box."""

    library = "adv-lib"
    packages = "adv-lib"
    ours = frozenset({"model", "inputs", "labels", "targeted", "callback"})

    def members(self) -> dict[str, Callable[..., Any]]:
        with _stand_ins():
            attacks = self.imported("adv_lib.attacks")
        return {
            name: member for name, member in vars(attacks).items() if inspect.isfunction(member)
        }

    def __call__(
        self,
        model: nn.Module,
        z: Float[Tensor, "R 1 T D"],
        labels: Int[Tensor, "R"],
        target: Int[Tensor, "R"] | None,
        elements: int,
    ) -> Float[Tensor, "R 1 T D"]:
        settings, parameters = dict(self.settings), self.parameters()
        for radius in ("ε", "eps"):
            if radius in parameters and parameters[radius].default is inspect.Parameter.empty:
                settings.setdefault(radius, self.radius(float("inf"), elements))
        if "targeted" in parameters:
            settings["targeted"] = target is not None
        else:
            self.refuse_target(target)
        moved: Tensor = self.member()(model, z, labels if target is None else target, **settings)
        return moved


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Replace modules that are not installed by empty ones while adv-lib is imported."""
    missing = [name for name in _STAND_INS if importlib.util.find_spec(name) is None]
    for name in missing:
        stand_in = types.ModuleType(name)
        setattr(stand_in, _STAND_INS[name], None)
        sys.modules[name] = stand_in
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
