"""Batches of audio for an encoder, and the pieces of long utterances."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

# Two utterances are padded to one length only if that adds at most this share of work.
_PADDING_SHARE = 0.1


@dataclass(frozen=True)
class Piece:
    """Frames `first` to `last` of an utterance are computed; `keep` from `skip` on are kept."""

    first: int
    last: int
    skip: int
    keep: int


def cut(frames: int, chunk: int, overlap: int) -> list[Piece]:
    """Cut an utterance of `frames` into equal parts, each with `overlap` frames on either side.

    The frames of the overlap give the encoder context and are discarded afterwards.
    An utterance of at most `chunk` frames stays whole.

    >>> cut(10, 6, 1)
    [Piece(first=0, last=5, skip=0, keep=4), Piece(first=3, last=8, skip=1, keep=3), \
Piece(first=6, last=10, skip=1, keep=3)]
    """
    if frames <= chunk:
        return [Piece(0, frames, 0, frames)]
    count = -(-frames // (chunk - 2 * overlap))
    edges = [-(-frames * part // count) for part in range(count + 1)]
    return [
        Piece(max(0, start - overlap), min(frames, end + overlap), min(start, overlap), end - start)
        for start, end in pairwise(edges)
    ]


def group_equal(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Group positions of equal size, each group with a total size of at most `budget`.

    >>> group_equal([3, 5, 3, 3], budget=6)
    [[0, 2], [3], [1]]
    """
    same: dict[int, list[int]] = defaultdict(list)
    for position, size in enumerate(sizes):
        same[size].append(position)
    groups: list[list[int]] = []
    for size, positions in sorted(same.items()):
        count = max(1, budget // size)
        groups += [positions[i : i + count] for i in range(0, len(positions), count)]
    return groups


def group_padded(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Group positions of similar size; padded to the longest, a group has at most size `budget`.

    >>> group_padded([100, 96, 50, 10], budget=300)
    [[3], [2], [1, 0]]
    """
    groups: list[list[int]] = []
    group: list[int] = []
    for position in sorted(range(len(sizes)), key=lambda item: (sizes[item], item)):
        longest = sizes[position]
        fits = longest * (len(group) + 1) <= budget
        close = not group or longest <= sizes[group[0]] * (1 + _PADDING_SHARE)
        if group and not (fits and close):
            groups.append(group)
            group = []
        group.append(position)
    return [*groups, group] if group else groups
