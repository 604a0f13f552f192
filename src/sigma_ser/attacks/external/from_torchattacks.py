"""Attacks of torchattacks (Kim 2020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .peer import Peer, classes_of, runner_up


class TorchattacksPeer(Peer):
    """`torchattacks.<name>`; `eps` defaults to the whole box, `alpha` in proportion."""

    library = "torchattacks"
    packages = "torchattacks"
    ours = frozenset({"model"})

    def members(self) -> dict[str, Callable[..., Any]]:
        package = self.imported("torchattacks")
        base = self.imported("torchattacks.attack").Attack
        return classes_of(package, base)

    def __call__(
        self,
        model: nn.Module,
        z: Float[Tensor, "R 1 T D"],
        labels: Int[Tensor, "R"],
        target: Int[Tensor, "R"] | None,
        elements: int,
    ) -> Float[Tensor, "R 1 T D"]:
        two = self.name.endswith("L2") or self.settings.get("norm") == "L2"
        radius = self.radius(2.0 if two else float("inf"), elements)
        made: Any = self.member()(model, **self.scaled(radius, self.settings, "eps", "alpha"))
        if target is None and self.name == "JSMA":
            # Its default target is label + 1 modulo ten classes.
            with torch.no_grad():
                target = runner_up(model(z), labels)
        if target is not None:
            if "targeted" not in made.supported_mode:
                self.refuse_target(target)
            made.set_mode_targeted_by_label(quiet=True)
        moved: Tensor = made(z, labels if target is None else target)
        return moved
