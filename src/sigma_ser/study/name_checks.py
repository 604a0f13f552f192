"""Make everything that a study names once, so that a wrong name or setting costs no work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from sigma_ser.attacks.factory import make_attack
from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError, VictimError
from sigma_ser.core.places import Places
from sigma_ser.core.settings import check_settings
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.evaluate.alarm.evasion import AlarmEvasion
from sigma_ser.execution.devices import executor_settings
from sigma_ser.execution.executor import Executor, load_executor
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.victims.checkpoint import make_head
from sigma_ser.victims.loading import load_victim
from sigma_ser.victims.settings import TrainingSettings

from .alarms import attack_settings
from .budgets import corruption_settings
from .config import StudyConfig
from .loading import LoadedStudy
from .mask_sources import check_sources, check_victim_names
from .sections import FEATURES, AlarmSection, CertificateSection, MaskedSection, VictimSection
from .tracking import check_tracking

# Length of the utterance on which a head is tried, that of a few seconds of speech.
_FRAMES = 200


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
        name = config.executor.name
        settings = executor_settings(config.evaluation.device, name, config.executor.settings)
        executor = load_executor(name, **settings)
    for number, corpus in enumerate(config.corpus or ()):
        with places.errors_at("corpus", number, "name"):
            registry.get("corpus", corpus.name)
        for index, protocol in enumerate(corpus.protocol):
            with places.errors_at("corpus", number, "protocol", index):
                registry.get("protocol", protocol)
    for number, victim in enumerate(config.victims):
        _check_victim(victim, number, places)
    for number, section in enumerate(config.attacks):
        with places.errors_at("attacks", number, keys=section.settings, name="name"):
            make_attack(section.name, **section.settings)
    if config.consistency.explainer is not None:
        with places.errors_at("consistency", "explainer"):
            _make_explainer(config, config.consistency.explainer, config.consistency.settings)
    for number, encoder in enumerate(config.encoder or ()):
        with places.errors_at("encoder", number, keys=encoder.settings):
            _check_keywords(load_encoder, "encoder", encoder.settings)
    with places.errors_at("victims"):
        check_victim_names(config)
    for number, section in enumerate(config.attacks):
        _check_masks(section, "attacks", number, config, places)
    for number, corruption in enumerate(config.corruptions):
        with places.errors_at("corruptions", number, keys=corruption.settings, name="name"):
            for settings in corruption_settings(corruption, config.budgets):
                registry.make("corruption", corruption.name, settings)
    for number, certificate in enumerate(config.certificates):
        with places.errors_at("certificates", number, keys=certificate.settings, name="method"):
            _check_certificate(certificate)
        _check_masks(certificate, "certificates", number, config, places)
    if config.alarm is not None:
        _check_alarm(config, config.alarm, places)
    check_tracking(config)
    return executor


def _check_alarm(config: StudyConfig, section: AlarmSection, places: Places) -> None:
    with places.errors_at("alarm", "explainer"):
        _make_explainer(config, section.explainer)
    for index, name in enumerate(section.fitted_on):
        with places.errors_at("alarm", "fitted_on", index):
            make_attack(name, **attack_settings(config, name))
    with places.errors_at("alarm", keys=section.settings):
        check_settings("[alarm]", AlarmEvasion, section.settings, ConfigError, ("alarm",))


def _check_certificate(section: CertificateSection) -> None:
    if section.method is not None:
        registry.make("certificate", section.method, section.settings)
    elif section.settings:
        raise ConfigError(
            f"{', '.join(section.settings)} under [[certificates]] need the key 'method', which "
            "names the method that these settings belong to"
        )


def _check_masks(
    section: MaskedSection, kind: str, number: int, config: StudyConfig, places: Places
) -> None:
    """Explainers and mask sources of an attack or a certificate."""
    surfaces = [FEATURES] if isinstance(section, CertificateSection) else config.surface
    for index, name in enumerate(section.explainers):
        loc = ("explainers", name) if name in config.explainers else (
            kind, number, "explainers", index
        )  # fmt: skip
        with places.errors_at(*loc, keys=config.explainers.get(name, ())):
            _make_explainer(config, name)
    with places.errors_at(kind, number, "mask_sources"):
        check_sources(config, section, surfaces)


def _make_explainer(
    config: StudyConfig, name: str, further: Mapping[str, Any] = MappingProxyType({})
) -> None:
    settings = {**config.explainers.get(name, {}), **further}
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
        _check_head(victim.head, victim.head_settings)
    with places.errors_at(*place, keys=victim.settings):
        _check_training(victim.settings)
    if victim.adversarial is not None:
        settings = victim.adversarial.settings
        with places.errors_at(*place, "adversarial", keys=settings, name="attack"):
            make_attack(victim.adversarial.attack, **settings)


def _check_head(name: str, settings: Mapping[str, Any]) -> None:
    """Make a head and call it once, so that settings which do not work together cost no work."""
    head = make_head(name, 2, 2, settings).eval()
    try:
        with torch.inference_mode():
            head(torch.zeros(2, _FRAMES, 2), torch.tensor([_FRAMES, _FRAMES // 2]))
    except (TypeError, ValueError, RuntimeError, IndexError) as fault:
        raise ConfigError(
            f"the head {name!r} does not work with head_settings {dict(settings)}: {fault}"
        ) from fault


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
