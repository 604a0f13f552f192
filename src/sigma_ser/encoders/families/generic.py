"""Any other audio model of `transformers` that returns hidden states along time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import AudioError, EncoderError
from sigma_ser.core.registry import register
from sigma_ser.encoders.family import Encoder
from sigma_ser.encoders.forward import batch_states, check_finite
from sigma_ser.encoders.pretrained import config_fields, load_checked, quiet_transformers
from sigma_ser.encoders.source import is_count

from .convolutional import normalised

# Samples of the waves that are measured: the first two are short, and the last shows the hop.
_MEASURED = (2 * SAMPLE_RATE, 3 * SAMPLE_RATE + 1, 10 * SAMPLE_RATE)
# The usual step of mel spectrograms, 10 ms.
_MEL_HOP = 160
# Largest difference, relative to values above 1, of the same preprocessing in torch.
_SAME = 1e-5


@register("encoder", "generic")
class Generic(Encoder):
    """Features of `AutoModel`, fed by `AutoFeatureExtractor`, one whole utterance at a time.

    There is no padding and no cutting of long utterances, since their effect on an unknown model is
    unknown. The number of frames is measured on noise of three lengths; the hop is the multiple of
    a configured stride that agrees with them. Code that comes with a model is never run.
    """

    family = "generic"

    def build(self) -> nn.Module:
        """The model, or its encoder if it has a decoder."""
        model = load_checked(self.source, "AutoModel")
        if getattr(model.config, "is_encoder_decoder", False):
            encoder: nn.Module = model.get_encoder()
            return encoder
        whole: nn.Module = model
        return whole

    @property
    def layers(self) -> int:
        """The number of transformer layers in the config."""
        config = self.source.config
        count = config.get("num_hidden_layers", config.get("encoder_layers"))
        if not isinstance(count, int):
            # A model that cannot be loaded is the more important fault.
            load_checked(self.source, "AutoModel")
            raise self._no_stack()
        return count

    def stack(self, model: nn.Module) -> nn.ModuleList:
        """The largest list of modules whose length is the number of layers in the config."""
        fitting = [
            module
            for module in model.modules()
            if isinstance(module, nn.ModuleList) and len(module) == self.layers
        ]
        if not fitting:
            raise self._no_stack()
        # There may be as many convolutions, which are smaller.
        return max(fitting, key=lambda stack: sum(p.numel() for p in stack.parameters()))

    def measure(self) -> None:
        """Hop and an upper bound of the receptive field, from the frames of noise.

        Raises:
            EncoderError: if the number of frames does not grow with the length of the audio.
        """
        # Some feature extractors divide by the standard deviation, which silence does not have.
        noise = 0.1 * np.random.default_rng(0).standard_normal(max(_MEASURED), dtype=np.float32)
        features = [self._one(noise[:samples]) for samples in _MEASURED]
        counts = {n: len(found) for n, found in zip(_MEASURED, features, strict=True)}
        grid = frame_grid(counts, self._strides())
        if grid is None:
            raise EncoderError(
                f"the output of the {self.source.model_type} model does not grow with the length "
                "of its input, so it has no frames; choose an encoder with frames"
            )
        self.hop, self.receptive_field = grid
        self._width = features[0].shape[1] // (self.layers + 1 if self.layer == "all" else 1)

    def _strides(self) -> Iterator[int]:
        """Samples of which the hop may be a multiple, the most certain first."""
        for name, value in config_fields(self.source.config):
            if name == "conv_stride" and isinstance(value, list) and all(map(is_count, value)):
                yield math.prod(value)
        hop: Any = getattr(self._extractor, "hop_length", None)
        if is_count(hop):
            yield hop
        yield _MEL_HOP

    @property
    def width(self) -> int:
        """Channels of one hidden state."""
        return self._width

    def preprocessing(self) -> dict[str, Any]:
        """The settings of the model's own feature extractor."""
        settings: dict[str, Any] = self._extractor.to_dict()
        return {name: value for name, value in settings.items() if not hasattr(value, "shape")}

    def prepare(self, wave: Float[np.ndarray, "N"]) -> Tensor:
        """The wave; `run` applies the feature extractor."""
        return torch.from_numpy(np.ascontiguousarray(wave))

    def frames(self, samples: int) -> int:
        """The approximate number of frames of a wave."""
        return max(0, (samples - self.receptive_field) // self.hop + 1)

    def steps(self, size: int) -> int:
        """An input step is a sample."""
        return self.frames(size)

    def prepare_tensor(self, wave: Float[Tensor, "N"]) -> Float[Tensor, "N"]:
        """The wave; `run` applies the feature extractor."""
        return wave

    def run(self, inputs: Float[Tensor, "1 N"], lengths: list[int] | None) -> Tensor:
        """Feature extractor and model.

        Raises:
            EncoderError: if a gradient is needed, and the feature extractor does more than
                normalise the wave.
        """
        wave = inputs.detach()[0].cpu().numpy()
        made = self._extractor(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        if inputs.requires_grad:
            made["input_values"] = self._differentiable(inputs, made)
        placed = {
            name: self.place(value) if value.is_floating_point() else value.to(self.device)
            for name, value in made.items()
        }
        last: Tensor = self.model(**placed).last_hidden_state
        return last

    def _differentiable(
        self, inputs: Float[Tensor, "1 N"], made: Mapping[str, Tensor]
    ) -> Float[Tensor, "1 N"]:
        """The values that the feature extractor made of a wave, as a function of the wave."""
        values = made.get("input_values")
        for candidate in (inputs, normalised(inputs[0])[None]):
            if values is not None and values.shape == candidate.shape:
                difference = (values.to(candidate) - candidate.detach()).abs().max()
                if float(difference) <= _SAME * max(1.0, float(values.abs().max())):
                    return candidate
        raise EncoderError(
            f"the feature extractor of {self.source.name} does more than normalise the wave, and "
            "is not differentiable, so audio cannot be attacked through it; register a family with "
            "prepare_tensor for it (docs/encoders.md)"
        )

    def encode(
        self, waves: Sequence[Float[np.ndarray, "_"]], batched: bool = True
    ) -> list[Float[Tensor, "_ D"]]:
        """The features of each wave, one by one."""
        for wave in waves:
            self.check(wave)
        return [self._one(wave) for wave in waves]

    def trace(self, waves: Sequence[Float[Tensor, "_"]]) -> list[Float[Tensor, "_ D"]]:
        """The features of each wave, one by one, differentiable with respect to the wave."""
        found = []
        for wave in waves:
            self.check(wave.detach().cpu().numpy())
            states = batch_states(self, [self.prepare_tensor(wave.to(self.device))])
            check_finite(self, states, [states.shape[1]])
            found.append(states[0])
        return found

    def _one(self, wave: Float[np.ndarray, "N"]) -> Float[Tensor, "T D"]:
        try:
            with torch.no_grad():
                states = batch_states(self, [self.prepare(wave)]).cpu()
        except (IndexError, RuntimeError, ValueError) as error:
            if len(wave) >= SAMPLE_RATE:
                raise
            raise self._too_short(wave) from error
        if not states.shape[1]:
            raise self._too_short(wave)
        check_finite(self, states, [states.shape[1]])
        return states[0]

    def _too_short(self, wave: Float[np.ndarray, "N"]) -> AudioError:
        return AudioError(
            f"a wave of {len(wave)} samples is too short for this {self.source.model_type} "
            "encoder; leave the recording out",
            reason="too-short",
        )

    def _no_stack(self) -> EncoderError:
        return EncoderError(
            f"no stack of transformer layers was found in the {self.source.model_type} model; "
            "register a family of your own for it (docs/encoders.md)"
        )

    @cached_property
    def _extractor(self) -> Any:
        from transformers import AutoFeatureExtractor

        try:
            with quiet_transformers():
                extractor = AutoFeatureExtractor.from_pretrained(
                    self.source.folder, local_files_only=True, trust_remote_code=False
                )
        except Exception as error:  # transformers raises errors of many types
            raise EncoderError(
                f"{self.source.folder} has no feature extractor that transformers can load; "
                "add its preprocessor_config.json"
            ) from error
        self.source.check_rate(getattr(extractor, "sampling_rate", None))
        return extractor


def frame_grid(counts: Mapping[int, int], strides: Iterable[int]) -> tuple[int, int] | None:
    """The hop and the receptive field that explain how many frames some waves have.

    A stack of strided layers has `(samples - field) // hop + 1` frames, where `hop` is a multiple
    of the stride of its first part. A quotient of counts alone is wrong by up to a frame.

    Args:
        counts: the number of frames by the number of samples, of at least two waves.
        strides: samples of which the hop may be a multiple, the most certain first.

    Returns:
        The hop, and the largest receptive field, at least 1, in samples. Where no stride fits, they
        are estimates. `None` if the number of frames does not grow.

    >>> frame_grid({32_000: 26, 160_000: 126}, [160])
    (1280, 1)
    """
    shortest, longest = min(counts), max(counts)
    more = counts[longest] - counts[shortest]
    if more < 1:
        return None
    quotient = (longest - shortest) / more
    for stride in strides:
        hop = stride * max(1, round(quotient / stride))
        fields = [samples - (frames - 1) * hop for samples, frames in counts.items()]
        if max(fields) - min(fields) < hop:
            return hop, max(1, min(fields))
    hop = round(quotient)
    return hop, max(1, min(samples - (frames - 1) * hop for samples, frames in counts.items()))
