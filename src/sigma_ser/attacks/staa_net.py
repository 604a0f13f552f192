"""STAA-Net: one forward pass of a trained generator instead of a search."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from sigma_ser.core.errors import AttackError
from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack
from .generator import Generator


@register("attack", "staa-net")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class StaaNet(SparseAttack):
    """A generator gives magnitudes and places in one pass (Chang et al. 2024, arXiv 2402.01227).

    `delta = epsilon * scale * v * m`, where `v` are the magnitudes of the generator and `m` selects
    the `k` allowed units of the largest scores. The victim is evaluated once, and its gradient is
    needed for training only (`generator_training.train_generator`). This differs from the
    paper: `m` is the exact top-k of a budget, where the paper learns its size by penalties on the
    sparsity and the quantisation of the mask; the generator has three levels and one decoder with
    two outputs, which are normalised over the utterance; and features `(B, T, D)` can be attacked
    as well as waves `(B, S, 1)`, by a generator for `D` channels. A generator is trained for any
    wrong class; with a target, its perturbation is the same, and success is that of the target.

    Args:
        generator: a trained `generator.Generator`, or the folder that holds one. It is
            shown in the settings by the hash of its weights.

    Raises:
        AttackError: without a generator, if it cannot be read, or in a call, if it was trained for
            another number of channels.
    """

    generator: Generator | str | Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.generator, str | Path):
            object.__setattr__(self, "generator", Generator.load(self.generator))
        if not isinstance(self.generator, Generator):
            raise AttackError(
                "staa-net needs a trained generator: train one with ss.attacks.train_generator("
                "victim, waves, labels, budget, checkpoint=FOLDER) and pass generator=FOLDER"
            )

    def check(self, active: ActiveSet) -> None:
        """Reject features of another width.

        Raises:
            AttackError: if the generator was trained for another number of channels.
        """
        super().check(active)
        assert isinstance(self.generator, Generator)
        channels = active.x.shape[2]
        if self.generator.channels != channels:
            raise AttackError(
                f"the generator was trained for {self.generator.channels} channels, and the "
                f"features have {channels}; train one on such features with "
                "ss.attacks.train_generator"
            )

    @torch.no_grad()
    def search(self, active: ActiveSet) -> None:
        assert isinstance(self.generator, Generator)
        magnitude, score = self.generator(
            active.x, active.lengths, active.victim.mean, active.victim.scale
        )
        delta = torch.where(active.support(score), active.bound * magnitude, 0.0)
        active.observe(active.clip(delta))
