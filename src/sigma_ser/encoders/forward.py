"""Forward passes of an encoder: one batch of prepared inputs, halved if memory is insufficient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core.errors import EncoderError
from sigma_ser.core.features import valid_frames

if TYPE_CHECKING:
    from .family import Encoder

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


def batch_states(encoder: Encoder, inputs: Sequence[Tensor]) -> Float[Tensor, "B T F"]:
    """The selected hidden states of inputs in one batch, padded where their sizes differ.

    Args:
        encoder: runs the batch.
        inputs: of :meth:`Encoder.prepare`, one for each utterance.
    """
    sizes = [len(item) for item in inputs]
    lengths = sizes if len(set(sizes)) > 1 else None
    batch = nn.utils.rnn.pad_sequence(list(inputs), batch_first=True)
    _, hidden_states = encoder.load()
    with torch.no_grad():
        return hidden_states(lambda: encoder.run(batch, lengths)).float().cpu()


def batch_features(encoder: Encoder, inputs: list[Tensor]) -> list[Float[Tensor, "_ D"]]:
    """The features of inputs in one batch, which is halved if memory is insufficient.

    Args:
        encoder: runs the batch.
        inputs: of :meth:`Encoder.prepare`, one for each utterance.

    Raises:
        EncoderError: if memory is insufficient for a single input, or features overflow.
    """
    try:
        states = batch_states(encoder, inputs)
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise
        if len(inputs) == 1:
            raise EncoderError(
                f"there is not enough memory on {encoder.device} for one piece of audio; "
                "lower chunk_seconds, or use a smaller encoder"
            ) from error
    else:
        frames = [encoder.steps(len(item)) for item in inputs]
        check_finite(encoder, states, frames)
        # Clones, so that the features of one utterance do not keep the whole batch in memory.
        return [row[:count].clone() for row, count in zip(states, frames, strict=True)]
    if encoder.device.type == "cuda":
        torch.cuda.empty_cache()
    half = len(inputs) // 2
    return [*batch_features(encoder, inputs[:half]), *batch_features(encoder, inputs[half:])]


def check_finite(encoder: Encoder, states: Float[Tensor, "B T F"], frames: Sequence[int]) -> None:
    """Check the valid frames of a batch.

    Raises:
        EncoderError: if a feature is not finite.
    """
    if bool(torch.isfinite(states).all()):
        return
    valid = valid_frames(torch.tensor(frames), states.shape[1])[:, :, None]
    if not bool(torch.isfinite(states.masked_fill(~valid, 0.0)).all()):
        dtype = encoder.settings.dtype
        remedy = (
            "its weights or its config are damaged; download or export the model again"
            if dtype == "float32"
            else 'use dtype="float32"'
        )
        raise EncoderError(
            f"{encoder.source.name} gave features that are not finite in {dtype}; {remedy}"
        )
