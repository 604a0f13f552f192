"""From a perturbed wave to a class by way of a file, as a recording would be recognised."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.attacks.verification import majority
from sigma_ser.audio.reading import read_audio
from sigma_ser.audio.writing import Provenance, write_flac
from sigma_ser.core.contracts import Victim
from sigma_ser.core.features import FeatureBatch, pad
from sigma_ser.encoders.encoder import Encoder
from sigma_ser.encoders.shards import stored
from sigma_ser.victims.layers import weighted_sum


def from_files(waves: FeatureBatch) -> FeatureBatch:
    """Write waves as 16-bit FLAC files and read them as all recordings are read.

    Args:
        waves: `(B, S, 1)`, 16 kHz, full scale at 1; what lies beyond is clipped.

    Returns:
        Waves with the same lengths and ids.

    Raises:
        AudioError: if a wave is not finite, or too short or too quiet for a recording.
    """
    about = Provenance(original="", attack="", budget={})
    read = []
    with tempfile.TemporaryDirectory(prefix="sigma-ser-") as folder:
        path = Path(folder) / "wave.flac"
        for wave, size in zip(waves.x.detach().cpu(), waves.lengths.tolist(), strict=True):
            write_flac(path, wave[:size, 0].numpy(), about)
            read.append(torch.from_numpy(read_audio(path))[:, None])
    return pad(read, waves.ids)


def features_of(
    encoder: Encoder, victim: Victim, waves: FeatureBatch, *, dtype: str = "float16"
) -> list[Float[Tensor, "_ D"]]:
    """The features of waves as extraction stores them, each encoded alone.

    Args:
        encoder: of the victim's features.
        victim: on these features; its learned sum of layers is applied, if it has one.
        waves: `(B, S, 1)`, 16 kHz.
        dtype: type of stored features, `float16` or `float32`.

    Returns:
        `(T_i, D)` float32 for each utterance.

    Raises:
        AudioError: if a wave is too short for one frame.
        StoreError: if a value exceeds the range of the type.
    """
    weights: Tensor | None = getattr(victim, "layer_weights", None)
    sizes = waves.lengths.tolist()
    arrays = [wave[:size, 0].numpy() for wave, size in zip(waves.x.cpu(), sizes, strict=True)]
    found = []
    for states, name in zip(encoder.encode(arrays, batched=False), waves.ids, strict=True):
        features = stored(states, dtype, name).float()
        found.append(features if weights is None else weighted_sum(features, weights.to(features)))
    return found


def round_trip(
    encoder: Encoder,
    victim: Victim,
    waves: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    dtype: str = "float16",
    random: bool = False,
) -> Int[Tensor, "B"]:
    """Classify waves that were written as files, read, and encoded and classified alone.

    Args:
        encoder: of the victim's features.
        victim: on these features.
        waves: `(B, S, 1)`, 16 kHz, full scale at 1.
        labels: true classes `(B,)`, which `random` needs, on the device of the victim.
        dtype: type of the features that the victim is otherwise given.
        random: whether the logits of the victim are random; then the class of most passes counts.

    Returns:
        Class indices `(B,)`.

    Raises:
        AudioError: if a wave cannot be a recording.
    """
    classes = []
    found = features_of(encoder, victim, from_files(waves), dtype=dtype)
    for features, name, label in zip(found, waves.ids, labels, strict=True):
        alone = pad([features], [name]).to(labels.device)
        with torch.inference_mode():
            classes.append(
                majority(victim, alone, label[None])
                if random
                else victim(alone.x, alone.lengths).argmax(1)
            )
    return torch.cat(classes)
