"""Detectors of attacks from the saliency map of an input alone, and an attack that evades them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .assessment import assess_alarms as assess_alarms
    from .assessment import fit_alarms as fit_alarms
    from .detector import Alarm as Alarm
    from .detector import fit_alarm as fit_alarm
    from .evasion import AlarmEvasion as AlarmEvasion
    from .features import FEATURES as FEATURES
    from .features import MapFeatures as MapFeatures
    from .features import map_features as map_features
    from .separation import Detection as Detection
    from .separation import detection as detection
    from .table import alarm_table as alarm_table

_HOMES = {
    "Alarm": "detector",
    "AlarmEvasion": "evasion",
    "Detection": "separation",
    "FEATURES": "features",
    "MapFeatures": "features",
    "alarm_table": "table",
    "assess_alarms": "assessment",
    "detection": "separation",
    "fit_alarm": "detector",
    "fit_alarms": "assessment",
    "map_features": "features",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
