"""Whisper's encoder (Radford et al. 2022): weakly supervised, not self-supervised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core.errors import EncoderError
from sigma_ser.core.registry import register
from sigma_ser.encoders.family import Encoder
from sigma_ser.encoders.pretrained import check_config
from sigma_ser.encoders.source import is_count

# Two mel frames of 160 samples make one frame of the encoder.
_HOP = 320
# Of the mel spectrogram, in samples; larger values are errors in a file, and need much memory.
_LONGEST_WINDOW = 4096
# The encoder in a whole model, in a model without head, and alone.
_PREFIXES = ("model.encoder.", "encoder.", "")


@register("encoder", "whisper")
class Whisper(Encoder):
    """Features of a `WhisperEncoder`, the first `ceil(samples / 320)` frames of each utterance.

    Whisper was trained on 30 s of audio, padded with silence, and has no attention mask; with
    `context="full"` the input is the same. With `context="utterance"` the wave is padded to whole
    frames only and the positional embeddings are cut to them, so that the cost follows the length
    of the utterance. The two give different features; the card records the context.
    """

    family = "whisper"
    contexts = ("full", "utterance")
    hop = stride = window = _HOP
    # The mel spectrogram reflects 200 samples at either end.
    receptive_field = 400

    def build(self) -> nn.Module:
        """The encoder, whatever else is in the weight files.

        Raises:
            EncoderError: if config and weights do not fit.
        """
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        settings = {
            name: value for name, value in self.source.config.items() if name != "model_type"
        }
        tensors = self.source.tensors()
        check_config(self.source, [value.numel() for value in tensors.values()])
        try:
            # Without memory: the weights may be smaller than the config says.
            with torch.device("meta"):
                model: nn.Module = WhisperEncoder(WhisperConfig(**settings))
        except Exception as error:  # transformers validates configs with errors of many types
            raise EncoderError(
                f"{self.source.folder / 'config.json'} does not describe a Whisper model "
                f"({error}); download or export the model again"
            ) from error
        prefix = next(p for p in _PREFIXES if any(name.startswith(p) for name in tensors))
        chosen = {
            name.removeprefix(prefix): value.float()
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
        sizes, found = (
            {name: tuple(value.shape) for name, value in state.items()}
            for state in (model.state_dict(), chosen)
        )
        faults = sorted(name for name in sizes | found if sizes.get(name) != found.get(name))
        if faults:
            first = faults[0]
            raise EncoderError(
                f"the weights in {self.source.folder} do not fit its config.json ({len(faults)} "
                f"parameters, first: {first} is {found.get(first, 'absent')} in the weights and "
                f"{sizes.get(first, 'absent')} in the model); download or export them again"
            )
        model.load_state_dict(chosen, assign=True)
        return model

    def stack(self, model: nn.Module) -> nn.ModuleList:
        """The transformer layers."""
        layers = model.layers
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def layers(self) -> int:
        """The number of transformer layers."""
        return self.source.count("encoder_layers")

    @property
    def width(self) -> int:
        """Channels of one hidden state."""
        return self.source.count("d_model")

    @property
    def longest(self) -> int:
        """The number of frames that have positional embeddings."""
        return self.source.count("max_source_positions")

    def preprocessing(self) -> dict[str, Any]:
        """The mel spectrogram."""
        return {
            "mel_bins": self.source.config.get("num_mel_bins", 80),
            "n_fft": self.source.preprocessor().get("n_fft", 400),
        }

    def measure(self) -> None:
        """Check the mel spectrogram, which fixes hop and receptive field.

        Raises:
            EncoderError: if the feature extractor makes another spectrogram.
        """
        size, hop = self.preprocessing()["n_fft"], self.source.preprocessor().get("hop_length", 160)
        if hop != _HOP // 2 or not is_count(size) or not hop <= size <= _LONGEST_WINDOW:
            raise EncoderError(
                f"the feature extractor of {self.source.name} has a hop of {hop!r} and a window of "
                f"{size!r} samples; the hop must be {_HOP // 2} and the window from {_HOP // 2} to "
                f"{_LONGEST_WINDOW} samples, so choose another encoder"
            )
        self.source.count("max_source_positions")
        if "num_mel_bins" in self.source.config:
            self.source.count("num_mel_bins")

    def prepare(self, wave: Float[np.ndarray, "N"]) -> Float[Tensor, "M"]:
        """The wave, padded with silence to whole frames."""
        return self.prepare_tensor(torch.from_numpy(wave))

    def prepare_tensor(self, wave: Float[Tensor, "N"]) -> Float[Tensor, "M"]:
        """The wave, padded with silence to whole frames."""
        return nn.functional.pad(wave.float(), (0, self.frames(len(wave)) * _HOP - len(wave)))

    def frames(self, samples: int) -> int:
        """The number of frames that the wave reaches."""
        return -(-samples // _HOP) if samples >= self.receptive_field else 0

    def steps(self, size: int) -> int:
        """An input step is a sample."""
        return size // _HOP

    def run(self, inputs: Float[Tensor, "B N"], lengths: list[int] | None) -> Tensor:
        """Mel spectrogram and encoder; padding in a batch is silence, as in training."""
        frames = self.longest if self.context == "full" else inputs.shape[1] // _HOP
        silence = frames * _HOP - inputs.shape[1]
        mel = log_mel(nn.functional.pad(inputs, (0, silence)), self._filters)
        model: Any = self.model
        with context_of(model, frames):
            last: Tensor = model(self.place(mel)).last_hidden_state
        return last

    def groups(self, sizes: Sequence[int]) -> list[list[int]]:
        """The batches of inputs; with the full context, all have the same size."""
        if self.context == "utterance":
            return super().groups(sizes)
        count = max(1, round(self.batch_seconds / (self.longest * self.frame_seconds)))
        rows = list(range(len(sizes)))
        return [rows[i : i + count] for i in range(0, len(rows), count)]

    def _chunk_frames(self) -> int:
        return min(self.longest, super()._chunk_frames())

    @cached_property
    def _filters(self) -> Float[Tensor, "F M"]:
        from transformers import WhisperFeatureExtractor

        settings = self.preprocessing()
        made = WhisperFeatureExtractor(feature_size=settings["mel_bins"], n_fft=settings["n_fft"])
        return torch.from_numpy(made.mel_filters).float()


def log_mel(waves: Float[Tensor, "B N"], filters: Float[Tensor, "F M"]) -> Float[Tensor, "B M T"]:
    """The log-mel spectrogram of `WhisperFeatureExtractor`, differentiable.

    Args:
        waves: at 16 kHz, padded with silence to the context.
        filters: of the mel bins, over the `F` frequencies of the Fourier transform.

    Returns:
        One column for every 160 samples.
    """
    size = 2 * (len(filters) - 1)
    window = torch.hann_window(size, device=waves.device)
    spectrum = torch.stft(waves, size, _HOP // 2, window=window, return_complex=True)
    power = (spectrum[..., :-1].abs() ** 2).contiguous()
    logarithm = (filters.to(waves.device).T @ power).clamp(min=1e-10).log10()
    loudest = logarithm.amax((1, 2), keepdim=True)
    return (torch.maximum(logarithm, loudest - 8.0) + 4.0) / 4.0


@contextlib.contextmanager
def context_of(model: Any, frames: int) -> Iterator[None]:
    """Cut the positional embeddings of a Whisper encoder to `frames` frames, for one pass."""
    whole, longest = model.embed_positions, model.config.max_source_positions
    if frames == longest:
        yield
        return
    positions = whole.weight[:frames]
    model.embed_positions = nn.Embedding(frames, positions.shape[1], _weight=positions)
    model.config.max_source_positions = frames
    try:
        yield
    finally:
        model.embed_positions, model.config.max_source_positions = whole, longest
