"""Columns of the rows that only the waveform has: the round trip and the quality of the audio."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.audio.quality import AudioQuality, audio_quality, levels
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.rows import AUDIO_QUALITY
from sigma_ser.evaluate.round_trip import round_trip

from .batches import StepBatch

Columns = dict[str, list[Any]]

_PACKAGES = ("pesq", "pystoi")
_NOT_INSTALLED = "not measured: run pip install 'sigma-ser[audio]'"


def recognised(
    here: StepBatch, x: Float[Tensor, "B S 1"], *, random: bool = False
) -> Int[Tensor, "B"]:
    """The classes of waves after the round trip, `(B,)`.

    Args:
        here: a batch of a victim on the waveform.
        x: waves of the same lengths.
        random: whether the logits of the victim are random.
    """
    victim = here.task.step.victim
    assert victim.on_features is not None
    artifacts = here.artifacts
    return round_trip(
        artifacts.encoder(victim.setting),
        artifacts.victim(victim.on_features),
        FeatureBatch(x, here.batch.lengths, here.batch.ids),
        here.labels,
        dtype=str(artifacts.store(victim.setting).card["dtype"]),
        random=random,
    )


def audio_columns(
    here: StepBatch, x_adv: Float[Tensor, "B S 1"], *, random: bool = False
) -> Columns:
    """Round trip and quality of one batch on the waveform.

    The quality is that of the waves in memory, to which the budget applies. The 16 bits of a file
    add noise at -101 dB of full scale.

    Args:
        here: the batch.
        x_adv: the changed waves.
        random: whether the logits of the victim are random.
    """
    names = here.class_names
    before = _recognised_before(here, random=random)
    after = recognised(here, x_adv, random=random)
    quality = _quality(here.batch, x_adv)
    return {
        "round_trip_prediction": [names[one] for one in after.tolist()],
        "round_trip_correct": (before == here.labels).tolist(),
        "round_trip_success": (after != here.labels).tolist(),
        **{name: _defined(getattr(quality, name)) for name in AUDIO_QUALITY},
        "quality_note": list(quality.notes),
    }


def _recognised_before(here: StepBatch, *, random: bool) -> Int[Tensor, "B"]:
    """The classes of the unchanged waves after the round trip, computed once in a worker."""
    if random:
        return recognised(here, here.batch.x, random=True)
    known = here.artifacts.round_trips(here.task.step.victim)
    if any(name not in known for name in here.batch.ids):
        # An utterance is encoded and classified alone, so its class is the same in any batch.
        found = recognised(here, here.batch.x)
        known.update(zip(here.batch.ids, found.tolist(), strict=True))
    return torch.tensor([known[name] for name in here.batch.ids], device=here.labels.device)


def _quality(batch: FeatureBatch, x_adv: Float[Tensor, "B S 1"]) -> AudioQuality:
    if all(find_spec(name) is not None for name in _PACKAGES):
        return audio_quality(batch, x_adv)
    undefined = torch.full((len(batch),), torch.nan, dtype=torch.float64)
    perceptual = dict.fromkeys(("pesq", "stoi", "estoi"), undefined)
    return AudioQuality(**levels(batch, x_adv), **perceptual, notes=(_NOT_INSTALLED,) * len(batch))


def _defined(values: Tensor) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]
