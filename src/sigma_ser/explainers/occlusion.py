"""Change of the output when blocks of the features are replaced by channel means, by Captum."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.registry import register

from .base import BaseExplainer
from .request import Request


@dataclass(frozen=True, kw_only=True)
class Blocks(BaseExplainer):
    """Base class of explainers that replace blocks of neighbouring frames and channels.

    Args:
        frames: number of frames of a block, at least 1.
        groups: number of groups of neighbouring channels, at least 1.
    """

    frames: int = 5
    groups: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(frames=(self.frames, 1), groups=(self.groups, 1))

    def width(self, channels: int) -> int:
        """Number of channels of a block."""
        return math.ceil(channels / min(self.groups, channels))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], None]:
        """One forward pass for each block and one for the clean features of each utterance."""
        saliency = torch.zeros_like(request.batch.x)
        with torch.no_grad():
            for row, length in enumerate(request.batch.lengths.tolist()):
                owner = request.all_utterances()[row : row + 1]
                # Captum accumulates in torch's default type.
                saliency[owner, :length] = self.drops(request, owner, length).to(saliency.dtype)
        return saliency, None

    @abstractmethod
    def drops(
        self, request: Request, owner: Int[Tensor, "1"], length: int
    ) -> Float[Tensor, "1 T D"]:
        """Compute the map of one utterance of `length` frames."""


@register("explainer", "occlusion")
@dataclass(frozen=True, kw_only=True)
class Occlusion(Blocks):
    """Occlusion by a window that slides over time and channel groups (Zeiler & Fergus 2014, 4.1).

    Windows overlap by half along time; the value of an element is the mean decrease of the output
    over the windows that contain it.
    """

    def drops(
        self, request: Request, owner: Int[Tensor, "1"], length: int
    ) -> Float[Tensor, "1 T D"]:
        """One pass for each position of the window."""
        from captum.attr import Occlusion as Captum

        frames, width = min(self.frames, length), self.width(request.batch.x.shape[2])
        saliency: Tensor = Captum(request.score).attribute(
            request.batch.x[owner, :length],
            sliding_window_shapes=(frames, width),
            strides=(max(1, frames // 2), width),
            baselines=request.baseline[owner, :length],
            additional_forward_args=(owner,),
            perturbations_per_eval=request.rows,
        )
        return saliency


@register("explainer", "feature-ablation")
@dataclass(frozen=True, kw_only=True)
class FeatureAblation(Blocks):
    """Ablation of the blocks of a grid, one at a time.

    The value of an element is the decrease of the output when its block is replaced.
    """

    def drops(
        self, request: Request, owner: Int[Tensor, "1"], length: int
    ) -> Float[Tensor, "1 T D"]:
        """One pass for each block."""
        from captum.attr import FeatureAblation as Captum

        channels = request.batch.x.shape[2]
        width = self.width(channels)
        device = request.batch.device
        row = torch.arange(length, device=device)[:, None] // self.frames
        column = torch.arange(channels, device=device)[None, :] // width
        saliency: Tensor = Captum(request.score).attribute(
            request.batch.x[owner, :length],
            baselines=request.baseline[owner, :length],
            additional_forward_args=(owner,),
            feature_mask=(row * math.ceil(channels / width) + column)[None],
            perturbations_per_eval=request.rows,
        )
        return saliency
