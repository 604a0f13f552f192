"""wav2vec 2.0, XLSR, XLS-R and MMS (Baevski et al. 2020; Conneau et al. 2020; Babu et al. 2022)."""

from __future__ import annotations

from sigma_ser.core.registry import register

from .convolutional import Convolutional


@register("encoder", "wav2vec2")
class Wav2Vec2(Convolutional):
    """Features of a `Wav2Vec2Model`."""

    family = "wav2vec2"
    model_class = "Wav2Vec2Model"
