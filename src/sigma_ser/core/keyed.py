"""A mapping over two columns, without a Python dictionary of all its keys."""

from __future__ import annotations

import bisect
from array import array
from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

Value = TypeVar("Value")


class Keyed(Mapping[str, Value], Generic[Value]):
    """Maps the key in each row of `names` to the value in the same row of `values`.

    Args:
        names: all different.
        values: of the same length.

    >>> ages = Keyed(["bo", "al"], [3, 4])
    >>> ages["al"], list(ages), ages.get("cy")
    (4, ['bo', 'al'], None)
    """

    def __init__(self, names: Sequence[str], values: Sequence[Value]) -> None:
        self._names, self._values = names, values

    def __getitem__(self, name: str) -> Value:
        return self._values[self.row(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        try:
            self.row(name)
        except KeyError:
            return False
        return True

    def values(self) -> ValuesView[Value]:
        """The values, in the order of the names."""
        return _Values(self)

    def items(self) -> ItemsView[str, Value]:
        """The names with their values."""
        return _Items(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # The hashes of strings differ between processes.
        return Keyed, (self._names, self._values)

    def row(self, name: object) -> int:
        """The row of a name; `KeyError` if there is none."""
        hashes, rows = self._index
        value = hash(name)
        place = bisect.bisect_left(hashes, value)
        while place < len(hashes) and hashes[place] == value:
            if self._names[rows[place]] == name:
                return rows[place]
            place += 1
        raise KeyError(name)

    @cached_property
    def _index(self) -> tuple[array[int], array[int]]:
        """The hashes of the names in ascending order, and the row of each."""
        hashes = np.fromiter((hash(name) for name in self._names), np.int64, len(self._names))
        order = np.argsort(hashes, kind="stable")
        return array("q", hashes[order].tobytes()), array("q", order.astype(np.int64).tobytes())


# The views of `Mapping` would look up every key.
class _Values(ValuesView[Value]):
    _mapping: Keyed[Value]

    def __iter__(self) -> Iterator[Value]:
        return iter(self._mapping._values)


class _Items(ItemsView[str, Value]):
    _mapping: Keyed[Value]

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return zip(self._mapping._names, self._mapping._values, strict=True)
