"""Explanations of features over the samples of the waveform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.contracts import Explainer, Explanation, MapKind, Victim
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.victims.waveform import WaveformModel

from .explanation import as_explainer, explanation
from .ranking import ranking_scale, ranking_scores


@dataclass(frozen=True, init=False)
class OverTime:
    """An explainer of victims on the waveform that explains their features.

    Each frame of the features has a score, the sum of the ranking scores of its channels, and each
    sample the score of its frame. A mask of the top samples so restricts an attack on the audio to
    the time that the explanation of the features points to.

    Args:
        explainer: of the features: a name of `registry.names("explainer")`, or an explainer.
            Perturbation-based ones are cheap here, since they run the head alone.

    Raises:
        UnknownNameError: if no explainer has this name.
        ExplainerError: if `explainer` is not an explainer.

    >>> OverTime("gradient")
    OverTime(explainer=Gradient(output='logit', rows=64, memory=None))
    """

    kind: ClassVar[MapKind] = "attribution"

    explainer: Explainer

    def __init__(self, explainer: str | Explainer) -> None:
        object.__setattr__(self, "explainer", as_explainer(explainer))

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> Explanation:
        """Explain class `labels` of each utterance.

        Args:
            victim: from `sigma_ser.on_waveform`.
            batch: waves `(B, S, 1)`.
            labels: class indices `(B,)`.
            seeds: `(B,)`, one for each utterance; `None` derives them from the ids.

        Returns:
            Scores `(B, S, 1)`, at least 0, zero on padding, with the passes of the explainer of the
            features: those of the head, and one forward pass of the encoder.

        Raises:
            ExplainerError: if the victim is not one of `on_waveform`, or its features cannot be
                explained.
        """
        model = getattr(victim, "module", None)
        if not isinstance(model, WaveformModel):
            raise ExplainerError(
                f"OverTime explains the features behind a victim of ss.on_waveform, got a "
                f"{type(victim).__name__} without an encoder; explain it directly with "
                f"{self.explainer!r}"
            )
        features = model.features(batch)
        found = explanation(self.explainer, model.victim, features, labels, seeds=seeds)
        scale = ranking_scale(self.explainer.kind, model.victim, features)
        scores = ranking_scores(found.saliency, features.lengths, scale=scale).sum(2)
        hop = round(model.encoder.frame_seconds * SAMPLE_RATE)
        saliency = laid_over_time(scores, features.lengths, batch.lengths, hop)
        saliency = torch.nn.functional.pad(
            saliency, (0, 0, 0, batch.x.shape[1] - saliency.shape[1])
        )
        return Explanation(saliency.to(batch.x), found.forwards + 1, found.backwards)


def laid_over_time(
    scores: Float[Tensor, "B T"],
    frames: Int[Tensor, "B"],
    samples: Int[Tensor, "B"],
    hop: int,
) -> Float[Tensor, "B S 1"]:
    """Give each sample the score of its frame: frame `t` covers samples `t * hop` to the next hop.

    Samples behind the last whole hop have the score of the last frame. In a mask of the top
    samples of such a map, whole frames follow one another, best first, and the last one is cut to
    the size of the mask.

    Args:
        scores: of frames, `(B, T)`.
        frames: valid frames `(B,)`, each from 1 to `T`.
        samples: valid samples `(B,)`, each at least 1.
        hop: samples from one frame to the next, at least 1.

    Returns:
        `(B, S, 1)` with `S = max(samples)`, zero on padding.

    Raises:
        ShapeError: if the shapes do not fit, or a number is out of its range.

    >>> laid_over_time(torch.tensor([[1.0, 2.0]]), torch.tensor([2]), torch.tensor([5]), 2)[0, :, 0]
    tensor([1., 1., 2., 2., 2.])
    """
    if hop < 1:
        raise ShapeError(f"hop must be at least 1 sample, got {hop}")
    if not len(scores) == len(frames) == len(samples):
        raise ShapeError(
            f"scores, frames and samples must be of the same utterances, got {len(scores)}, "
            f"{len(frames)} and {len(samples)}"
        )
    if not bool(((frames >= 1) & (frames <= scores.shape[1]) & (samples >= 1)).all()):
        raise ShapeError(
            f"each utterance needs 1 to {scores.shape[1]} frames and at least one sample, got "
            f"{frames.tolist()} and {samples.tolist()}"
        )
    longest = int(samples.max()) if len(samples) else 0
    frame = torch.arange(longest, device=scores.device) // hop
    last = (frames.to(scores.device) - 1)[:, None]
    laid = scores.gather(1, torch.minimum(frame[None, :], last))
    valid = valid_frames(samples.to(scores.device), longest)
    return laid.masked_fill(~valid, 0.0)[:, :, None]
