"""Check every name and setting of a study before anything is read or written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sigma_ser.attacks.factory import attack
from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.loading import load_victim
from sigma_ser.victims.settings import TrainingSettings

from .config import StudyConfig, VictimSection
from .mask_sources import check_sources
from .tracking import check_tracking


def check_names(config: StudyConfig) -> None:
    """Make everything that a study names once, so that a typo costs no work.

    Raises:
        UnknownNameError: if something is not registered.
        SigmaError: if it does not take its settings.
    """
    for corpus in config.corpus:
        registry.get("corpus", corpus.name)
        for protocol in corpus.protocol:
            registry.get("protocol", protocol)
    for victim in config.victims:
        _check_victim(victim)
    explainers = {name for section in config.attacks for name in section.explainers}
    if config.consistency.explainer is not None:
        explainers.add(config.consistency.explainer)
    for name in sorted(explainers):
        settings = dict(config.explainers.get(name, {}))
        make_explainer(str(settings.pop("name", name)), **settings)
    for section in config.attacks:
        attack(section.name, **section.settings)
    _check_keywords(load_encoder, "encoder", [section.settings for section in config.encoder])
    check_sources(config)
    check_tracking(config)


def _check_victim(victim: VictimSection) -> None:
    if victim.head is None:
        _check_keywords(load_victim, "victims", [victim.settings])
        return
    make_head(victim.head, 2, 2, victim.head_settings)
    TrainingSettings.of(victim.settings)
    if victim.adversarial is not None:
        attack(victim.adversarial.attack, **victim.adversarial.settings)


def _check_keywords(
    function: Callable[..., Any], place: str, given: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse keys that a function does not take; its subject and layer are the study's own."""
    known = set(inspect.signature(function).parameters) - {"name_or_path", "source", "layer"}
    for key in (key for settings in given for key in settings):
        if key not in known:
            raise ConfigError(
                f"{place}.{key}: {function.__name__} has no such setting; known: "
                f"{', '.join(sorted(known))}"
            )
