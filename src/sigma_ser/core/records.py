"""Many values of one dataclass as columns: a tenth of the memory of as many objects.

A study of a million recordings lists each of them several times over; as Python objects they
would take gigabytes before the first attack.
"""

from __future__ import annotations

import bisect
import dataclasses
import typing
from array import array
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, overload, runtime_checkable

import numpy as np

Value = TypeVar("Value")


def _same(one: Sequence[Any], other: object) -> bool:
    """Equality with any other sequence, by values."""
    if not isinstance(other, Sequence) or isinstance(other, str | bytes):
        return False
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))


@runtime_checkable
class _Column(Protocol):
    def append(self, value: Any, /) -> None: ...
    def take(self, rows: Iterable[int], /) -> Any: ...
    def __getitem__(self, row: int, /) -> Any: ...


class _Numbers:
    def __init__(self, code: str, numbers: Iterable[Any] = ()) -> None:
        self._numbers = array(code, numbers)

    def append(self, number: Any) -> None:
        try:
            self._numbers.append(number)
        except OverflowError:  # of 32 bits, which is enough for most
            self._numbers = array("q", self._numbers)
            self._numbers.append(number)

    def take(self, rows: Iterable[int]) -> _Numbers:
        return _Numbers(self._numbers.typecode, (self._numbers[row] for row in rows))

    def __getitem__(self, row: int) -> Any:
        return self._numbers[row]


class Texts(Sequence[str]):
    """Texts one behind the other in one buffer.

    >>> texts = Texts(["a", "", "b"])
    >>> texts[2], list(texts[:2]), len(texts)
    ('b', ['a', ''], 3)
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Add one at the end."""
        # File names may hold bytes that are no UTF-8; Python keeps them as lone surrogates.
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def take(self, rows: Iterable[int]) -> Texts:
        """Some of them, in the order of `rows`."""
        taken = Texts()
        for row in rows:
            taken._bytes += self._bytes[self._ends[row - 1] if row else 0 : self._ends[row]]
            taken._ends.append(len(taken._bytes))
        return taken

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Texts: ...
    def __getitem__(self, row: int | slice) -> str | Texts:
        if isinstance(row, slice):
            return self.take(range(*row.indices(len(self._ends))))
        if row < 0:
            row = range(len(self._ends))[row]
        start = self._ends[row - 1] if row > 0 else 0
        return self._bytes[start : self._ends[row]].decode("utf-8", "surrogatepass")


class Paths(Sequence[Path]):
    """Paths as texts, each made again when it is asked for.

    >>> Paths(["/b", "/a"])[1] == Path("/a")
    True
    """

    def __init__(self, paths: Iterable[str | Path] = ()) -> None:
        self._texts = Texts(map(str, paths))

    def append(self, path: Path) -> None:
        """Add one at the end."""
        self._texts.append(str(path))

    def take(self, rows: Iterable[int]) -> Paths:
        """Some of them, in the order of `rows`."""
        taken = Paths()
        taken._texts = self._texts.take(rows)
        return taken

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, row: int) -> Path: ...
    @overload
    def __getitem__(self, row: slice) -> Paths: ...
    def __getitem__(self, row: int | slice) -> Path | Paths:
        if isinstance(row, slice):
            return self.take(range(*row.indices(len(self._texts))))
        return Path(self._texts[row])


class _Repeated:
    """Values of which few are different, such as flags."""

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}
        self._values: list[Any] = []
        self._rows = array("i")

    def append(self, value: Any) -> None:
        number = self._numbers.setdefault(value, len(self._values))
        if number == len(self._values):
            self._values.append(value)
        self._rows.append(number)

    def take(self, rows: Iterable[int]) -> _Repeated:
        taken = _Repeated()
        for row in rows:
            taken.append(self[row])
        return taken

    def __getitem__(self, row: int) -> Any:
        return self._values[self._rows[row]]


def _column(hint: Any) -> _Column:
    if hint is str:
        return Texts()
    if hint is Path:
        return Paths()
    if hint in (int, float):
        return _Numbers("i" if hint is int else "d")
    return _Repeated()


class Records(Sequence[Value], Generic[Value]):
    """Values of one frozen dataclass, each made again when it is asked for.

    Args:
        kind: the dataclass. Fields of `str`, `Path`, `int` (64 bits) and `float` are packed; of
            any other type, each different value is kept once.
        values: to begin with.

    >>> from sigma_ser.core.utterance import Utterance
    >>> one = Utterance("a", Path("/a.wav"), "sad")
    >>> records = Records(Utterance, [one])
    >>> records[0] == one, list(records[:1]) == [one], records.column("label")[0]
    (True, True, 'sad')
    """

    def __init__(self, kind: type[Value], values: Iterable[Value] = ()) -> None:
        hints = typing.get_type_hints(kind)
        self.kind = kind
        self._columns: dict[str, _Column] = {
            one.name: _column(hints[one.name])
            for one in dataclasses.fields(kind)  # type: ignore[arg-type]
        }
        self._count = 0
        for value in values:
            self.append(value)

    def append(self, value: Value) -> None:
        """Add one at the end."""
        for name, column in self._columns.items():
            column.append(getattr(value, name))
        self._count += 1

    def extend(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add many at the end, given as the columns of all fields."""
        for name, column in self._columns.items():
            for value in columns[name]:
                column.append(value)
        self._count += len(columns[name])

    def column(self, name: str) -> Sequence[Any]:
        """One field of all values, without making them."""
        return _View(self._columns[name], self._count)

    def take(self, rows: Sequence[int]) -> Records[Value]:
        """Some of the values, in the order of `rows`."""
        taken = Records(self.kind)
        taken._columns = {name: column.take(rows) for name, column in self._columns.items()}
        taken._count = len(rows)
        return taken

    def replaced(self, **columns: Iterable[Any]) -> Records[Value]:
        """The same values with some fields different.

        The other columns are shared, not copied: append to neither afterwards.
        """
        new = Records(self.kind)
        for name, values in columns.items():
            new._count = 0
            for value in values:
                new._columns[name].append(value)
                new._count += 1
            if new._count != self._count:
                raise ValueError(f"{new._count} values of {name} for {self._count} records")
        new._columns = {name: new._columns[name] if name in columns else self._columns[name]
                        for name in self._columns}  # fmt: skip
        new._count = self._count
        return new

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> Value: ...
    @overload
    def __getitem__(self, row: slice) -> Records[Value]: ...
    def __getitem__(self, row: int | slice) -> Value | Records[Value]:
        if isinstance(row, slice):
            return self.take(range(*row.indices(self._count)))
        row = range(self._count)[row]
        return self.kind(*[column[row] for column in self._columns.values()])

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{self._count} of {self.kind.__name__}>"


class _View(Sequence[Any]):
    """One column, read only."""

    def __init__(self, column: _Column, count: int) -> None:
        self._column, self._count = column, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return map(self._column.__getitem__, range(self._count))

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self._column[at] for at in range(*row.indices(self._count))]
        return self._column[range(self._count)[row]]


class Keyed(Mapping[str, Value], Generic[Value]):
    """A mapping over two columns: what `values` has in the row where `names` has the key.

    Args:
        names: all different.
        values: as many.

    >>> ages = Keyed(Texts(["bo", "al"]), [3, 4])
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
        """Names with their values."""
        return _Items(self)

    def row(self, name: object) -> int:
        """Where the key is.

        Raises:
            KeyError: if it is nowhere.
        """
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
        """The hashes of the names in rising order, and the row of each."""
        hashes = np.fromiter((hash(name) for name in self._names), np.int64, len(self._names))
        order = np.argsort(hashes, kind="stable")
        return array("q", hashes[order].tobytes()), array("q", order.astype(np.int64).tobytes())

    def __reduce__(self) -> tuple[Any, ...]:
        # Hashes of texts are different in every process.
        return Keyed, (self._names, self._values)


class _Values(ValuesView[Value]):
    """Goes along the column, without looking anything up."""

    _mapping: Keyed[Value]

    def __iter__(self) -> Iterator[Value]:
        return iter(self._mapping._values)


class _Items(ItemsView[str, Value]):
    """The same for both columns."""

    _mapping: Keyed[Value]

    def __iter__(self) -> Iterator[tuple[str, Value]]:
        return zip(self._mapping._names, self._mapping._values, strict=True)
