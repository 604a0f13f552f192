"""Forward passes of an encoder: pieces of prepared inputs in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core.errors import EncoderError
from sigma_ser.core.features import valid_frames

from .batches import Piece

if TYPE_CHECKING:
    from .family import Encoder

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


def batch_states(encoder: Encoder, inputs: Sequence[Tensor]) -> Float[Tensor, "B T F"]:
    """The selected hidden states of inputs in one batch, padded where their sizes differ.

    They are on the device of the encoder, and differentiable unless the caller disables gradients.

    Args:
        encoder: runs the batch.
        inputs: of `Encoder.prepare`, one for each utterance.
    """
    sizes = [len(item) for item in inputs]
    lengths = sizes if len(set(sizes)) > 1 else None
    batch = nn.utils.rnn.pad_sequence(list(inputs), batch_first=True)
    _, hidden_states = encoder.load()
    return hidden_states(lambda: encoder.run(batch, lengths)).float()


def batch_features(encoder: Encoder, inputs: list[Tensor]) -> list[Float[Tensor, "_ D"]]:
    """The features of inputs in one batch, which is halved if memory is insufficient.

    Args:
        encoder: runs the batch.
        inputs: of `Encoder.prepare`, one for each utterance.

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


def encoded(
    encoder: Encoder,
    inputs: Sequence[Tensor],
    frames: Sequence[int],
    *,
    batched: bool = True,
    device: torch.device | None = None,
) -> list[Float[Tensor, "_ D"]]:
    """The features of utterances, of which long ones are cut into pieces.

    Args:
        encoder: runs the batches.
        inputs: of `Encoder.prepare` or `Encoder.prepare_tensor`, for whole utterances.
        frames: the number of frames of each utterance.
        batched: `False` encodes every piece in a batch of its own.
        device: of the features; `None` leaves them on that of the encoder.

    Returns:
        `(T_i, D)` float32 for each utterance, in order.
    """
    pieces: list[tuple[int, Piece, Tensor]] = []
    for position, (whole, count) in enumerate(zip(inputs, frames, strict=True)):
        for piece in encoder.cut(count):
            start = piece.first * encoder.stride
            # The samples after the last frame contribute to the means of a group norm.
            last = piece.last == count
            end = None if last else (piece.last - 1) * encoder.stride + encoder.window
            pieces.append((position, piece, whole[start:end]))
    sizes = [len(part) for _, _, part in pieces]
    parts: list[Tensor | None] = [None] * len(pieces)
    for group in encoder.groups(sizes) if batched else [[row] for row in range(len(pieces))]:
        found = batch_features(encoder, [pieces[i][2] for i in group])
        for row, features in zip(group, found, strict=True):
            piece = pieces[row][1]
            kept = features[piece.skip : piece.skip + piece.keep]
            parts[row] = kept if device is None else kept.to(device)
    joined: list[list[Tensor]] = [[] for _ in inputs]
    for (position, _, _), part in zip(pieces, parts, strict=True):
        assert part is not None
        joined[position].append(part)
    return [torch.cat(part) if len(part) > 1 else part[0] for part in joined]


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
