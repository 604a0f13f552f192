"""Check the names and settings of a study before any work starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sigma_ser.attacks.factory import make_attack
from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError, VictimError
from sigma_ser.core.settings import check_settings
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.execution.executor import Executor, load_executor
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.loading import load_victim
from sigma_ser.victims.settings import TrainingSettings

from .config import AttackSection, StudyConfig, VictimSection
from .loading import LoadedStudy
from .mask_sources import check_sources, check_victim_names
from .places import Places
from .tracking import check_tracking


def check_names(study: LoadedStudy) -> Executor:
    """Make everything that a study names once, so that a wrong name costs no work.

    Returns:
        The executor of the study.

    Raises:
        UnknownNameError: if something is not registered.
        SigmaError: if it does not accept its settings; the message names the file and the line.
    """
    config, places = study.config, study.places
    with places.errors_at("executor", keys=config.executor.settings, name="name"):
        executor = load_executor(config.executor.name, **config.executor.settings)
    for number, corpus in enumerate(config.corpus or ()):
        with places.errors_at("corpus", number, "name"):
            registry.get("corpus", corpus.name)
        for index, protocol in enumerate(corpus.protocol):
            with places.errors_at("corpus", number, "protocol", index):
                registry.get("protocol", protocol)
    for number, victim in enumerate(config.victims):
        _check_victim(victim, number, places)
    for number, section in enumerate(config.attacks):
        _check_attack(section, number, config, places)
    if config.consistency.explainer is not None:
        with places.errors_at("consistency", "explainer"):
            _make_explainer(config, config.consistency.explainer)
    for number, encoder in enumerate(config.encoder or ()):
        with places.errors_at("encoder", number, keys=encoder.settings):
            _check_keywords(load_encoder, "encoder", encoder.settings)
    with places.errors_at("victims"):
        check_victim_names(config)
    for number, section in enumerate(config.attacks):
        with places.errors_at("attacks", number, "mask_sources"):
            check_sources(config, section)
    check_tracking(config)
    return executor


def _check_attack(section: AttackSection, number: int, config: StudyConfig, places: Places) -> None:
    with places.errors_at("attacks", number, keys=section.settings, name="name"):
        make_attack(section.name, **section.settings)
    for index, name in enumerate(section.explainers):
        loc = ("explainers", name) if name in config.explainers else (
            "attacks", number, "explainers", index
        )  # fmt: skip
        with places.errors_at(*loc, keys=config.explainers.get(name, ())):
            _make_explainer(config, name)


def _make_explainer(config: StudyConfig, name: str) -> None:
    settings = dict(config.explainers.get(name, {}))
    make_explainer(str(settings.pop("name", name)), **settings)


def _check_victim(victim: VictimSection, number: int, places: Places) -> None:
    place = ("victims", number)
    if victim.head is None:
        with places.errors_at(*place, keys=victim.settings):
            _check_keywords(load_victim, "victims", victim.settings)
        return
    with places.errors_at(*place, "head"):
        registry.get("head", victim.head)
    with places.errors_at(*place, "head_settings"):
        make_head(victim.head, 2, 2, victim.head_settings)
    with places.errors_at(*place, keys=victim.settings):
        _check_training(victim.settings)
    if victim.adversarial is not None:
        settings = victim.adversarial.settings
        with places.errors_at(*place, "adversarial", keys=settings, name="attack"):
            make_attack(victim.adversarial.attack, **settings)


def _check_training(settings: Mapping[str, Any]) -> None:
    try:
        TrainingSettings.of(settings)
    except VictimError as fault:
        if "has no setting" not in str(fault):
            raise
        raise VictimError(
            f"{fault}; settings of the training are keys beside head, those of the head are keys "
            "of head_settings"
        ) from None


def _check_keywords(function: Callable[..., Any], place: str, settings: Mapping[str, Any]) -> None:
    """Check keywords of a function; its subject and layer are keys of the study's own."""
    supplied = ("name_or_path", "source", "layer")
    check_settings(f"[{place}]", function, settings, ConfigError, supplied)
