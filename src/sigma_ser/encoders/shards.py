"""One shard of a store: read the recordings, encode them, write the file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.errors import AudioError, StoreError
from sigma_ser.core.files import file_digest, write_tensors
from sigma_ser.core.utterance import Utterance

from .encoder import load_encoder
from .family import Encoder
from .index import IndexRow, shard_path
from .read_ahead import ReadAhead, Waves

DTYPES = {"float16": torch.float16, "float32": torch.float32}
"""Possible types of stored features."""


@dataclass(frozen=True)
class ShardTask:
    """The data that a worker needs for one shard."""

    folder: Path
    shard: int
    utterances: Sequence[Utterance]
    labels: Sequence[int]
    dtype: str


@dataclass(frozen=True)
class ShardReport:
    """A finished shard: its rows of the index, and the checksum of its file."""

    shard: int
    entries: tuple[IndexRow, ...]
    digest: str


@dataclass(frozen=True)
class ShardMaker:
    """Makes shards in a worker, which enters it once and so loads the encoder once.

    Args:
        spec: arguments of `load_encoder`.
    """

    spec: tuple[tuple[str, Any], ...]
    _encoders: list[Encoder] = field(default_factory=list, compare=False, repr=False)

    def __enter__(self) -> ShardMaker:
        self._encoders.append(load_encoder(**dict(self.spec)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._encoders.pop()

    def __call__(self, task: ShardTask) -> ShardReport:
        """Make one shard."""
        encoder = self._encoders[-1]
        with ReadAhead([task.utterances], encoder) as ahead:
            return encode_shard(task, encoder, ahead.groups(0))


def encode_shard(
    task: ShardTask,
    encoder: Encoder,
    groups: Iterable[tuple[list[int], Waves]],
    tick: Callable[[int], None] | None = None,
) -> ShardReport:
    """Encode the recordings of one shard and write its file.

    Args:
        task: the shard.
        encoder: the encoder of the features.
        groups: rows of the shard with their waves.
        tick: called with the number of utterances after each encoded group.
    """
    features: dict[int, Tensor] = {}
    samples: dict[int, int] = {}
    faults: dict[int, str] = {}
    for rows, waves in groups:
        good = []
        for row, wave in zip(rows, waves, strict=True):
            if isinstance(wave, AudioError):
                faults[row] = f"{wave} [{wave.reason}]"
            else:
                good.append(wave)
                samples[row] = len(wave)
        readable = [row for row in rows if row in samples]
        for row, states in zip(readable, encoder.encode(good), strict=True):
            features[row] = stored(states, task.dtype, task.utterances[row].id)
        if tick is not None:
            tick(len(rows))
    entries = []
    offset = 0
    for row, (utterance, label) in enumerate(zip(task.utterances, task.labels, strict=True)):
        frames = len(features[row]) if row in features else 0
        entries.append(
            IndexRow(
                id=utterance.id,
                label=label,
                shard=task.shard,
                offset=offset,
                frames=frames,
                samples=samples.get(row, 0),
                fault=faults.get(row, ""),
            )
        )
        offset += frames
    # The empty tensor is for a shard of which no recording can be read.
    empty = torch.zeros(0, encoder.dim, dtype=DTYPES[task.dtype])
    joined = torch.cat([empty, *(features[row] for row in sorted(features))])
    digests: list[str] = []
    write_tensors(
        shard_path(task.folder, task.shard),
        {"features": joined},
        seal=lambda _, whole: digests.append(file_digest(whole)),
    )
    return ShardReport(task.shard, tuple(entries), digests[0])


def stored(states: Float[Tensor, "T D"], dtype: str, name: str) -> Float[Tensor, "T D"]:
    """The features of an utterance as a store holds them.

    Args:
        states: of the encoder, float32.
        dtype: of the store, a key of `DTYPES`.
        name: id of the utterance, for the error.

    Raises:
        StoreError: if a value exceeds the range of the type.
    """
    rounded = states.to(DTYPES[dtype])
    if not bool(torch.isfinite(rounded).all()):
        raise StoreError(
            f"features of {name!r} exceed the range of {dtype} (largest {states.abs().max():.3g}); "
            'extract with dtype="float32"'
        )
    return rounded
