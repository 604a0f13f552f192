"""Reading audio in a thread while the audio before it is encoded, across shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from jaxtyping import Float

from sigma_ser.audio.reading import read_utterance
from sigma_ser.core.errors import AudioError
from sigma_ser.core.utterance import Utterance

from .family import Encoder

Waves = list[Float[np.ndarray, "_"] | AudioError]
"""The samples of some recordings; an error in place of a recording without features."""

# Audio that is read while the group before it is encoded: several batches, so that a group has
# waves of equal length, but a bounded amount of memory.
_GROUP_SECONDS = 64.0
_GROUP_BATCHES = 4


class ReadAhead:
    """Reads shards group by group, and always one group ahead.

    It reads ahead across the end of a shard, because the encoder would otherwise wait for the first
    group of each shard.

    Args:
        shards: utterances of each shard, in the order in which they will be encoded.
        encoder: determines the size of groups and checks the waves.
    """

    def __init__(self, shards: Sequence[Sequence[Utterance]], encoder: Encoder) -> None:
        self._shards = shards
        self._encoder = encoder
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._first: dict[int, Future[Waves]] = {}

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.shutdown(cancel_futures=True)

    def groups(self, position: int) -> Iterator[tuple[list[int], Waves]]:
        """The rows of a shard that are encoded together, with their waves.

        Args:
            position: position of the shard in `shards`.
        """
        groups = read_groups(self._shards[position], self._encoder)
        waiting = self._first.pop(position, None) or self._submit(position, groups[0])
        for group, after in zip(groups, [*groups[1:], None], strict=True):
            waves = waiting.result()
            if after is not None:
                waiting = self._submit(position, after)
            elif position + 1 < len(self._shards):
                following = read_groups(self._shards[position + 1], self._encoder)
                self._first[position + 1] = self._submit(position + 1, following[0])
            yield group, waves

    def _submit(self, position: int, rows: list[int]) -> Future[Waves]:
        return self._reader.submit(self._read, position, rows)

    def _read(self, position: int, rows: list[int]) -> Waves:
        return [self._read_one(self._shards[position][row]) for row in rows]

    def _read_one(self, utterance: Utterance) -> Float[np.ndarray, "_"] | AudioError:
        try:
            wave = read_utterance(utterance)
            self._encoder.check(wave)
        except AudioError as error:
            return error
        return wave


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
