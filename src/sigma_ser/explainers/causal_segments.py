"""Scores of segments of time, each given only what precedes or only what follows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.registry import register

from .base import BaseExplainer, gap
from .request import Request

Direction = Literal["forward", "backward"]


@register("explainer", "causal-segments")
@dataclass(frozen=True, kw_only=True)
class CausalSegments(BaseExplainer):
    """Score of a segment: `f(x_1..x_j) - f(x_1..x_{j-1})`, where later segments are channel means.

    The frames of an utterance are divided into segments, which are revealed in the order of time.
    The score of a segment is the change of the output when it is added to what precedes it, so it
    does not depend on anything that follows (`forward`); `backward` reveals from the end. The
    scores sum to `f(x) - f(mean)`. They are spread evenly over the elements of the segment. The
    idea of scores over time from causal masking is that of arXiv 2606.10912; the definition is of
    this project.

    Args:
        frames: number of frames of a segment, at least 1; the last segment may be shorter.
        direction: `forward` or `backward`.
    """

    frames: int = 10
    direction: Direction = "forward"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(frames=(self.frames, 1))
        if self.direction not in get_args(Direction):
            raise ExplainerError(
                f"direction must be one of {', '.join(get_args(Direction))}, got {self.direction!r}"
            )

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"]]:
        """One forward pass for each segment, and one for the channel means."""
        x, lengths, baseline = request.batch.x, request.batch.lengths, request.baseline
        place = torch.arange(x.shape[1], device=x.device)[None, :]
        # Segments begin at the first frame in both directions, so that both divide time alike.
        segment = place // self.frames
        count = (lengths + self.frames - 1) // self.frames
        saliency = torch.zeros_like(x)
        before = request.values(baseline)
        for turn in range(int(count.max())):
            rows = (count > turn).nonzero()[:, 0]
            added = torch.full_like(rows, turn)
            if self.direction == "backward":
                added = count[rows] - 1 - turn
            known = segment <= added[:, None]
            if self.direction == "backward":
                known = segment >= added[:, None]
            shown = torch.where(known[:, :, None], x[rows], baseline[rows])
            after = request.values(shown, rows)
            here = (segment == added[:, None]) & (place < lengths[rows][:, None])
            each = (after - before[rows]) / (here.sum(1) * x.shape[2])
            saliency[rows] += each[:, None, None] * here[:, :, None]
            before = before.index_copy(0, rows, after)
        return saliency, gap(request, saliency, baseline)
