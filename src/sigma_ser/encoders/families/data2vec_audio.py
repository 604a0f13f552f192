"""data2vec-audio (Baevski et al. 2022)."""

from __future__ import annotations

from sigma_ser.core.registry import register

from .convolutional import Convolutional


@register("encoder", "data2vec-audio")
class Data2VecAudio(Convolutional):
    """Features of a `Data2VecAudioModel`.

    Its stack of positional convolutions has biases and norms between them, so that padding grows
    values which reach back into the utterance (by 3.7): never padded.
    """

    family = "data2vec-audio"
    model_class = "Data2VecAudioModel"
    padding_safe = False
