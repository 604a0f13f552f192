"""How an encoder is applied."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sigma_ser.core.errors import EncoderError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How an encoder is applied; `load_encoder` documents each setting.

    Raises:
        EncoderError: if `dtype` is unknown, or chunks are too short for their overlap.
    """

    layer: int | str = -1
    device: str = "cpu"
    dtype: str = "float32"
    context: str | None = None
    normalise: bool | None = None
    chunk_seconds: float = 30.0
    overlap_seconds: float = 2.0
    batch_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise EncoderError(f"dtype must be one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if self.chunk_seconds <= 2 * self.overlap_seconds or self.overlap_seconds < 0:
            raise EncoderError(
                f"chunk_seconds ({self.chunk_seconds:g}) must be more than twice "
                f"overlap_seconds ({self.overlap_seconds:g}), which is at least 0"
            )
