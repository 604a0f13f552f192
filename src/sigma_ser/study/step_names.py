"""Names of steps and mask sources, for rows and messages."""

from __future__ import annotations

from .config import FEATURES, OWN
from .steps import (
    AttackStep,
    CertificateStep,
    CorruptionStep,
    ExemplarStep,
    FloorStep,
    GradientStep,
    ReplayStep,
    SaliencyStep,
    Step,
    UniversalStep,
    VictimStep,
)


def own_or_name(mask: SaliencyStep, target: VictimStep) -> str:
    """The name of a mask source in the rows."""
    return name_beside(mask.victim, target)


def name_beside(source: VictimStep, target: VictimStep) -> str:
    """The name of a victim in rows of another one: `own`, `features`, its name, or with encoder."""
    if source.key == target.key:
        return OWN
    if source == target.on_features:
        return FEATURES
    if source.setting == target.setting:
        return source.name
    return f"{source.name}@{source.setting.encoder}:{source.setting.layer}"


def described(step: Step) -> str:
    """A step in the words of its study."""
    match step:
        case VictimStep():
            where = "" if step.on_features is None else "the waveform of "
            text = f"{step.name} on {where}{step.fold.name}"
        case SaliencyStep():
            text = f"{step.explainer} of {described(step.victim)}"
        case GradientStep():
            text = f"gradient check of {described(step.victim)}"
        case UniversalStep():
            text = f"universal {step.explainer} of {described(step.victim)}"
        case FloorStep():
            text = f"consistency floor of {described(step.victim)}"
        case AttackStep():
            mask = "" if step.mask is None else f" in {step.mask.explainer} of {step.mask.source}"
            text = f"{step.attack}{mask} on {described(step.victim)}"
        case CorruptionStep():
            text = f"{step.corruption} on {described(step.victim)}"
        case ReplayStep():
            text = f"{described(step.source)}, replayed on {step.victim.name}"
        case CertificateStep():
            text = f"certificate of {described(step.victim)}"
        case ExemplarStep():
            text = f"{step.utterance} under {described(step.source)}"
    return text
