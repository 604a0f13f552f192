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
from sigma_ser.encoders.pretrained import load_checked
from sigma_ser.encoders.source import is_count


def normalised(wave: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
    """A wave with zero mean and unit variance, as `Wav2Vec2FeatureExtractor` computes it."""
    centred = wave - wave.mean()
    return centred / (wave.var(correction=0) + 1e-7).sqrt()


class Convolutional(Encoder):
    """A `transformers` model of the wav2vec 2.0 kind: `input_values` in, hidden states out.

    Subclasses name the class of the model. Padding is allowed with layer norm in the front end
    unless `padding_safe` is False, and if a measurement confirms it (`Encoder.may_pad`).
    Group norm averages over time, padding included.
    """

    model_class: ClassVar[str]
    padding_safe = True

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
        return self.source.count("num_hidden_layers")

    @property
    def width(self) -> int:
        """Channels of one hidden state."""
        return self.source.count("hidden_size")

    @property
    def normalise(self) -> bool:
        """Whether waves are scaled to zero mean and unit variance."""
        if self.settings.normalise is not None:
            return self.settings.normalise
        preprocessor = self.source.preprocessor()
        if not preprocessor:
            raise EncoderError(
                f"{self.source.folder} has neither processor_config.json nor "
                "preprocessor_config.json, which say whether its waves are normalised; "
                "pass normalise=True or False"
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

    def prepare_tensor(self, wave: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """The wave, normalised over its whole length."""
        return normalised(wave) if self.normalise else wave

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
        """Hop and receptive field of the stacked convolutions.

        Raises:
            EncoderError: if an adapter follows the selected hidden state.
        """
        self.refuse_adapter()
        front_end = self.source.config.get("feat_extract_norm")
        self.padding_safe = self.padding_safe and front_end == "layer"
        hop, field = 1, 1
        for kernel, stride in self._convolutions:
            field += (kernel - 1) * hop
            hop *= stride
        self.hop = self.stride = hop
        self.receptive_field = self.window = field

    def refuse_adapter(self) -> None:
        """Check that no adapter follows the selected hidden state.

        An adapter shortens the output of the model, and the frames of the states before it are
        counted by the front end alone.

        Raises:
            EncoderError: names the layers that can be selected.
        """
        last = not isinstance(self.layer, int) or self.layer == self.layers
        if last and self.source.config.get("add_adapter"):
            raise EncoderError(
                f"{self.source.name} has an adapter after its transformer layers, which lowers the "
                f"frame rate of its output; choose a layer from 0 to {self.layers - 1}"
            )

    @cached_property
    def _convolutions(self) -> list[tuple[int, int]]:
        """Kernel and stride of each convolution."""
        kernels, strides = self.source.setting("conv_kernel"), self.source.setting("conv_stride")
        lists = isinstance(kernels, list | tuple) and isinstance(strides, list | tuple)
        if not lists or len(kernels) != len(strides) or not all(map(is_count, kernels + strides)):
            raise EncoderError(
                f"conv_kernel and conv_stride in {self.source.folder / 'config.json'} must be two "
                "lists of integers of the same length, all above 0; download or export the model "
                "again"
            )
        return list(zip(kernels, strides, strict=True))
