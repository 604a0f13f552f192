"""The common part of families with a convolutional front end, such as wav2vec 2.0."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core.errors import EncoderError
from sigma_ser.core.features import valid_frames
from sigma_ser.encoders.family import Encoder
from sigma_ser.encoders.source import load_checked


class Convolutional(Encoder):
    """A `transformers` model of the wav2vec 2.0 kind: `input_values` in, hidden states out.

    Subclasses name the class of the model. Padding is allowed with layer norm in the front end
    unless `padding_safe` is False. Group norm averages over time, padding included.
    """

    model_class: ClassVar[str]
    padding_safe: ClassVar[bool] = True

    def build(self) -> nn.Module:
        """Load the model; a parameter that is not in the weight files is an error."""
        model: nn.Module = load_checked(self.source, self.model_class)
        return model

    def stack(self, model: Any) -> nn.ModuleList:
        """The transformer layers."""
        layers: nn.ModuleList = model.encoder.layers
        return layers

    @property
    def layers(self) -> int:
        """The number of transformer layers."""
        return int(self.source.setting("num_hidden_layers"))

    @property
    def width(self) -> int:
        """Channels of one hidden state."""
        return int(self.source.setting("hidden_size"))

    @property
    def may_pad(self) -> bool:
        """Whether the front end normalises each frame separately."""
        return self.padding_safe and self.source.config.get("feat_extract_norm") == "layer"

    @property
    def normalise(self) -> bool:
        """Whether waves are scaled to zero mean and unit variance."""
        if self.settings.normalise is not None:
            return self.settings.normalise
        preprocessor = self.source.preprocessor()
        if not preprocessor:
            raise EncoderError(
                f"{self.source.folder} has no preprocessor_config.json, which says whether its "
                "waves are normalised; pass normalise=True or False"
            )
        # The default of Wav2Vec2FeatureExtractor is to normalise.
        return bool(preprocessor.get("do_normalize", True))

    def preprocessing(self) -> dict[str, Any]:
        """Normalisation of the wave."""
        return {"normalise": self.normalise}

    def prepare(self, wave: Float[np.ndarray, "N"]) -> Float[Tensor, "N"]:
        """The wave, normalised over its whole length as by `Wav2Vec2FeatureExtractor`."""
        if self.normalise:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        return torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))

    def frames(self, samples: int) -> int:
        """The number of frames after all convolutions, which have no padding."""
        for kernel, stride in self._convolutions:
            samples = (samples - kernel) // stride + 1
            if samples < 1:
                return 0
        return samples

    def run(self, inputs: Float[Tensor, "B N"], lengths: list[int] | None) -> Tensor:
        """Run the model, with an attention mask where the batch is padded."""
        mask = None
        if lengths is not None:
            mask = valid_frames(torch.tensor(lengths), inputs.shape[1]).long().to(self.device)
        with warnings.catch_warnings():
            # The attention of WavLM passes torch a mask and a bias of different types.
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
            last: Tensor = self.model(self.place(inputs), attention_mask=mask).last_hidden_state
        return last

    def steps(self, size: int) -> int:
        """An input step is a sample."""
        return self.frames(size)

    def measure(self) -> None:
        """Hop and receptive field of the stacked convolutions."""
        hop, field = 1, 1
        for kernel, stride in self._convolutions:
            field += (kernel - 1) * hop
            hop *= stride
        self.hop = self.stride = hop
        self.receptive_field = self.window = field

    @cached_property
    def _convolutions(self) -> list[tuple[int, int]]:
        """Kernel and stride of each convolution."""
        kernels, strides = self.source.setting("conv_kernel"), self.source.setting("conv_stride")
        try:
            return [(int(one), int(two)) for one, two in zip(kernels, strides, strict=True)]
        except (TypeError, ValueError) as error:
            raise EncoderError(
                f"conv_kernel and conv_stride in {self.source.folder / 'config.json'} must be two "
                "lists of integers of the same length; download or export the model again"
            ) from error
