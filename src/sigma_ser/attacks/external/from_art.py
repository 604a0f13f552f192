"""Attacks of ART, the Adversarial Robustness Toolbox (Nicolae et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.errors import AttackError

from .peer import Peer, classes_of, runner_up

# These attacks always interpret labels as target classes.
_ALWAYS_TARGETED = frozenset({"SaliencyMapMethod"})


class ArtPeer(Peer):
    """`art.attacks.evasion.<name>`; `eps` defaults to the whole box, `eps_step` in proportion."""

    library = "art"
    packages = "adversarial-robustness-toolbox six"
    ours = frozenset({"estimator", "classifier", "targeted"})

    def members(self) -> dict[str, Callable[..., Any]]:
        evasion = self.imported("art.attacks.evasion")
        base = self.imported("art.attacks.attack").EvasionAttack
        return classes_of(evasion, base)

    def __call__(
        self,
        model: nn.Module,
        z: Float[Tensor, "R 1 T D"],
        labels: Int[Tensor, "R"],
        target: Int[Tensor, "R"] | None,
        elements: int,
    ) -> Float[Tensor, "R 1 T D"]:
        with torch.no_grad():
            logits = model(z)
        classes = logits.shape[1]
        classifier = self.imported("art.estimators.classification").PyTorchClassifier(
            model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(z.shape[1:]),
            nb_classes=classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if z.is_cuda else "cpu",
        )
        parameters = self.parameters()
        norm = self.settings.get("norm", float("inf"))
        radius = self.radius(float(norm), elements)
        settings = self.scaled(radius, self.settings, "eps", "eps_step")
        for name, value in {"verbose": False, "batch_size": len(z)}.items():
            if name in parameters:
                settings.setdefault(name, value)
        if "targeted" in parameters:
            settings["targeted"] = target is not None
        elif self.name in _ALWAYS_TARGETED:
            target = runner_up(logits, labels) if target is None else target
        else:
            self.refuse_target(target)
        made: Any = self.member()(classifier, **settings)
        wanted = labels if target is None else target
        one_hot = nn.functional.one_hot(wanted, classes).float()
        moved = made.generate(x=z.cpu().numpy(), y=one_hot.cpu().numpy())
        if moved is None:
            raise AttackError(f"art:{self.name} returned no result; use a different attack")
        return torch.as_tensor(moved).to(z)
