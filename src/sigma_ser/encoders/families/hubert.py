"""HuBERT (Hsu et al. 2021); the embedded demo encoder is one."""

from __future__ import annotations

from sigma_ser.core.registry import register

from .convolutional import Convolutional


@register("encoder", "hubert")
class Hubert(Convolutional):
    """Features of a `HubertModel`."""

    family = "hubert"
    model_class = "HubertModel"
