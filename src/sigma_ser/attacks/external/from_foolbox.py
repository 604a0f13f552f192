"""Attacks of foolbox (Rauber, Brendel & Bethge 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from .peer import Peer, classes_of

_NORMS = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}


class FoolboxPeer(Peer):
    """`foolbox.attacks.<name>`; `epsilons` is the radius in the box and defaults to that of `k`."""

    library = "foolbox"
    packages = "foolbox eagerpy GitPython gitdb smmap"

    def members(self) -> dict[str, Callable[..., Any]]:
        attacks = self.imported("foolbox.attacks")
        return classes_of(attacks, attacks.Attack)

    def known(self) -> list[str]:
        return [*super().known(), "epsilons"]

    def __call__(
        self,
        model: nn.Module,
        z: Float[Tensor, "R 1 T D"],
        labels: Int[Tensor, "R"],
        target: Int[Tensor, "R"] | None,
        elements: int,
    ) -> Float[Tensor, "R 1 T D"]:
        foolbox = self.imported("foolbox")
        settings = dict(self.settings)
        epsilons = settings.pop("epsilons", None)
        made = self.member()(**settings)
        if epsilons is None and isinstance(made, foolbox.attacks.base.FixedEpsilonAttack):
            epsilons = self.radius(_NORMS[_norm_of(made, foolbox)], elements)
        criterion = (
            foolbox.criteria.Misclassification(labels)
            if target is None
            else foolbox.criteria.TargetedMisclassification(target)
        )
        view = foolbox.PyTorchModel(model, bounds=(0, 1), device=z.device)
        _, found, _ = made(view, z, criterion, epsilons=epsilons)
        moved: Tensor = found
        return moved


def _norm_of(made: Any, foolbox: Any) -> str:
    distances = {name: getattr(foolbox.distances, name) for name in _NORMS}
    named = [name for name, distance in distances.items() if made.distance == distance]
    # Attacks without a norm receive the whole box.
    return named[0] if named else "linf"
