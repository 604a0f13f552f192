"""Load a frozen speech encoder: 16 kHz waveforms in, features `(T, D)` out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sigma_ser.core import registry
from sigma_ser.core.errors import EncoderError
from sigma_ser.execution.memory import bound_primitive_cache

from .family import Encoder
from .settings import Settings
from .source import find_source
from .weights import tensor_sizes

__all__ = ["Encoder", "encoder_of", "load_encoder"]

# What must agree for an encoder to be the one that features were extracted with.
_SAME = ("weights", "config", "layer", "context", "preprocessing", "dtype")


def load_encoder(
    name_or_path: str | Path,
    layer: int | str = -1,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    *,
    context: str | None = None,
    normalise: bool | None = None,
    chunk_seconds: float = 30.0,
    overlap_seconds: float = 2.0,
    batch_seconds: float | None = None,
    allow_pickle: bool = False,
) -> Encoder:
    """Open a frozen encoder; its model is loaded when it first encodes.

    Config, weight files and settings are checked at once. Weights that lack a parameter of the
    model are found when the model is loaded, which `Encoder.load()` does at once.

    Args:
        name_or_path: `"demo"` (embedded), a folder with `config.json` and safetensors, or a
            Hugging Face id, which is downloaded if it is not on this machine.
        layer: a hidden state by index (0: before the first transformer layer, -1: the output of
            the model), `"mean"` of all, or `"all"` of them side by side.
        revision: branch, tag or commit on the hub; the commit is recorded.
        device: a torch device.
        dtype: type of the arithmetic, `float32`, `float16` or `bfloat16`; features are float32.
        context: for Whisper only: `"full"` pads to 30 s as in its training (default), `"utterance"`
            pads to whole frames only, which is many times faster and gives other features.
        normalise: whether waves are scaled to zero mean and unit variance; `None` follows the
            `preprocessor_config.json` of the model.
        chunk_seconds: maximum duration of a piece of audio, above 0; longer utterances are cut.
        overlap_seconds: context on either side of a cut, which is discarded afterwards.
        batch_seconds: maximum duration of a batch; `None` chooses by device.
        allow_pickle: read weights that are not safetensors (with `weights_only`).

    Raises:
        EncoderError: if the encoder cannot be opened; the message says what to do.
        UnknownNameError: if the name is neither embedded, nor a folder, nor a hub id.
    """
    bound_primitive_cache()
    source = find_source(name_or_path, revision, allow_pickle)
    if not source.pickled:
        # A file that is not whole is an error now, and not when the model is loaded.
        tensor_sizes(source.weights)
    family = source.model_type if source.model_type in registry.names("encoder") else "generic"
    settings = Settings(
        layer=layer,
        device=device,
        dtype=dtype,
        context=context,
        normalise=normalise,
        chunk_seconds=chunk_seconds,
        overlap_seconds=overlap_seconds,
        batch_seconds=batch_seconds,
    )
    encoder: Encoder = registry.make("encoder", family, None, source, settings)
    return encoder


def encoder_of(card: Mapping[str, Any]) -> Encoder:
    """Open the encoder that features were extracted with.

    Args:
        card: of the encoder, `store.card["encoder"]`.

    Raises:
        EncoderError: if it cannot be opened, or has other weights or settings now.
        UnknownNameError: if its name is neither embedded, nor a folder, nor a hub id.
    """
    encoder = load_encoder(
        card["name"],
        card["layer"],
        card.get("revision"),
        dtype=card["dtype"],
        context=card.get("context"),
        normalise=card["preprocessing"].get("normalise"),
        chunk_seconds=card["chunk_seconds"],
        overlap_seconds=card["overlap_seconds"],
    )
    differing = [name for name in _SAME if encoder.card[name] != card[name]]
    if differing:
        raise EncoderError(
            f"the encoder {card['name']} differs from that of the features in "
            f"{', '.join(differing)}; extract the features again with this one"
        )
    return encoder
