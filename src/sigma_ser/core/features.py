"""A padded batch of features: what victims, explainers and attacks are given."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .errors import ShapeError
from .html_repr import html_table


def valid_frames(lengths: Int[Tensor, "B"], frames: int) -> Bool[Tensor, "B T"]:
    """True where a frame belongs to the utterance, False on padding."""
    return torch.arange(frames, device=lengths.device)[None, :] < lengths[:, None]


def zero_padding(x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B T D"]:
    """Features with zeros on padding; `x` itself where they are already zero.

    Args:
        x: `(B, T, D)`; values on padding may be NaN.
        lengths: valid frames `(B,)`.
    """
    padding = ~valid_frames(lengths.to(x.device), x.shape[1])
    # Only the padding is read. On an accelerator this test would stop the queue of operations.
    if x.device.type == "cpu" and not bool(x.detach()[padding].any()):
        return x
    return x.masked_fill(padding[:, :, None], 0.0)


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that autograd can use if it was made under `torch.inference_mode`."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()


@dataclass(frozen=True, eq=False, repr=False)
class FeatureBatch:
    """Features of several utterances, padded at the end to the longest.

    Args:
        x: float32 `(B, T, D)`, `D` channels of `T` frames. Values on padding are ignored; the
            batch has zeros there, in a copy of `x` where it had other values.
        lengths: integer `(B,)`, valid frames of each utterance, from 1 to `T`.
        ids: one name for each utterance. `None` names each by the hash of its valid bytes, so
            that seeds, and with them results, do not depend on the rest of the batch.

    Raises:
        ShapeError: if shapes, lengths or types do not fit together.
    """

    x: Float[Tensor, "B T D"]
    lengths: Int[Tensor, "B"]
    ids: tuple[str, ...]

    def __init__(
        self,
        x: Float[Tensor, "B T D"],
        lengths: Int[Tensor, "B"],
        ids: Sequence[str] | None = None,
    ) -> None:
        for name, value in (("x", x), ("lengths", lengths)):
            if not isinstance(value, Tensor):
                raise ShapeError(
                    f"{name} of a batch must be a torch tensor, got {type(value).__name__}; "
                    "torch.as_tensor makes one"
                )
        if x.ndim != 3 or x.dtype != torch.float32:
            remedies = [
                *(["add the batch axis with x[None]"] if x.ndim == 2 else []),
                *(["call .float()"] if x.dtype != torch.float32 else []),
            ]
            raise ShapeError(
                f"features must be float32 (B, T, D), got {x.dtype} {tuple(x.shape)}"
                + (f"; {' and '.join(remedies)}" if remedies else "")
            )
        if lengths.shape != x.shape[:1] or not _counts(lengths):
            raise ShapeError(
                f"lengths must be integers of shape ({x.shape[0]},), "
                f"got {lengths.dtype} {tuple(lengths.shape)}"
            )
        lengths = lengths.to(x.device, torch.long)
        if len(x) and not bool(((lengths >= 1) & (lengths <= x.shape[1])).all()):
            raise ShapeError(
                f"each length must lie between 1 and {x.shape[1]} frames, got {lengths.tolist()}"
            )
        if ids is not None and len(ids) != len(x):
            raise ShapeError(f"{len(ids)} ids were given for {len(x)} utterances")
        with torch.inference_mode(False):
            lengths = ordinary(lengths)
            # Detached, because gradients would otherwise flow back into the encoder.
            x = zero_padding(ordinary(x.detach()), lengths)
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "ids", tuple(ids) if ids is not None else content_ids(x, lengths))

    def __len__(self) -> int:
        return len(self.x)

    def _described(self) -> dict[str, object]:
        lengths = self.lengths.tolist() or [0]
        return {
            "utterances": len(self),
            "frames": f"{min(lengths)} to {max(lengths)}",
            "channels": self.x.shape[2],
            "device": self.device,
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {value}" for name, value in self._described().items())
        return f"FeatureBatch({shown})"

    def _repr_html_(self) -> str:
        return html_table("Features", self._described())

    @property
    def valid(self) -> Bool[Tensor, "B T"]:
        """True on frames that belong to the utterance."""
        return valid_frames(self.lengths, self.x.shape[1])

    @property
    def device(self) -> torch.device:
        """The device of the features."""
        return self.x.device

    def select(self, rows: Int[Tensor, "R"]) -> FeatureBatch:
        """The utterances `rows`, cut to the longest of them."""
        lengths = self.lengths[rows]
        frames = int(lengths.max()) if len(lengths) else 0
        return FeatureBatch(
            self.x[rows, :frames], lengths, [self.ids[row] for row in rows.tolist()]
        )

    def to(self, device: torch.device | str) -> FeatureBatch:
        """The same batch on another device; the batch itself where it is there already."""
        if torch.device(device) == self.device:
            return self
        # From pinned memory, a copy to an accelerator does not wait for work that is queued there.
        pinned = torch.device(device).type == "cuda" and self.device.type == "cpu"
        x = self.x.pin_memory() if pinned else self.x
        return FeatureBatch(x.to(device, non_blocking=pinned), self.lengths.to(device), self.ids)


def _counts(lengths: Tensor) -> bool:
    return not lengths.is_floating_point() and lengths.dtype != torch.bool


def content_ids(x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> tuple[str, ...]:
    """Name each utterance by the hash of its valid float32 bytes."""
    rows = x.detach().cpu()
    return tuple(
        hashlib.blake2b(
            rows[row, :length].contiguous().numpy().tobytes(), digest_size=12
        ).hexdigest()
        for row, length in enumerate(lengths.tolist())
    )


def pad(items: Sequence[Float[Tensor, "_ D"]], ids: Sequence[str] | None = None) -> FeatureBatch:
    """Put `(T_i, D)` features into one batch, zeros behind the shorter ones."""
    if not items:
        raise ShapeError(
            "an empty list of features cannot be padded; select at least one utterance"
        )
    lengths = torch.tensor([len(item) for item in items])
    x = torch.nn.utils.rnn.pad_sequence(list(items), batch_first=True)
    return FeatureBatch(x.float(), lengths, ids)
