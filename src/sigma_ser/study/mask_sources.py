"""Whose maps make a mask: the attacked victim's own, another victim's, a consensus, or others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sigma_ser.core.errors import ConfigError

from .config import StudyConfig
from .sections import (
    CONSENSUS,
    FEATURES,
    OTHERS,
    OWN,
    SOURCES,
    UNIVERSAL,
    WAVEFORM,
    MaskedSection,
    Surface,
)
from .steps import SaliencyStep, VictimStep

# Encoders differ in the last digits of the time between their frames.
_SAME_RATE = 1e-3


def check_victim_names(study: StudyConfig) -> None:
    """Raise a `ConfigError` if two victims of a study share a name."""
    titles = [section.title for section in study.victims]
    for title in titles:
        if titles.count(title) > 1:
            raise ConfigError(
                f"the study has {titles.count(title)} victims called {title!r}; "
                "give each a name = of its own"
            )


def check_sources(study: StudyConfig, section: MaskedSection, surfaces: Sequence[Surface]) -> None:
    """Check the mask sources of an attack or a certificate before any recording is read.

    Args:
        study: the configuration.
        section: one of its attacks or certificates.
        surfaces: those of the study on which it may run.

    Raises:
        ConfigError: if a mask comes from a victim that is not in the study.
    """
    names = {
        victim.title if len(victim.seeds) == 1 else f"{victim.title}-{seed}"
        for victim in study.victims
        for seed in victim.seeds
    }
    if not any(sources_on(surface, section.mask_sources) for surface in surfaces):
        why = "is not attacked in this study; add it to the key surface, or"
        if WAVEFORM in study.surface:
            why = "cannot restrict changes of features;"
        raise ConfigError(
            f"{section.described} takes masks from {WAVEFORM!r}, which {why} "
            f'use mask_sources = "{OWN}"'
        )
    for source in section.mask_sources:
        if source not in SOURCES and source.partition("@")[0] not in names:
            raise ConfigError(
                f"{section.described} takes masks from {source!r}, which is not a victim of the "
                f"study; give one of: {', '.join([*sorted(names), *SOURCES])}"
            )
        if source == OTHERS and len(names) == 1:
            raise ConfigError(
                f"{section.described} takes masks from other victims, but {min(names)!r} is the "
                f"only victim; add another one, or use {OWN!r}"
            )


def sources_on(surface: Surface, sources: Sequence[str], control: bool = False) -> list[str]:
    """The mask sources that apply to a surface.

    The map of the waveform says nothing about features.

    Args:
        surface: `features` or `waveform`.
        sources: as in `mask_sources` of a study.
        control: whether the explainer does not depend on the victim. Then all sources give the same
            map, except that of the features laid over the waveform.
    """
    known = [one for one in sources if surface == WAVEFORM or one != WAVEFORM]
    if not control:
        return known
    over_time = [one for one in known if surface == WAVEFORM and one == FEATURES]
    return [*[one for one in known if one not in over_time][:1], *over_time]


def mask_owners(
    source: str, victim: VictimStep, victims: Sequence[VictimStep], what: str, granularity: str
) -> list[VictimStep]:
    """The victims whose maps a source stands for.

    Args:
        source: as in `mask_sources` of a study.
        victim: the attacked one.
        victims: all of the study.
        what: what takes the mask, as the subject of an error message.
        granularity: of the budget.

    Returns:
        One mask comes from each; for `consensus` one from all. None where the source is another
        victim and this is the only one, or a victim on another encoder and this is it.

    Raises:
        ConfigError: if there is no such victim, or its maps do not fit.
    """
    here = [one for one in victims if one.sample == victim.sample]
    if source in (OWN, FEATURES, WAVEFORM):
        below = victim.on_features if source == FEATURES else None
        return [below or victim]
    if victim.setting.layer == "all" and victim.on_features is None:
        raise ConfigError(
            f"{what} takes masks from {source!r}, but with layer = "
            '"all" each victim receives its own weighted sum of layers; use mask_sources = "own"'
        )
    if source == OTHERS:
        return [one for one in here if one.key != victim.key]
    if source in (CONSENSUS, UNIVERSAL):
        return here if source == CONSENSUS else [victim]
    if "@" in source:
        return _on_another_encoder(source, victim, victims, what, granularity)
    owners = [one for one in here if one.name == source]
    if not owners:
        names = ", ".join([*sorted({one.name for one in victims}), *SOURCES])
        raise ConfigError(
            f"{what} takes masks from {source!r}, which is not a victim "
            f"of the study; give one of: {names}"
        )
    return owners


def _on_another_encoder(
    source: str, victim: VictimStep, victims: Sequence[VictimStep], what: str, granularity: str
) -> list[VictimStep]:
    """The victim on another encoder whose frames make the mask, or none for the same one."""
    if victim.on_features is None and granularity not in {"frame", "segment"}:
        raise ConfigError(
            f"{what} takes masks from {source!r}: only whole frames are "
            "comparable between encoders, so set budgets.granularity to frame or segment"
        )
    name, _, place = source.partition("@")
    encoder, _, layer = place.rpartition(":")
    here = (victim.setting.corpus, victim.setting.surface)
    found = [
        one for one in victims
        if (one.name, one.setting.encoder, one.setting.layer) == (name, encoder, layer)
        and (one.setting.corpus, one.setting.surface) == here and one.fold.key == victim.fold.key
    ]  # fmt: skip
    if not found:
        raise ConfigError(
            f"{what} takes masks from {source!r}, which is not in the study; "
            "write victim@encoder:layer as the rows name them"
        )
    rate = found[0].setting.frame_seconds
    if not math.isclose(rate, victim.setting.frame_seconds, rel_tol=_SAME_RATE):
        raise ConfigError(
            f"{what} takes masks from {source!r}, whose frames are {rate:g} s "
            f"apart and not {victim.setting.frame_seconds:g} s; use encoders of one frame rate"
        )
    return [one for one in found if one.setting != victim.setting]


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
