"""Any other audio model of `transformers` that returns hidden states along time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import EncoderError
from sigma_ser.core.registry import register
from sigma_ser.encoders.family import Encoder
from sigma_ser.encoders.source import load_checked, quiet_transformers


@register("encoder", "generic")
class Generic(Encoder):
    """Features of `AutoModel`, fed by `AutoFeatureExtractor`, one whole utterance at a time.

    There is no padding and no cutting of long utterances, since their effect on an unknown model is
    unknown. The hop is measured on one and two seconds of silence. Code that comes with a model is
    never run.
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
        """Hop and an upper bound of the receptive field, from two short runs."""
        short, long = (self._one(np.zeros(seconds * SAMPLE_RATE, np.float32)) for seconds in (1, 2))
        more = len(long) - len(short)
        if more < 1:
            raise EncoderError(
                f"the output of the {self.source.model_type} model does not grow with the length "
                "of its input, so it has no frames; choose an encoder with frames"
            )
        self.hop = round(SAMPLE_RATE / more)
        self.receptive_field = max(1, SAMPLE_RATE - (len(short) - 1) * self.hop)
        self._width = short.shape[1] // (self.layers + 1 if self.layer == "all" else 1)

    @property
    def width(self) -> int:
        """Channels of one hidden state."""
        return self._width

    def preprocessing(self) -> dict[str, Any]:
        """The settings of the model's own feature extractor."""
        settings: dict[str, Any] = self._extractor.to_dict()
        return {name: value for name, value in settings.items() if not hasattr(value, "shape")}

    def prepare(self, wave: Float[np.ndarray, "N"]) -> Tensor:
        """The wave; :meth:`run` applies the feature extractor."""
        return torch.from_numpy(np.ascontiguousarray(wave))

    def frames(self, samples: int) -> int:
        """The approximate number of frames of a wave."""
        return max(0, math.floor((samples - self.receptive_field) / self.hop) + 1)

    def steps(self, size: int) -> int:
        """An input step is a sample."""
        return self.frames(size)

    def run(self, inputs: Float[Tensor, "1 N"], lengths: list[int] | None) -> Tensor:
        """Feature extractor and model."""
        made = self._extractor(inputs[0].numpy(), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        placed = {
            name: self.place(value) if value.is_floating_point() else value.to(self.device)
            for name, value in made.items()
        }
        last: Tensor = self.model(**placed).last_hidden_state
        return last

    def encode(
        self, waves: Sequence[Float[np.ndarray, "_"]], batched: bool = True
    ) -> list[Float[Tensor, "_ D"]]:
        """The features of each wave, one by one."""
        for wave in waves:
            self.check(wave)
        return [self._one(wave) for wave in waves]

    def _one(self, wave: Float[np.ndarray, "N"]) -> Float[Tensor, "T D"]:
        _, hidden_states = self.load()
        with torch.no_grad():
            states = hidden_states(lambda: self.run(self.prepare(wave)[None], None))
        self._check_finite(states, [states.shape[1]])
        return states[0].float().cpu()

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
        except (OSError, ValueError, KeyError) as error:
            raise EncoderError(
                f"{self.source.folder} has no feature extractor that transformers can load; "
                "add its preprocessor_config.json"
            ) from error
        rate = getattr(extractor, "sampling_rate", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            raise EncoderError(
                f"{self.source.name} needs audio at {rate} Hz, but sigma-ser uses {SAMPLE_RATE} Hz;"
                " choose another encoder"
            )
        return extractor
