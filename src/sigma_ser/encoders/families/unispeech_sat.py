"""UniSpeech-SAT (Chen et al. 2022)."""

from __future__ import annotations

from sigma_ser.core.registry import register

from .convolutional import Convolutional


@register("encoder", "unispeech-sat")
class UniSpeechSat(Convolutional):
    """Features of a `UniSpeechSatModel`."""

    family = "unispeech-sat"
    model_class = "UniSpeechSatModel"
