"""The method `frame-ablation`: a smoothed victim that sees a few random frames."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import beta
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import CertificateError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.registry import register
from sigma_ser.core.seeds import utterance_seeds

from .allowed import checked_task
from .certificate import Certificate

_AT_ONCE = 250
# Far above the rounding of probabilities in float64, far below one vote.
_ROUNDING = 1e-12


@register("certificate", "frame-ablation")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FrameAblation:
    """Randomised frame ablation (Levine & Feizi 2020, for sparse changes of images; here frames).

    It certifies the smoothed victim, which is another model: its class is the one that the victim
    predicts most often on `kept` random frames of an utterance; the other frames are dropped. A
    change of `f` frames reaches a random choice of `r` of `T` frames with probability
    `Delta = 1 - C(T - f, r) / C(T, r)`. The margin is `p - Delta - 1/2`, where `p` is a lower
    confidence bound of the probability of the class `y`; it is a probability and no logit. The
    utterance is certified at confidence `1 - alpha` if the margin is positive. The size of the
    change plays no role, so any epsilon has the same certificate.

    Args:
        kept: number of frames that the victim receives, at least 1; `None`: a tenth of them.
        samples: number of random choices for the bound, at least 1. If an utterance has no more
            choices than this, all of them are visited, and the bound is exact.
        selection: number of further choices that determine the class of the smoothed victim.
        alpha: error probability of the certificate of one utterance, in (0, 1).
        seed: random seed.
    """

    name: ClassVar[str] = "frame-ablation"
    proven: ClassVar[bool] = True
    smoothed: ClassVar[bool] = True

    kept: int | None = None
    samples: int = 1000
    selection: int = 100
    alpha: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("samples", "selection"):
            if getattr(self, name) < 1:
                raise CertificateError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.kept is not None and self.kept < 1:
            raise CertificateError(f"kept must be at least 1 frame, got {self.kept}")
        if not 0 < self.alpha < 1:
            raise CertificateError(f"alpha must lie in (0, 1), got {self.alpha}")

    def suits(self, victim: Victim) -> bool:
        """Whether the victim accepts utterances of any length, which cannot be seen: yes."""
        return True

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        budget: Budget,
        *,
        mask: Bool[Tensor, "B T D"] | None = None,
    ) -> Certificate:
        """Certify a batch; the margin is a probability."""
        labels, _ = checked_task(victim, batch, labels, mask)
        touched = touched_frames(batch, budget, mask)
        seeds = utterance_seeds(batch.ids, self.seed, self.name)
        margins = torch.zeros(len(batch), dtype=torch.float64)
        for row, frames in enumerate(batch.lengths.tolist()):
            votes = self._votes(victim, batch.x[row, :frames], int(labels[row]), int(seeds[row]))
            reached = reach_probability(frames, self._kept(frames), touched[row])
            margins[row] = votes - reached - 0.5 - _ROUNDING
        allowance = torch.full_like(margins, _ROUNDING)
        return Certificate(margins, self.name, self.proven, allowance)

    def predict(self, victim: Victim, batch: FeatureBatch) -> Int[Tensor, "B"]:
        """Predict the classes of the smoothed victim.

        Args:
            victim: the victim.
            batch: features `(B, T, D)`.

        Returns:
            The class with the most votes, `(B,)`, of which the certificate speaks.
        """
        seeds = utterance_seeds(batch.ids, self.seed, self.name)
        classes = [
            int(self._selected(victim, batch.x[row, :frames], int(seeds[row])).argmax())
            for row, frames in enumerate(batch.lengths.tolist())
        ]
        return torch.tensor(classes)

    def _kept(self, frames: int) -> int:
        return min(frames, self.kept or max(1, frames // 10))

    def _exact(self, frames: int) -> bool:
        return math.comb(frames, self._kept(frames)) <= self.samples

    def _selected(self, victim: Victim, x: Float[Tensor, "T D"], seed: int) -> Float[Tensor, "C"]:
        """Votes that choose the class, from choices that the bound does not use."""
        if self._exact(len(x)):
            return _count(victim, x, every_choice(len(x), self._kept(len(x))))
        rng = torch.Generator().manual_seed(seed)
        return _count(victim, x, random_choices(len(x), self._kept(len(x)), self.selection, rng))

    def _votes(self, victim: Victim, x: Float[Tensor, "T D"], label: int, seed: int) -> float:
        """A lower bound of the probability of the label; 0 if it is not the class chosen."""
        selected = self._selected(victim, x, seed)
        if int(selected.argmax()) != label:
            return 0.0
        if self._exact(len(x)):
            return float(selected[label] / selected.sum())
        # Not the stream of the selection, whose choices must not be seen again.
        rng = torch.Generator().manual_seed(seed ^ 1)
        choices = random_choices(len(x), self._kept(len(x)), self.samples, rng)
        hits = int(_count(victim, x, choices)[label])
        return clopper_pearson(hits, self.samples, self.alpha)


def clopper_pearson(hits: int, samples: int, alpha: float) -> float:
    """Compute the one-sided lower bound of a proportion (Clopper & Pearson 1934).

    Args:
        hits: number of successes.
        samples: number of trials.
        alpha: probability that the proportion is smaller.

    >>> round(clopper_pearson(1000, 1000, 0.001), 4)
    0.9931
    """
    return float(beta.ppf(alpha, hits, samples - hits + 1)) if hits else 0.0


def reach_probability(frames: int, kept: int, touched: int) -> float:
    """Compute `Delta = 1 - C(T - f, r) / C(T, r)`, the probability that a change is seen.

    >>> reach_probability(10, 2, 1)
    0.2
    """
    unseen = math.comb(max(frames - touched, 0), kept)
    total = math.comb(frames, kept)
    return (total - unseen) / total


def touched_frames(
    batch: FeatureBatch, budget: Budget, mask: Bool[Tensor, "B T D"] | None
) -> list[int]:
    """The largest number of frames of each utterance that an allowed change can touch."""
    valid = batch.valid[:, :, None].expand(batch.x.shape)
    inside = (valid if mask is None else mask & valid).any(2)
    reachable = inside.sum(1)
    units = budget.units(batch.lengths, batch.x.shape[2])
    if budget.granularity == "channel":
        return [int(count) for count in reachable]
    if budget.granularity == "segment":
        frames = torch.zeros(batch.x.shape, dtype=torch.float64)
        frames[..., 0] = inside.double().cpu()
        sums = budget.unit_scores(frames, batch.lengths.cpu()).sort(1, descending=True).values
        return [int(row[: int(k)].sum()) for row, k in zip(sums, units, strict=True)]
    return torch.minimum(units, reachable).tolist()


def every_choice(frames: int, kept: int) -> Int[Tensor, "N R"]:
    """All `C(T, r)` choices of frames, in their order."""
    return torch.combinations(torch.arange(frames), kept)


def random_choices(
    frames: int, kept: int, samples: int, rng: torch.Generator
) -> Int[Tensor, "N R"]:
    """Uniform random choices of `kept` of `frames` frames, in their order."""
    order = torch.rand(samples, frames, generator=rng, dtype=torch.float64).argsort(1)
    return order[:, :kept].sort(1).values


def _count(
    victim: Victim, x: Float[Tensor, "T D"], choices: Int[Tensor, "N R"]
) -> Float[Tensor, "C"]:
    """Number of choices for which the victim predicts each class."""
    total: Tensor | int = 0
    for start in range(0, len(choices), _AT_ONCE):
        part = choices[start : start + _AT_ONCE].to(x.device)
        lengths = torch.full((len(part),), part.shape[1], device=x.device)
        with torch.no_grad():
            logits = victim(x[part], lengths)
        total = total + torch.bincount(logits.argmax(1), minlength=logits.shape[1])
    assert isinstance(total, Tensor)
    return total.double().cpu()
