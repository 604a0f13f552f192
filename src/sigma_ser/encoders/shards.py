"""One shard of a store: read the recordings, encode them, write the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.audio.reading import read_audio
from sigma_ser.core.errors import AudioError, StoreError
from sigma_ser.core.files import whole_file
from sigma_ser.core.utterance import Utterance

from .encoder import load_encoder
from .family import Encoder
from .index import Entry, file_digest, shard_path

DTYPES = {"float16": torch.float16, "float32": torch.float32}
"""How features may be stored."""

# Audio that is read while the group before it is encoded: several batches, so that equal lengths
# meet, but not so much that memory would grow with the corpus.
_GROUP_SECONDS = 64.0
_GROUP_BATCHES = 4


@dataclass(frozen=True)
class ShardTask:
    """One shard: what a worker needs to make it, and nothing of the others."""

    folder: Path
    shard: int
    utterances: tuple[Utterance, ...]
    labels: tuple[int, ...]
    dtype: str
    encoder: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class ShardReport:
    """What came out: the rows of the index, and the checksum of the file."""

    shard: int
    entries: tuple[Entry, ...]
    digest: str


def make_shard(
    task: ShardTask, *, encoder: Encoder | None = None, tick: Callable[[int], None] | None = None
) -> ShardReport:
    """Make one shard: read, encode, write.

    Args:
        task: what to make.
        encoder: a loaded one; `None` loads it, once in each process.
        tick: called with the number of utterances after each group that was encoded.
    """
    from safetensors.torch import save_file

    encoder = encoder or _encoder_of(task.encoder)
    features: dict[int, Tensor] = {}
    samples: dict[int, int] = {}
    faults: dict[int, str] = {}
    for rows, waves in _read_ahead(task.utterances, encoder):
        good = []
        for row, wave in zip(rows, waves, strict=True):
            if isinstance(wave, AudioError):
                faults[row] = f"{wave} [{wave.reason}]"
            else:
                good.append(wave)
                samples[row] = len(wave)
        readable = [row for row in rows if row in samples]
        for row, states in zip(readable, encoder.encode(good), strict=True):
            features[row] = _stored(states, task.dtype, task.utterances[row].id)
        if tick is not None:
            tick(len(rows))
    entries = []
    offset = 0
    for row, (utterance, label) in enumerate(zip(task.utterances, task.labels, strict=True)):
        frames = len(features[row]) if row in features else 0
        entries.append(
            Entry(
                id=utterance.id,
                label=label,
                shard=task.shard,
                offset=offset,
                frames=frames,
                samples=samples.get(row, 0),
                fault=faults.get(row),
            )
        )
        offset += frames
    # The empty tensor makes a shard of unreadable recordings a file like the others.
    empty = torch.zeros(0, encoder.dim, dtype=DTYPES[task.dtype])
    joined = torch.cat([empty, *(features[row] for row in sorted(features))])
    with whole_file(shard_path(task.folder, task.shard)) as aside:
        save_file({"features": joined}, aside)
        digest = file_digest(aside)
    return ShardReport(task.shard, tuple(entries), digest)


def read_groups(utterances: Sequence[Utterance], encoder: Encoder) -> list[list[int]]:
    """Rows of a shard that are read, and then encoded, together."""
    limit = max(_GROUP_SECONDS, _GROUP_BATCHES * encoder.batch_seconds)
    groups: list[list[int]] = []
    seconds = 0.0
    for row, utterance in enumerate(utterances):
        if not groups or seconds + utterance.seconds > limit:
            groups.append([])
            seconds = 0.0
        groups[-1].append(row)
        seconds += utterance.seconds
    return groups


def _read_ahead(
    utterances: Sequence[Utterance], encoder: Encoder
) -> Iterator[tuple[list[int], list[Float[np.ndarray, "_"] | AudioError]]]:
    """Groups of rows with their waves; a thread reads the next group meanwhile."""
    groups = read_groups(utterances, encoder)

    def read(rows: list[int]) -> list[Float[np.ndarray, "_"] | AudioError]:
        return [_read(utterances[row], encoder) for row in rows]

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, groups[0])
        for group, after in zip(groups, [*groups[1:], None], strict=True):
            waves = following.result()
            if after is not None:
                following = reader.submit(read, after)
            yield group, waves


def _read(utterance: Utterance, encoder: Encoder) -> Float[np.ndarray, "_"] | AudioError:
    try:
        wave = read_audio(utterance.path)
        encoder.check(wave)
    except AudioError as error:
        return error
    return wave


def _stored(states: Float[Tensor, "T D"], dtype: str, name: str) -> Tensor:
    stored = states.to(DTYPES[dtype])
    if not bool(torch.isfinite(stored).all()):
        raise StoreError(
            f"features of {name!r} exceed the range of {dtype} (largest {states.abs().max():.3g}); "
            'extract with dtype="float32"'
        )
    return stored


@lru_cache(maxsize=1)
def _encoder_of(spec: tuple[tuple[str, Any], ...]) -> Encoder:
    return load_encoder(**dict(spec))
