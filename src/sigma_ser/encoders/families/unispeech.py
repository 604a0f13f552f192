"""UniSpeech (Wang et al. 2021)."""

from __future__ import annotations

from sigma_ser.core.registry import register

from .convolutional import Convolutional


@register("encoder", "unispeech")
class UniSpeech(Convolutional):
    """Features of a `UniSpeechModel`."""

    family = "unispeech"
    model_class = "UniSpeechModel"
