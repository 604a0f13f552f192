"""How much of a feature perturbation a waveform can cause: the realisation of an attack."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import AttackResult, Victim
from sigma_ser.core.errors import ShapeError, VictimError
from sigma_ser.core.features import FeatureBatch, zero_padding
from sigma_ser.core.passes import per_channel
from sigma_ser.core.seeds import UtteranceNoise, utterance_seeds
from sigma_ser.encoders.family import Encoder

from .wave_search import WaveSearch
from .waveform import check_fit, trace_features

# Stored features are float16; those of another utterance differ far more than by their rounding.
_SAME_FEATURES = 0.05


@dataclass(frozen=True, eq=False)
class Realisation:
    """Waves whose features approach those of an attack, and how close they come.

    Attributes:
        waves: `(B, S, 1)` float32, zero on padding.
        reach: `(B,)` float64, `1 - |E(w') - E(w) - delta|^2 / |delta|^2` in units of the victim's
            scale: 0 for the clean wave, 1 if the perturbation is reached; NaN for `delta = 0`.
        leak: `(B,)` float64, share of `|E(w') - E(w)|^2` outside the mask, or outside the support
            of `delta` if no mask was given; NaN where the features do not change.
        realised: `(B,)`, whether the victim misclassifies `E(w')`.
    """

    waves: Float[Tensor, "B S 1"]
    reach: Float[Tensor, "B"]
    leak: Float[Tensor, "B"]
    realised: Bool[Tensor, "B"]


def realise(  # noqa: PLR0917 - batch, waves and result belong together
    encoder: Encoder,
    victim: Victim,
    waves: FeatureBatch,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    result: AttackResult,
    *,
    epsilon: float | Float[Tensor, "B"] | None = None,
    snr: float | None = None,
    mask: Bool[Tensor, "B T D"] | None = None,
    seeds: Int[Tensor, "B"] | None = None,
    steps: int = 100,
    restarts: int = 1,
    step_size: float = 0.1,
) -> Realisation:
    """Search the waves whose features are closest to those of a feature attack.

    `w' = argmin |(E(w') - E(w) - delta) / scale|^2` with `delta = x_adv - x` and `E(w)` in float32,
    within `epsilon` of the wave `w` and within full scale. Adam (Kingma & Ba 2015) with a cosine
    schedule, projected after each step; the closest point is returned. The search is not
    exhaustive, so `reach` and `realised` are lower bounds. Each utterance is searched alone, and
    its result does not depend on the others.

    Args:
        encoder: the encoder of the features, with `layer="all"` for a victim with a sum of layers.
        victim: the victim that was attacked.
        waves: `(B, S, 1)`, the recordings of the attacked utterances, 16 kHz, full scale at 1.
        batch: their clean features `(B, T, D)`, as they were attacked.
        labels: true class indices `(B,)`.
        result: the result of the attack, or that of `random_counterpart`.
        epsilon: largest change of a sample, above 0, as a share of full scale: a number or `(B,)`.
        snr: signal-to-noise ratio in dB from which `epsilon` follows, as that of
            `Budget.from_snr(waves, snr, sparsity=1)`. Without both, only full scale is a limit.
        mask: bool `(B, T, D)`, the mask of the attack, for `leak`.
        seeds: `(B,)` seeds of the starting points; `None` derives them from the ids of the waves.
        steps: number of gradient steps of each search, at least 1.
        restarts: number of searches, at least 1. The first one starts at the wave, the others at
            random points.
        step_size: first step as a share of `epsilon`, or without it of the root mean square of the
            wave, above 0.

    Returns:
        The closest waves with `reach`, `leak` and `realised` of each utterance.

    Raises:
        ShapeError: if the arguments do not belong to the same utterances, or a setting is out of
            its range.
        VictimError: if the victim belongs to another encoder or layer.
        EncoderError: if the preprocessing of the encoder is not differentiable.
    """
    check_fit(encoder, victim)
    _check(waves, batch, labels, result, mask)
    search = WaveSearch(steps=steps, restarts=restarts, step_size=step_size)
    radius = _radius(waves, epsilon, snr)
    seeds = _seeds(seeds, waves, "realise")
    scale = per_channel(victim.scale, batch.x).to(encoder.device)

    def features(wave: Float[Tensor, "S"]) -> Float[Tensor, "T D"]:
        return trace_features(encoder, victim, [wave])[0]

    found = torch.zeros_like(waves.x)
    rows: list[tuple[float, float, bool]] = []
    for row, (samples, frames) in enumerate(
        zip(waves.lengths.tolist(), batch.lengths.tolist(), strict=True)
    ):
        wave = waves.x[row, :samples, 0].to(encoder.device)
        with torch.no_grad():
            clean = features(wave)
        _check_same(clean, batch.x[row, :frames], waves.ids[row])
        delta = (result.x_adv - batch.x)[row, :frames].to(clean)
        if bool(delta.any()):
            noise = UtteranceNoise(seeds[row : row + 1], waves.lengths[row : row + 1])
            distance = _distance(features, clean + delta, delta, scale)
            wave = search(distance, wave, float(radius[row]), noise)
        found[row, :samples, 0] = wave
        with torch.no_grad():
            moved = features(wave)
            logits = victim(moved[None], torch.tensor([frames], device=moved.device))
        inside = delta != 0 if mask is None else mask[row, :frames].to(delta.device)
        wrong = int(logits[0].argmax()) != int(labels[row])
        rows.append((*_shares(moved - clean, delta, inside, scale), wrong))
    reach, leak, realised = zip(*rows, strict=True)
    return Realisation(
        waves=found,
        reach=torch.tensor(reach, dtype=torch.float64),
        leak=torch.tensor(leak, dtype=torch.float64),
        realised=torch.tensor(realised),
    )


@torch.no_grad()
def random_counterpart(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    result: AttackResult,
    *,
    seeds: Int[Tensor, "B"] | None = None,
) -> AttackResult:
    """Make a random perturbation with the support and the sizes of a feature attack.

    Each changed element moves as far as under the attack, with a random sign. Its realisation is
    the floor for that of the attack.

    Args:
        victim: the victim that was attacked.
        batch: clean features `(B, T, D)`.
        labels: true class indices `(B,)`.
        result: the result of the attack.
        seeds: `(B,)`; `None` derives them from the ids of the batch.

    Returns:
        The perturbed features, and whether the victim misclassifies them.

    Raises:
        ShapeError: if there are seeds for another number of utterances.
    """
    noise = UtteranceNoise(_seeds(seeds, batch, "random-counterpart"), batch.lengths)
    signs = noise.signs(batch.x)
    x = zero_padding(batch.x + signs * (result.x_adv - batch.x).abs(), batch.lengths)
    prediction = victim(x, batch.lengths).argmax(1)
    nothing = torch.zeros_like(batch.lengths)
    return AttackResult(
        x_adv=x,
        success=prediction != labels.to(prediction.device),
        prediction=prediction,
        steps=nothing,
        forwards=nothing + 1,
        backwards=nothing,
    )


def _distance(
    features: Callable[[Tensor], Tensor],
    target: Float[Tensor, "T D"],
    delta: Float[Tensor, "T D"],
    scale: Float[Tensor, "D"],
) -> Callable[[Tensor], Tensor]:
    """`|(E(wave) - target) / scale|^2 / |delta / scale|^2` as a function of the wave."""
    size = (delta / scale).square().sum()

    def distance(wave: Float[Tensor, "S"]) -> Float[Tensor, ""]:
        return ((features(wave) - target) / scale).square().sum() / size

    return distance


def _shares(
    change: Float[Tensor, "T D"],
    delta: Float[Tensor, "T D"],
    inside: Bool[Tensor, "T D"],
    scale: Float[Tensor, "D"],
) -> tuple[float, float]:
    """`reach` and `leak` of a change of the features."""
    change, delta = change.double() / scale, delta.double() / scale
    wanted, changed = float(delta.square().sum()), float(change.square().sum())
    missed = float((change - delta).square().sum())
    outside = float(change.masked_fill(inside, 0.0).square().sum())
    return (
        1 - missed / wanted if wanted else math.nan,
        outside / changed if changed else math.nan,
    )


def _seeds(seeds: Int[Tensor, "B"] | None, batch: FeatureBatch, name: str) -> Int[Tensor, "B"]:
    if seeds is None:
        return utterance_seeds(batch.ids, name)
    if seeds.shape != batch.lengths.shape:
        raise ShapeError(f"{len(seeds)} seeds were given for {len(batch)} utterances")
    return seeds


def _radius(
    waves: FeatureBatch, epsilon: float | Float[Tensor, "B"] | None, snr: float | None
) -> Float[Tensor, "B"]:
    """The largest change of a sample of each utterance; infinite without a limit."""
    if epsilon is not None and snr is not None:
        raise ShapeError("give at most one of epsilon= and snr= to realise")
    if snr is not None:
        bound = Budget.from_snr(waves, snr, sparsity=1.0).epsilon
        return torch.as_tensor(bound, dtype=torch.float64).reshape(-1)
    radius = torch.as_tensor(math.inf if epsilon is None else epsilon, dtype=torch.float64)
    if radius.shape not in ((), waves.lengths.shape) or not bool((radius > 0).all()):
        raise ShapeError(
            f"epsilon of realise must be above 0, a number or one for each of the {len(waves)} "
            f"utterances, got {epsilon}"
        )
    return radius.expand(len(waves))


def _check(
    waves: FeatureBatch,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    result: AttackResult,
    mask: Bool[Tensor, "B T D"] | None,
) -> None:
    if waves.x.shape[2] != 1:
        raise ShapeError(
            f"realise needs waves (B, S, 1), got {tuple(waves.x.shape)}; "
            "ss.waveforms(corpus, ids) returns the waves of a corpus"
        )
    if not len(waves) == len(batch) == len(labels):
        raise ShapeError(
            f"realise needs the same utterances in waves, batch and labels, got {len(waves)}, "
            f"{len(batch)} and {len(labels)}"
        )
    if not len(batch):
        raise ShapeError("the batch is empty; pass at least one utterance")
    for name, value in (("result", result.x_adv), ("mask", mask)):
        if value is not None and value.shape != batch.x.shape:
            raise ShapeError(
                f"the {name} has the shape {tuple(value.shape)} and the features "
                f"{tuple(batch.x.shape)}; pass the batch that was attacked"
            )


def _check_same(clean: Float[Tensor, "T D"], features: Float[Tensor, "U E"], name: str) -> None:
    """Raise unless features are those of the wave, up to the rounding of a store."""
    same = clean.shape == features.shape
    if same:
        features = features.to(clean)
        same = float((clean - features).norm()) <= _SAME_FEATURES * float(clean.norm())
    if not same:
        raise VictimError(
            f"the features of utterance {name!r} are not those that this encoder gives for its "
            "wave; pass the waves in the order of the batch, and the encoder of the features"
        )
