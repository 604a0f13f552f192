"""DeepLIFT by Captum, accepted only where its map is complete."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.errors import ExplainerError, SigmaError, VictimError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.registry import register

from .base import BaseExplainer
from .module import Scored, with_own_modules
from .references import draw_references
from .request import Request, explained_output

# Rounding error of float32 sums relative to their terms, and a margin.
_ROUNDING = 1e-6
# `warnings.catch_warnings` changes state of the whole process, so threads take turns.
_FILTER_LOCK = threading.Lock()


@register("explainer", "deeplift")
@dataclass(frozen=True, kw_only=True)
class DeepLift(BaseExplainer):
    """DeepLIFT with the rescale rule (Shrikumar, Greenside, Kundaje 2017, section 3.5.1).

    The rule is valid only where every non-linear operation of the victim is a module that Captum
    supports. It ignores the gates of recurrent layers, attention and standard deviations without a
    warning, so a map whose completeness gap exceeds the tolerance is an error.

    Args:
        tolerance: maximum gap, as a share of the largest change of a logit between the baseline
            `x0` and `x`, at least 0. The share does not depend on the scale of the logits.
    """

    tolerance: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(tolerance=(self.tolerance, 0))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"]]:
        """Two forward and two backward passes, and two forward passes for the check."""
        request = with_own_modules(request)
        saliency = torch.zeros_like(request.batch.x)
        gap = request.batch.x.new_zeros(len(request.batch))
        # Captum concatenates features and baselines, so half as many utterances fit.
        for group in torch.split(request.all_utterances(), max(1, request.rows // 2)):
            saliency[group], gap[group] = self.rescaled(request, group, request.baseline[group])
        return saliency, gap

    def rescaled(
        self, request: Request, owner: Int[Tensor, "R"], baseline: Float[Tensor, "R T D"]
    ) -> tuple[Float[Tensor, "R T D"], Float[Tensor, "R"]]:
        """Compute the map of each row against its baseline, and its completeness gap.

        Args:
            request: the call of the explainer.
            owner: `(R,)` the utterance of each row.
            baseline: `(R, T, D)` the baseline of each row.

        Returns:
            Maps `(R, T, D)` and gaps `(R,)`.

        Raises:
            ExplainerError: if the gap of a row exceeds the tolerance, or Captum cannot apply the
                rule to the victim.
        """
        x = request.batch.x[owner]
        clean, start = request.logits(x, owner), request.logits(baseline, owner)
        saliency = _captum(request, owner, x, baseline)
        labels = request.labels[owner]
        difference = explained_output(clean, labels, request.output)
        difference = difference - explained_output(start, labels, request.output)
        valid = request.batch.valid[owner][:, :, None]
        saliency = saliency.detach().masked_fill(~valid, 0.0)
        gap = saliency.sum((1, 2)) - difference
        largest = torch.maximum(clean.abs(), start.abs()).amax(1) + saliency.abs().sum((1, 2))
        allowed = self.tolerance * (clean - start).abs().amax(1) + _ROUNDING * largest
        wrong = ~(gap.abs() <= allowed)
        if bool(wrong.any()):
            worst = int((gap.abs() / allowed).nan_to_num(torch.inf).argmax())
            raise ExplainerError(
                f"DeepLIFT is not complete on this victim: its map sums to "
                f"{float(difference[worst] + gap[worst]):.4g} where the output changes by "
                f"{float(difference[worst]):.4g}; use integrated-gradients"
            )
        return saliency, gap


def _captum(
    request: Request,
    owner: Int[Tensor, "R"],
    x: Float[Tensor, "R T D"],
    baseline: Float[Tensor, "R T D"],
) -> Float[Tensor, "R T D"]:
    """The map by Captum; its exceptions become errors that name the remedy."""
    from captum.attr import DeepLift as Captum

    try:
        with _FILTER_LOCK, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Setting forward, backward hooks", UserWarning)
            saliency: Tensor = Captum(Scored(request)).attribute(
                x.requires_grad_(), baselines=baseline, additional_forward_args=(owner,)
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as fault:
        # The victim accepted these features just before, so that its errors are due to the hooks.
        if isinstance(fault, SigmaError) and not isinstance(fault, VictimError):
            raise
        raise ExplainerError(
            "DeepLIFT cannot be applied to this victim: its rule needs a gradient of the features, "
            "and every non-linear module called once with one tensor "
            f"({type(fault).__name__}); use integrated-gradients or occlusion"
        ) from fault
    return saliency


@register("explainer", "deeplift-shap")
@dataclass(frozen=True, kw_only=True)
class DeepLiftShap(DeepLift):
    """DeepLIFT averaged over random baselines (Lundberg & Lee 2017, section 4.2).

    Args:
        samples: number of baselines for each utterance, at least 1.
        references: utterances from which baselines are drawn; `None` draws Gaussian channel
            offsets with the victim's mean and scale.
    """

    samples: int = 8
    references: FeatureBatch | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(samples=(self.samples, 1))

    def attribute(self, request: Request) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"]]:
        """`samples` times the passes of DeepLIFT; the gap is the mean over baselines."""
        request = with_own_modules(request)
        saliency = torch.zeros_like(request.batch.x)
        gap = request.batch.x.new_zeros(len(request.batch))
        noise = request.noise()
        for group in torch.split(request.all_utterances(), max(1, request.rows // 2)):
            source, x = noise.select(group.tolist()), request.batch.x[group]
            for _ in range(self.samples):
                baseline = draw_references(self.references, request.victim, source, x)
                sample, sample_gap = self.rescaled(request, group, baseline)
                saliency[group] += sample / self.samples
                gap[group] += sample_gap / self.samples
        return saliency, gap
