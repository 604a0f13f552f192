"""Figures of alarms on one victim: several attacks, controls, and the attack that knows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Attack, AttackResult
from sigma_ser.core.errors import ExplainerError
from sigma_ser.core.features import FeatureBatch

from .detector import Alarm, fit_alarm
from .evasion import AlarmEvasion
from .features import FEATURES, MapFeatures
from .separation import detection

if TYPE_CHECKING:
    import polars as pl

# The features of the map, the margin of the logits alone, and both.
KINDS: dict[str, tuple[str, ...]] = {"map": FEATURES[:-1], "margin": FEATURES[-1:], "all": FEATURES}
# Of fewer successful attacks an alarm learns little more than their noise.
LEAST = 5


def fit_alarms(
    features: MapFeatures, clean: Float[Tensor, "N 5"], attacked: Float[Tensor, "M 5"]
) -> dict[str, Alarm]:
    """Fit the three alarms: on the map (`map`), on the margin (`margin`), and on both (`all`).

    Args:
        features: of the maps of the victim.
        clean: features of clean utterances, classified correctly, `(N, 5)`.
        attacked: features of successful attacks `(M, 5)`.

    Raises:
        ExplainerError: if there are fewer than five successful attacks.
    """
    if len(attacked) < LEAST:
        raise ExplainerError(
            f"the alarms need at least {LEAST} successful attacks to be fitted on, and "
            f"{len(attacked)} succeeded; use a larger budget or more utterances"
        )
    return {kind: fit_alarm(features, clean, attacked, used=used) for kind, used in KINDS.items()}


def assess_alarms(
    features: MapFeatures,
    fitting: tuple[FeatureBatch, Int[Tensor, "N"]],
    testing: tuple[FeatureBatch, Int[Tensor, "M"]],
    budget: Budget,
    *,
    fitted_on: Attack,
    attacks: Mapping[str, Attack],
    masks: Mapping[str, Bool[Tensor, "M T D"]] | None = None,
    controls: Sequence[str] = ("random",),
    evasion: Mapping[str, Any] | None = None,
) -> pl.DataFrame:
    """Fit alarms on one attack and measure them on others, and on other utterances.

    Three alarms are fitted: on the features of the map (`map`), on the margin alone (`margin`), and
    on both (`all`). Each is measured on every attack, natively and in every mask, and on
    `AlarmEvasion` of that alarm (`evasion`). `none` compares clean with other clean
    utterances, which no alarm can distinguish.

    Args:
        features: of the maps of the victim.
        fitting: utterances on which the alarms are fitted, and their labels `(N,)`.
        testing: other utterances, and their labels `(M,)`; all are classified correctly.
        budget: of every attack.
        fitted_on: the attack whose successful perturbations the alarms are fitted on.
        attacks: measured attacks by name.
        masks: masks of `testing` by name, `(M, T, D)`.
        controls: names of attacks of which every perturbation counts, successful or not.
        evasion: settings of `AlarmEvasion` beside `alarm`.

    Returns:
        One line for each alarm, attack and mask: `alarm`, `attack`, `mask` (null without one),
        `asr`, and the attributes of `Detection`, null where no attack succeeded.

    Raises:
        ExplainerError: if fewer than five attacks of `fitted_on` succeed.
    """
    import polars as pl

    victim, (batch, labels) = features.victim, fitting
    known = fitted_on(victim, batch, labels, budget)
    seen = features(known.features(batch))[known.success]
    alarms = fit_alarms(features, features(batch), seen)
    places: list[tuple[str | None, Tensor | None]] = [(None, None), *(masks or {}).items()]
    test = _Test(features, *testing, budget, alarms, places)
    lines = list(test.clean_lines())
    for name, attack in attacks.items():
        lines += test.lines(name, dict.fromkeys(alarms, attack), every=name in controls)
    evading = {kind: AlarmEvasion(alarm=alarm, **(evasion or {})) for kind, alarm in alarms.items()}
    lines += test.lines("evasion", evading)
    return pl.DataFrame(lines, infer_schema_length=None)


@dataclass(frozen=True, eq=False)
class _Test:
    """The utterances on which alarms are measured."""

    features: MapFeatures
    batch: FeatureBatch
    labels: Int[Tensor, "M"]
    budget: Budget
    alarms: Mapping[str, Alarm]
    masks: Sequence[tuple[str | None, Tensor | None]]

    @cached_property
    def clean(self) -> Float[Tensor, "M 5"]:
        return self.features(self.batch)

    def clean_lines(self) -> Iterator[dict[str, Any]]:
        half = len(self.clean) // 2
        even, odd = self.clean[0::2][:half], self.clean[1::2][:half]
        for kind, alarm in self.alarms.items():
            one, other = (alarm.of_features(values).numpy() for values in (even, odd))
            found = asdict(detection(one, other))
            yield {"alarm": kind, "attack": "none", "mask": None, "asr": 0.0, **found}

    def lines(
        self, name: str, attacks: Mapping[str, Attack], *, every: bool = False
    ) -> Iterator[dict[str, Any]]:
        """One line for each alarm and mask; attacks that several alarms share run once."""
        results: dict[tuple[int, str | None], tuple[AttackResult, Float[Tensor, "M 5"]]] = {}
        for kind, attack in attacks.items():
            for mask_name, mask in self.masks:
                key = id(attack), mask_name
                if key not in results:
                    results[key] = self._attacked(attack, mask)
                result, values = results[key]
                alarm = self.alarms[kind]
                counts = torch.ones_like(result.success) if every else result.success
                found: dict[str, Any] = {}
                if bool(counts.any()):
                    clean, attacked = (alarm.of_features(one) for one in (self.clean, values))
                    found = asdict(detection(clean.numpy(), attacked.numpy(), counts.numpy()))
                asr = float(result.success.float().mean())
                yield {"alarm": kind, "attack": name, "mask": mask_name, "asr": asr, **found}

    def _attacked(
        self, attack: Attack, mask: Tensor | None
    ) -> tuple[AttackResult, Float[Tensor, "M 5"]]:
        victim = self.features.victim
        result = attack(victim, self.batch, self.labels, self.budget, mask=mask)
        return result, self.features(result.features(self.batch))
