"""The wave with the smallest value of a function, near a given wave: projected Adam."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import ShapeError
from sigma_ser.core.seeds import UtteranceNoise

from .waveform import FULL_SCALE


@dataclass(frozen=True, kw_only=True)
class WaveSearch:
    """Adam (Kingma & Ba 2015) with a cosine schedule, projected after each step.

    Args:
        steps: number of gradient steps of each search, at least 1.
        restarts: number of searches, at least 1. The first one starts at the wave, the others at
            random points.
        step_size: first step as a share of the radius, or without one of the root mean square of
            the wave, above 0.

    Raises:
        ShapeError: if a setting is out of its range.
    """

    steps: int
    restarts: int
    step_size: float

    def __post_init__(self) -> None:
        for name in ("steps", "restarts"):
            if getattr(self, name) < 1:
                raise ShapeError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.step_size > 0:
            raise ShapeError(f"step_size must be above 0, got {self.step_size}")

    def __call__(
        self,
        value: Callable[[Tensor], Tensor],
        wave: Float[Tensor, "S"],
        radius: float,
        noise: UtteranceNoise,
    ) -> Float[Tensor, "S"]:
        """Search the wave of the smallest value within full scale and `radius` of each sample.

        Args:
            value: a differentiable function from a wave to a number.
            wave: the centre; its samples outside full scale may stay.
            radius: largest change of a sample, above 0; infinite: no limit.
            noise: of this one utterance, for the starting points.

        Returns:
            The best of all evaluated waves, the given one included.
        """
        unit = radius if math.isfinite(radius) else float(wave.square().mean().sqrt())
        if not unit > 0:
            return wave
        low = torch.maximum(wave - radius, wave.clamp(max=FULL_SCALE[0]))
        high = torch.minimum(wave + radius, wave.clamp(min=FULL_SCALE[1]))
        best, found = math.inf, wave
        for restart in range(self.restarts):
            start = wave
            if restart:
                draw = noise.uniform(wave[None, :, None])[0, :, 0]
                start = (wave + unit * draw).clamp(low, high)
            reached, candidate = self._descend(value, start, (low, high), unit)
            if reached < best:
                best, found = reached, candidate
        return found

    @torch.enable_grad()
    def _descend(
        self,
        value: Callable[[Tensor], Tensor],
        start: Float[Tensor, "S"],
        limits: tuple[Tensor, Tensor],
        unit: float,
    ) -> tuple[float, Float[Tensor, "S"]]:
        wave = start.clone().requires_grad_()
        # The gradients may be small, and eps must not shorten the steps.
        adam = torch.optim.Adam([wave], lr=self.step_size * unit, eps=1e-20)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, self.steps)
        best, found = math.inf, start
        for step in range(self.steps + 1):
            reached = value(wave)
            if (number := float(reached.detach())) < best:
                best, found = number, wave.detach().clone()
            if step == self.steps:
                break
            (wave.grad,) = torch.autograd.grad(reached, wave)
            adam.step()
            schedule.step()
            with torch.no_grad():
                wave.clamp_(*limits)
        return best, found
