"""Gradient checks: signs that a failed attack says nothing about the robustness of a victim."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import GradientError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.gradient_signs import SIGNS
from sigma_ser.core.passes import CountedVictim, input_gradient
from sigma_ser.core.topk import topk_support
from sigma_ser.explainers.request import check_integers
from sigma_ser.victims.one_by_one import OneByOne

from .dual_averaging import DualAveraging
from .finite_differences import contradicted
from .reselect import Reselect
from .sparse_rs import SparseRS
from .spgd import SparsePGD
from .surrogate_gradient import are_probabilities

# Thresholds of the signs, as shares of the utterances or of the range of the logits.
_FLAT_SHARE = 0.2
_WRONG_SHARE = 0.2
_UNBOUNDED_SHARE = 0.95
_BLACK_BOX_SHARE, _BLACK_BOX_LEAST = 0.05, 2
_RANDOM_RANGE = 1e-5
_COMPANY_RANGE = 1e-4
# Differences between utterances in company count only where they exceed those of repetition.
_ABOVE_NOISE = 10.0
_SURVIVORS, _QUERIES = 16, 200
# The large bound: ten times the one asked for, and at least ten standard deviations.
_LARGE_FACTOR, _LARGE_LEAST = 10.0, 10.0
_EPS = torch.finfo(torch.float32).eps


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """The figures of a gradient check, and the signs of masked gradients that follow from them.

    A figure is `None` where it could not be measured: without recognised utterances, without a
    gradient, or on a victim whose logits are random.

    Attributes:
        utterances: number of utterances that the victim classifies correctly.
        zero_gradient: share of them whose gradient is zero or missing.
        probabilities: whether all outputs lie in [0, 1] and sum to 1.
        random: largest difference between the logits of two passes over the same input, relative
            to the range of the logits.
        batch_dependent: the same between an utterance alone and in its batch.
        surviving: number of utterances that gradient attacks did not fool and that were attacked
            without gradients.
        black_box_wins: number of those that were fooled without gradients.
        wrong_slope: share of utterances whose finite differences contradict the gradient.
        unbounded: success rate of gradient attacks at full sparsity and a large epsilon.
        passes: mean number of forward and backward passes per utterance.
    """

    utterances: int
    zero_gradient: float | None
    probabilities: bool
    random: float
    batch_dependent: float | None
    surviving: int | None
    black_box_wins: int | None
    wrong_slope: float | None
    unbounded: float | None
    passes: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """The signs that were found, a subset of `SIGNS`."""
        noise = _ABOVE_NOISE * self.random
        wins = self.black_box_wins or 0
        found = {
            "zero-gradient": (self.zero_gradient or 0.0) > _FLAT_SHARE,
            "probabilities": self.probabilities,
            "random": self.random > _RANDOM_RANGE,
            "batch-dependent": (self.batch_dependent or 0.0) > max(_COMPANY_RANGE, noise),
            "black-box-wins": wins >= max(_BLACK_BOX_LEAST, _BLACK_BOX_SHARE * self.utterances),
            "wrong-slope": (self.wrong_slope or 0.0) > _WRONG_SHARE,
            "unbounded-fails": self.unbounded is not None and self.unbounded < _UNBOUNDED_SHARE,
        }
        return tuple(sign for sign in SIGNS if found[sign])

    @property
    def masked(self) -> bool:
        """Whether there is any sign: a failed attack is then no evidence of robustness."""
        return bool(self.warnings)

    def record(self) -> dict[str, Any]:
        """Plain data for JSON: `masked`, `signs`, and all figures."""
        figures = dataclasses.asdict(self)
        return {"masked": self.masked, "signs": list(self.warnings), **figures}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> GradientCheck:
        """The check of a `record`."""
        return cls(**{field.name: record[field.name] for field in dataclasses.fields(cls)})


def check_gradients(
    victim: Victim, batch: FeatureBatch, labels: Int[Tensor, "B"], budget: Budget
) -> GradientCheck:
    """Look for signs that gradient attacks fail because gradients are masked.

    The signs follow Athalye, Carlini & Wagner (2018), Carlini et al. (2019) and Tramer et al.
    (2020): zero or wrong gradients, randomness, dependence on the batch, probabilities instead of
    logits, attacks without gradients that succeed where gradient attacks fail, and attacks that
    fail although the bound is practically absent.

    Args:
        victim: the classifier, in eval mode.
        batch: clean features `(B, T, D)`.
        labels: true class indices `(B,)`; only correctly classified utterances are attacked.
        budget: the largest budget of interest; the attacks of the check use it.

    Returns:
        The measured values, with `.warnings` (the names of the signs that were found) and `.masked`
        (whether there is any).

    Raises:
        ShapeError: if the labels are not one integer for each utterance.
        VictimError: if the victim returns logits that are not finite.

    >>> import torch, sigma_ser as ss
    >>> class Rounded(torch.nn.Linear):
    ...     def forward(self, x, lengths):
    ...         return super().forward(x.sum(1) / lengths[:, None]).round()
    >>> victim = ss.wrap(Rounded(8, 3).eval())
    >>> batch = ss.FeatureBatch(torch.randn(6, 5, 8), torch.full((6,), 5))
    >>> labels = victim(batch.x, batch.lengths).argmax(1)
    >>> check = ss.check_gradients(victim, batch, labels, ss.Budget(sparsity=0.1))
    >>> check.masked, check.warnings[0]
    (True, 'zero-gradient')
    """
    check_integers("labels (class indices)", labels, len(batch))
    counted = CountedVictim(victim, batch)
    with torch.no_grad():
        logits = counted(batch.x, batch.lengths)
        extent = float(logits.max() - logits.min()) or 1.0
        random = _difference(logits, counted(batch.x, batch.lengths), extent)
        alone = None
        if len(batch) > 1:
            alone = _difference(logits, OneByOne(counted)(batch.x, batch.lengths), extent)
    here: Victim = counted
    if alone is not None and alone > max(_COMPANY_RANGE, _ABOVE_NOISE * random):
        here = OneByOne(counted)
        with torch.no_grad():
            logits = here(batch.x, batch.lengths)
    labels = labels.to(logits.device)
    known = int((logits.argmax(1) == labels).sum())
    probe = _Probe(here, batch, labels, logits, budget) if known else None
    steady = random <= _RANDOM_RANGE
    zero = None if probe is None else float(probe.flat.float().mean())
    surviving, wins = probe.black_box() if probe is not None and steady else (None, None)
    return GradientCheck(
        utterances=known,
        zero_gradient=zero,
        probabilities=bool(are_probabilities(logits).all()),
        random=random,
        batch_dependent=alone,
        surviving=surviving,
        black_box_wins=wins,
        wrong_slope=probe.wrong_slope() if probe is not None and steady else None,
        unbounded=probe.unbounded() if probe is not None and steady else None,
        passes=float(counted.forwards.sum() + counted.backwards.sum()) / len(batch),
    )


def _difference(one: Tensor, other: Tensor, extent: float) -> float:
    return float((one - other).abs().max()) / extent


class _Probe:
    """The correctly classified utterances of a check, and their gradient."""

    def __init__(
        self, victim: Victim, batch: FeatureBatch, labels: Tensor, logits: Tensor, budget: Budget
    ) -> None:
        rows = (logits.argmax(1) == labels).nonzero()[:, 0]
        self.victim = victim
        self.batch = batch.select(rows)
        valid = self.batch.valid[:, :, None]
        self.batch = FeatureBatch(
            self.batch.x.masked_fill(~valid, 0.0), self.batch.lengths, self.batch.ids
        )
        self.labels = labels[rows]
        self.budget = _of_rows(budget, rows)
        self.scale = CountedVictim(victim, self.batch).scale
        self.largest = logits[rows].abs().amax(1)
        others = logits[rows].scatter(1, self.labels[:, None], -torch.inf)
        self.rival = others.argmax(1)
        self.gradient = self._gradient()
        self.flat = self._flat()

    def _margin(self, x: Float[Tensor, "R T D"]) -> Float[Tensor, "R"]:
        """`z_rival - z_y`, for the rival of the clean input."""
        logits = self.victim(x, self.batch.lengths)
        pair = torch.stack([self.rival, self.labels], 1)
        rival, own = logits.gather(1, pair).unbind(1)
        return rival - own

    def _gradient(self) -> Tensor | None:
        """The gradient of the margin; `None` if there is none, or one that is not finite."""
        x = self.batch.x.clone().requires_grad_()
        try:
            with torch.enable_grad():
                gradient = input_gradient(self._margin(x).sum(), x)
        except GradientError:
            return None
        return gradient if bool(torch.isfinite(gradient).all()) else None

    def _flat(self) -> Bool[Tensor, "R"]:
        """Whether no change within the budget moves the margin, to first order."""
        if self.gradient is None:
            return torch.ones_like(self.largest, dtype=torch.bool)
        gain = self.gradient.abs() * self.budget.bound(self.scale)
        lengths, channels = self.batch.lengths, self.batch.x.shape[2]
        scores = self.budget.unit_scores(gain, lengths)
        allowed = self.budget.unit_allowed(None, lengths, self.batch.x.shape)
        chosen = topk_support(scores, self.budget.units(lengths, channels), allowed)
        reach = torch.where(chosen, scores, 0.0).sum(1)
        return reach < _EPS * self.largest

    def wrong_slope(self) -> float | None:
        """Share of tested utterances whose central differences contradict the gradient."""
        if self.gradient is None:
            return None
        return contradicted(self._margin, self.gradient, self.batch, self.scale, self.largest)

    def unbounded(self) -> float | None:
        """Success rate of a gradient attack that may change every element by a large amount."""
        if self.gradient is None:
            return None
        if bool(self.flat.all()):
            return 0.0
        largest = float(torch.as_tensor(self.budget.epsilon).max())
        budget = Budget(sparsity=1.0, epsilon=max(_LARGE_FACTOR * largest, _LARGE_LEAST))
        attack = DualAveraging(rounds=1, all_targets=True)
        result = attack(self.victim, self.batch, self.labels, budget)
        return float(result.success.float().mean())

    def black_box(self) -> tuple[int, int]:
        """Number of survivors that were attacked without gradients, and of those it fooled."""
        # Gradient attacks do not move utterances whose gradient is zero.
        steep = (~self.flat).nonzero()[:, 0]
        left = self.flat.clone()
        if len(steep):
            left[steep] = ~self._fooled(DualAveraging(all_targets=True), steep)
        left = left.nonzero()[:, 0][:_SURVIVORS]
        if not len(left):
            return 0, 0
        fooled = left[self._fooled(SparseRS(queries=_QUERIES), left)]
        # A win counts only where stronger gradient attacks fail as well.
        for attack in (DualAveraging(steps=50), Reselect(), SparsePGD()):
            steep = ~self.flat[fooled]
            if bool(steep.any()):
                defeated = steep.clone()
                defeated[steep] = self._fooled(attack, fooled[steep])
                fooled = fooled[~defeated]
        return len(left), len(fooled)

    def _fooled(self, attack: Any, rows: Int[Tensor, "R"]) -> Bool[Tensor, "R"]:
        budget = _of_rows(self.budget, rows)
        result = attack(self.victim, self.batch.select(rows), self.labels[rows], budget)
        success: Tensor = result.success
        return success


def _of_rows(budget: Budget, rows: Int[Tensor, "R"]) -> Budget:
    """The budget of some utterances, where it differs between utterances."""
    changes: dict[str, Any] = {}
    if isinstance(budget.count, Tensor) and budget.count.ndim:
        changes["count"] = budget.count[rows.cpu()]
    if isinstance(budget.epsilon, Tensor) and budget.epsilon.ndim == 2:
        changes["epsilon"] = budget.epsilon[rows.cpu()]
    return dataclasses.replace(budget, **changes) if changes else budget
