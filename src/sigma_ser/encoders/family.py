"""The common part of all families of encoders, and the methods that a family defines."""

from __future__ import annotations

import copy
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import AudioError, EncoderError
from sigma_ser.core.files import content_key

from .batches import Piece, cut, group_equal, group_padded
from .forward import encoded
from .layers import HiddenStates, resolve_layer
from .padding import TOLERANCE, padding_change
from .settings import DTYPES, Settings
from .source import Source

# Shared by all encoders, so that an encoder itself can be copied and pickled.
_LOADING = threading.RLock()


class Encoder(ABC):
    """A frozen encoder with a choice of layer.

    A family is a subclass, registered under its `model_type`: it loads the model (`build`),
    turns a wave into model inputs (`prepare`), counts frames (`frames`) and runs a
    batch (`run`).

    The model is loaded when it is first needed. Whatever describes the encoder (`card`, `key`,
    `dim`, `frame_seconds`, `frames`) comes from the config and from a hash of the weight files,
    except in a family that has to run the model in `measure`.
    """

    family: ClassVar[str]
    contexts: ClassVar[tuple[str, ...]] = ()
    """Possible values of `context`, the default first."""
    hop: int = 320
    """Samples at 16 kHz from one frame to the next."""
    receptive_field: int = 400
    """Samples at 16 kHz that one frame needs; shorter waves are an error."""
    stride: int = 320
    """Steps of the model's input from one frame to the next."""
    window: int = 400
    """Receptive field of one frame in steps of the model's input."""
    padding_safe: bool = False
    """Whether the architecture may be padded, if a measurement with the model confirms it."""

    def __init__(self, source: Source, settings: Settings) -> None:
        if settings.context is not None and settings.context not in self.contexts:
            known = ", ".join(self.contexts) or "none for this family, leave it out"
            raise EncoderError(f"context={settings.context!r} is not possible here: {known}")
        self.source = source
        self.settings = settings
        self.context = settings.context or next(iter(self.contexts), None)
        self.device = torch.device(settings.device)
        self.dtype = DTYPES[settings.dtype]
        self.layer = resolve_layer(settings.layer, self.layers)
        self._loaded: tuple[nn.Module, HiddenStates] | None = None
        self._proven = False
        source.check_rate()
        self.measure()

    # What a family defines.

    @abstractmethod
    def build(self) -> nn.Module:
        """The model with its weights."""

    @abstractmethod
    def stack(self, model: nn.Module) -> nn.ModuleList:
        """The transformer layers of the model."""

    @property
    @abstractmethod
    def layers(self) -> int:
        """The number of transformer layers."""

    @abstractmethod
    def prepare(self, wave: Float[np.ndarray, "N"]) -> Tensor:
        """The model's input for one whole utterance, time first."""

    def prepare_tensor(self, wave: Float[Tensor, "N"]) -> Tensor:
        """As `prepare`, in torch, so that gradients reach the wave; equal to it to 1e-5."""
        raise EncoderError(
            f"the preprocessing of the {self.family} encoder is not differentiable, so no gradient "
            "reaches the audio; choose another encoder, or define prepare_tensor in its family"
        )

    @abstractmethod
    def frames(self, samples: int) -> int:
        """The number of frames of a wave with `samples` samples; 0 if it is too short."""

    @abstractmethod
    def run(self, inputs: Tensor, lengths: list[int] | None) -> Tensor:
        """The last hidden state `(B, T, D)` of inputs `(B, N, ...)`.

        `lengths` are the valid input steps of a padded batch, `None` if all are equal.
        """

    @abstractmethod
    def steps(self, size: int) -> int:
        """The number of frames that the model returns for an input of `size` steps."""

    def measure(self) -> None:  # noqa: B027 - most families have nothing to set
        """Set hop, receptive field, stride, window, `padding_safe` where the model decides."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of one hidden state."""

    def preprocessing(self) -> dict[str, Any]:
        """The preprocessing of a wave, as plain data."""
        return {}

    # What every encoder offers.

    @property
    def model(self) -> nn.Module:
        """The model, without the transformer layers above the chosen one."""
        return self.load()[0]

    def load(self) -> tuple[nn.Module, HiddenStates]:
        """Load the model unless it is loaded; return it with the reader of its hidden states.

        Raises:
            EncoderError: if the weights do not fit the config, or have changed on disk since
                `load_encoder` read the folder.
        """
        with _LOADING:
            if self._loaded is None:
                model = self.build().eval().requires_grad_(False)
                self.source.check_unchanged()
                loaded = model, HiddenStates(self.stack(model), self.layer)
                self._proven = self.padding_safe and self._proof(loaded)
                model.to(self.device, self.dtype)
                self._loaded = loaded
            return self._loaded

    @property
    def may_pad(self) -> bool:
        """Whether waves of different lengths may share a batch.

        The architecture must permit it (`padding_safe`), and the loaded model must show on noise
        that padding changes its features by at most 1e-5.
        """
        self.load()
        return self._proven

    def _proof(self, loaded: tuple[nn.Module, HiddenStates]) -> bool:
        """Measure on the CPU in float32, so that batches are the same on every device."""
        probe = copy.copy(self)
        probe.device, probe.dtype, probe._loaded = torch.device("cpu"), torch.float32, loaded
        return padding_change(probe) <= TOLERANCE

    def place(self, tensor: Tensor) -> Tensor:
        """A tensor on the device of the model, in its type."""
        return tensor.to(self.device, self.dtype)

    @property
    def dim(self) -> int:
        """Channels `D` of the features."""
        return self.width * (self.layers + 1 if self.layer == "all" else 1)

    @property
    def frame_seconds(self) -> float:
        """Time from one frame to the next in seconds."""
        return self.hop / SAMPLE_RATE

    def frame_times(self, frames: int) -> Float[Tensor, "T"]:
        """The centre of the receptive field of each frame in seconds."""
        first = self.receptive_field / 2 / SAMPLE_RATE
        return first + self.frame_seconds * torch.arange(frames, dtype=torch.float32)

    @cached_property
    def card(self) -> dict[str, Any]:
        """Everything that determines the features, as plain data."""
        return {
            "name": self.source.name,
            "family": self.family,
            "model_type": self.source.model_type,
            "revision": self.source.revision,
            "weights": self.source.digest(),
            "config": content_key(self.source.config),
            "layer": self.layer,
            "layers": self.layers,
            "dim": self.dim,
            "frame_seconds": self.frame_seconds,
            "receptive_field": self.receptive_field,
            "context": self.context,
            "preprocessing": self.preprocessing(),
            "chunk_seconds": self.settings.chunk_seconds,
            "overlap_seconds": self.settings.overlap_seconds,
            "batch_seconds": self.batch_seconds,
            "dtype": self.settings.dtype,
            "device": self.device.type,
            "transformers": version("transformers"),
            "torch": torch.__version__,
        }

    @property
    def key(self) -> str:
        """A hash of the card without names: the same weights under another path agree."""
        named = ("name", "revision")
        return content_key({name: value for name, value in self.card.items() if name not in named})

    @property
    def spec(self) -> dict[str, Any]:
        """Arguments with which `load_encoder` opens the same encoder in another process."""
        return {
            "name_or_path": self.source.name
            if self.source.revision is None
            else str(self.source.folder),
            "allow_pickle": self.source.pickled,
            **asdict(self.settings),
        }

    @property
    def batch_seconds(self) -> float:
        """Maximum duration of a batch in seconds."""
        if self.settings.batch_seconds is not None:
            return self.settings.batch_seconds
        return 16.0 if self.device.type == "cpu" else 240.0

    def check(self, wave: Float[np.ndarray, "N"]) -> None:
        """Raise an `AudioError` if a wave has no features."""
        if self.frames(len(wave)) < 1:
            raise AudioError(
                f"a wave of {len(wave)} samples is shorter than the {self.receptive_field} that "
                f"one frame of this {self.family} encoder needs; leave the recording out",
                reason="too-short",
            )
        if not np.isfinite(wave).all():
            raise AudioError(
                "a wave has NaN or infinite samples; leave the recording out", "non-finite"
            )

    def encode(
        self, waves: Sequence[Float[np.ndarray, "_"]], batched: bool = True
    ) -> list[Float[Tensor, "_ D"]]:
        """The features of each wave.

        Batches have waves of equal length, or padded ones where `may_pad` is true. If memory
        is insufficient, the batch is halved.

        Args:
            waves: mono float32 at 16 kHz.
            batched: `False` encodes the waves one by one, as direct calls of the model do.

        Returns:
            `(T_i, D)` float32 on the CPU for each wave, in order.

        Raises:
            AudioError: if a wave is too short for one frame, or not finite.
            EncoderError: if memory is insufficient for a single piece, or features overflow.
        """
        for wave in waves:
            self.check(wave)
        inputs, frames = [self.prepare(wave) for wave in waves], self._frames_of(waves)
        with torch.no_grad():
            return encoded(self, inputs, frames, batched=batched, device=torch.device("cpu"))

    def trace(self, waves: Sequence[Float[Tensor, "_"]]) -> list[Float[Tensor, "_ D"]]:
        """The features of each wave, differentiable with respect to the wave.

        They equal those of `encode` to 1e-5.

        Args:
            waves: mono float32 at 16 kHz, on any device.

        Returns:
            `(T_i, D)` float32 on the device of the encoder for each wave, in order.

        Raises:
            AudioError: if a wave is too short for one frame, or not finite.
            EncoderError: if the preprocessing is not differentiable, memory is insufficient for a
                single piece, or features overflow.
        """
        for wave in waves:
            self.check(wave.detach().cpu().numpy())
        inputs = [self.prepare_tensor(wave.to(self.device)) for wave in waves]
        return encoded(self, inputs, self._frames_of(waves))

    def _frames_of(self, waves: Sequence[Any]) -> list[int]:
        return [self.frames(len(wave)) for wave in waves]

    def cut(self, frames: int) -> list[Piece]:
        """The pieces in which an utterance is encoded."""
        overlap = round(self.settings.overlap_seconds / self.frame_seconds)
        return cut(frames, self._chunk_frames(), overlap)

    def _chunk_frames(self) -> int:
        return round(self.settings.chunk_seconds / self.frame_seconds)

    def groups(self, sizes: Sequence[int]) -> list[list[int]]:
        """The batches of inputs with these sizes, as positions."""
        budget = round(self.batch_seconds / self.frame_seconds) * self.stride
        return group_padded(sizes, budget) if self.may_pad else group_equal(sizes, budget)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.source.name!r}, layer={self.layer!r})"
