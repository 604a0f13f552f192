"""Victims on the waveform: an encoder and a victim on its features as one differentiable model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import VictimError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.encoders.family import Encoder

from .checkpoint import TrainedVictim
from .layers import weighted_sum
from .victim import WrappedVictim, wrap

FULL_SCALE = (-1.0, 1.0)
"""The box of a victim on the waveform."""

# Durations whose activations are kept for the backward pass, by device.
_KEPT_SECONDS = {"cpu": 30.0, "cuda": 240.0}


class WaveformModel(nn.Module):
    """`(x (B, S, 1), lengths (B,)) -> logits (B, C)`, through the preprocessing of extraction.

    Args:
        encoder: a frozen encoder.
        victim: a victim on its features.
        kept_seconds: duration of audio whose activations are kept for a backward pass. A longer
            batch is split, and its activations are computed again in the backward pass.
    """

    def __init__(self, encoder: Encoder, victim: Victim, kept_seconds: float) -> None:
        super().__init__()
        self.encoder, self.victim = encoder, victim
        self.kept_samples = round(kept_seconds * SAMPLE_RATE)
        # Registered, so that changes of the weights and training mode are noticed.
        self.encoder_model = encoder.model
        head = getattr(victim, "module", None)
        self.head = head if isinstance(head, nn.Module) else None

    def forward(self, x: Float[Tensor, "B S 1"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Return the logits of waves; samples behind their lengths are ignored."""
        if not torch.is_grad_enabled() or not x.requires_grad:
            return self._logits(x, lengths)
        parts = _parts(lengths.tolist(), self.kept_samples)
        if len(parts) == 1:
            return self._logits(x, lengths)
        order = torch.tensor([row for part in parts for row in part])
        logits = []
        for part in parts:
            rows = torch.tensor(part, device=x.device)
            longest = int(lengths[rows].max())
            logits.append(
                checkpoint(
                    self._logits, x[rows, :longest], lengths[rows],
                    use_reentrant=False, preserve_rng_state=False,
                )
            )  # fmt: skip
        return torch.cat(logits)[order.argsort().to(x.device)]

    def to(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse to move: the encoder keeps its device."""
        raise VictimError(
            "a victim on the waveform computes where its encoder does; use "
            "ss.load_encoder(..., device=...) and ss.on_waveform(encoder, victim.to(device))"
        )

    def features(self, batch: FeatureBatch) -> FeatureBatch:
        """The features of waves `(B, S, 1)` as the victim behind the encoder receives them."""
        with torch.no_grad():
            x, frames = self._features(batch.x, batch.lengths)
        return FeatureBatch(x, frames, batch.ids)

    def _logits(self, x: Float[Tensor, "B S 1"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        logits: Tensor = self.victim(*self._features(x, lengths))
        return logits

    def _features(
        self, x: Float[Tensor, "B S 1"], lengths: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B T D"], Int[Tensor, "B"]]:
        waves = [wave[:size, 0] for wave, size in zip(x, lengths.tolist(), strict=True)]
        features = [
            found.to(x.device) for found in trace_features(self.encoder, self.victim, waves)
        ]
        frames = torch.tensor([len(found) for found in features], device=x.device)
        padded = nn.utils.rnn.pad_sequence(features, batch_first=True)
        return padded, frames


def trace_features(
    encoder: Encoder, victim: Victim, waves: Sequence[Float[Tensor, "_"]]
) -> list[Float[Tensor, "_ D"]]:
    """The features of waves as a victim receives them, differentiable with respect to the waves.

    Args:
        encoder: the encoder of the victim's features.
        victim: one with learned weights of layers receives their sum.
        waves: mono float32 at 16 kHz.
    """
    weights: Tensor | None = getattr(victim, "layer_weights", None)
    features = encoder.trace(waves)
    if weights is None:
        return features
    return [weighted_sum(states, weights.to(states)) for states in features]


def on_waveform(
    encoder: Encoder, victim: Victim, *, kept_seconds: float | None = None
) -> WrappedVictim:
    """Make a victim on the waveform from an encoder and a victim on its features.

    Its features are waves `(B, S, 1)` at 16 kHz with full scale at 1, and `lengths` are samples.
    The preprocessing of extraction is part of it, and gradients reach every sample. Its `scale` is
    1, so epsilon is a share of full scale; its `mean` is 0 (silence), and its `box` is (-1, 1).

    Args:
        encoder: the encoder of the victim's features, with `layer="all"` for a victim with a
            learned sum of layers.
        victim: a victim on these features.
        kept_seconds: duration of audio whose activations are kept for a backward pass, above 0. A
            longer batch is split, which bounds the memory and costs one more forward pass. `None`
            chooses by device.

    Raises:
        VictimError: if the victim belongs to another encoder or layer.
        EncoderError: if the encoder cannot be loaded; in a call, if its preprocessing is not
            differentiable.
    """
    if not isinstance(encoder, Encoder):
        raise VictimError(
            f"on_waveform needs an encoder of ss.load_encoder, got a {type(encoder).__name__}"
        )
    if not isinstance(victim, Victim):
        raise VictimError(
            f"{type(victim).__name__} is not a victim; ss.wrap(module) makes one from a module"
        )
    if kept_seconds is not None and not kept_seconds > 0:
        raise VictimError(f"kept_seconds must be above 0, got {kept_seconds}")
    check_fit(encoder, victim)
    seconds = kept_seconds or _KEPT_SECONDS.get(encoder.device.type, _KEPT_SECONDS["cpu"])
    module = WaveformModel(encoder, victim, seconds).eval()
    return wrap(module, victim.class_names or None, box=FULL_SCALE)


def check_fit(encoder: Encoder, victim: Victim) -> None:
    """Check that an encoder gives the features of a victim.

    Raises:
        VictimError: if the victim belongs to another encoder or layer.
    """
    weights: Tensor | None = getattr(victim, "layer_weights", None)
    card: dict[str, Any] = encoder.card
    width = encoder.dim
    if weights is not None:
        if encoder.layer != "all" or len(weights) != encoder.layers + 1:
            raise VictimError(
                f"the victim sums {len(weights)} hidden states, and the encoder gives layer "
                f'{encoder.layer!r} of {encoder.layers}; load the encoder with layer="all"'
            )
        width //= len(weights)
        named = [f"{weight:.9g}" for weight in weights.tolist()]
        card = card | {"layer": "weighted", "weights_of_layers": named, "dim": width}
    if isinstance(victim, TrainedVictim):
        victim.check_encoder(card)
    if victim.scale.ndim and len(victim.scale) not in (1, width):
        raise VictimError(
            f"the victim has {len(victim.scale)} channels and the features of the encoder {width}; "
            "use the encoder and layer that it was trained on"
        )


def _parts(sizes: list[int], budget: int) -> list[list[int]]:
    """Positions in groups of similar size, each with a total of at most `budget` or of one item.

    >>> _parts([5, 1, 3, 2], 6)
    [[1, 3, 2], [0]]
    """
    parts: list[list[int]] = []
    total = budget + 1
    for row in sorted(range(len(sizes)), key=lambda item: (sizes[item], item)):
        total += sizes[row]
        if total > budget:
            parts.append([])
            total = sizes[row]
        parts[-1].append(row)
    return parts
