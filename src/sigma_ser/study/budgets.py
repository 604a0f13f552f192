"""The grid of budgets of a study, before the utterances of a batch are known."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core import registry
from sigma_ser.core.budget import Budget, Granularity
from sigma_ser.core.features import FeatureBatch

from .sections import FEATURES, BudgetSection, CorruptionSection, Surface

# 20 ms of samples, and the default of `Budget` for frames.
_SEGMENT_SAMPLES = SAMPLE_RATE // 50
_SEGMENT_FRAMES = Budget(sparsity=1.0).segment_frames


@dataclass(frozen=True)
class PlannedBudget:
    """One budget of a study.

    Args:
        sparsity: share of the units that may change.
        epsilon: bound in units of scale; `None` where `snr` is given.
        snr: smallest signal-to-noise ratio over an utterance in dB; `None` where `epsilon` is.
        granularity: the units.
        segment_frames: length of a segment in frames, or in samples on the waveform.
    """

    sparsity: float
    epsilon: float | None
    snr: float | None
    granularity: Granularity
    segment_frames: int

    @property
    def units(self) -> Budget:
        """How many units may change: all that a mask depends on."""
        return Budget(
            sparsity=self.sparsity,
            granularity=self.granularity,
            segment_frames=self.segment_frames,
        )

    @property
    def strength(self) -> tuple[float, float, float]:
        """Increases with what the budget allows, among the budgets of one grid."""
        return (self.epsilon or 0.0, -(self.snr or 0.0), self.sparsity)

    @property
    def parts(self) -> dict[str, Any]:
        """What it is made of, for keys."""
        return asdict(self)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of the rows that identify it."""
        return {
            "granularity": self.granularity,
            "sparsity": self.sparsity,
            "epsilon": self.epsilon,
            "budget_snr": self.snr,
        }

    def of(self, batch: FeatureBatch) -> Budget:
        """The budget of each utterance of a batch.

        Args:
            batch: features, or waves where the budget is a signal-to-noise ratio.
        """
        if self.snr is not None:
            return Budget.from_snr(
                batch,
                self.snr,
                self.sparsity,
                granularity=self.granularity,
                segment_frames=self.segment_frames,
            )
        assert self.epsilon is not None
        return Budget(
            sparsity=self.sparsity,
            epsilon=self.epsilon,
            granularity=self.granularity,
            segment_frames=self.segment_frames,
        )


def budgets_of(section: BudgetSection, surface: Surface) -> Iterator[PlannedBudget]:
    """Every budget of a study on one surface.

    A sample is a frame of one channel, so there are neither frames nor channels on the waveform:
    those granularities are left out there.

    Args:
        section: of the study.
        surface: `features` or `waveform`.
    """
    on_features = surface == FEATURES
    frames = _SEGMENT_FRAMES if on_features else _SEGMENT_SAMPLES
    ratios = None if on_features else section.snr
    strengths: list[tuple[float | None, float | None]] = (
        [(epsilon, None) for epsilon in section.epsilon]
        if ratios is None
        else [(None, snr) for snr in ratios]
    )
    shares = section.sparsity if on_features else section.waveform_sparsity or section.sparsity
    for granularity, (epsilon, snr), sparsity in itertools.product(
        section.granularity, strengths, shares
    ):
        if on_features or granularity in ("element", "segment"):
            yield PlannedBudget(sparsity, epsilon, snr, granularity, frames)


def corruption_settings(section: CorruptionSection, budgets: BudgetSection) -> list[dict[str, Any]]:
    """The settings of each run of a corruption: one for each ratio, where it has a ratio.

    Args:
        section: of the study.
        budgets: whose ratios are the default.
    """
    ratio = inspect.signature(registry.get("corruption", section.name)).parameters.get("snr")
    ratios = section.snr
    if ratios is None and ratio is not None:
        ratios = budgets.snr or [ratio.default]
    if ratios is None:
        return [section.settings]
    return [{**section.settings, "snr": snr} for snr in ratios]
