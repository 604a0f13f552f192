"""Many values of one dataclass as the rows of an Arrow table.

A study of a million recordings lists each of them several times. As columns they take a tenth of
the memory that as many Python objects would take; each object is made when it is needed.
"""

from __future__ import annotations

import json
import math
import operator
import os
import typing
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, overload

import pyarrow as pa

Value = TypeVar("Value")

# Values that are Python objects at one time while a column is read through.
_BLOCK = 4096


@dataclass(frozen=True)
class _Kind:
    """How the values of a field are stored, and the functions that encode and decode one."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    arrow: pa.DataType
    code: Literal["i", "q", "d"]
    """Of the array of numbers, or of the ends of the texts."""


def _text_kind(to_text: Callable[[Any], str], of_text: Callable[[str], Any]) -> _Kind:
    # File names may hold bytes that are not UTF-8. Python represents them as lone surrogates, which
    # an Arrow string cannot hold, so texts are stored as binary: at most 2 GB in a column.
    return _Kind(
        lambda value: to_text(value).encode("utf-8", "surrogatepass"),
        lambda stored: of_text(stored.decode("utf-8", "surrogatepass")),
        pa.binary(),
        "i",
    )


_KINDS = {
    str: _text_kind(lambda text: text, lambda text: text),
    Path: _text_kind(os.fspath, Path),
    tuple[str, ...]: _text_kind(json.dumps, lambda text: tuple(json.loads(text))),
    int: _Kind(operator.index, lambda number: number, pa.int64(), "q"),
    float: _Kind(float, lambda number: number, pa.float64(), "d"),
    # NaN in a column stands for no value.
    float | None: _Kind(
        lambda number: math.nan if number is None else float(number),
        lambda number: None if math.isnan(number) else number,
        pa.float64(),
        "d",
    ),
}


class Column(Sequence[Value], Generic[Value]):
    """The values of one field, read only; made by `ColumnBuilder` or `Records.column`.

    Args:
        kind: as for `ColumnBuilder`.
        stored: the values in their stored form.
    """

    def __init__(self, kind: Any, stored: pa.Array) -> None:
        self.array = stored
        self._kind = kind
        self._decode = _KINDS[kind].decode
        # Views of the buffers, for single values: Arrow's own access takes several times as long.
        _, numbers, *texts = stored.buffers()
        self._numbers = memoryview(numbers or b"").cast(_KINDS[kind].code)
        self._texts = memoryview(texts[0] or b"") if texts else None

    def take(self, rows: Sequence[int]) -> Column[Value]:
        """A copy of some values, in the order of `rows`."""
        # `pa.array` would import pandas.
        numbers = [None, pa.py_buffer(array("q", rows))]
        taken = self.array.take(pa.Array.from_buffers(pa.int64(), len(rows), numbers))
        return Column(self._kind, taken)

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Value]:
        for start in range(0, len(self.array), _BLOCK):
            yield from map(self._decode, self.array.slice(start, _BLOCK).to_pylist())

    @overload
    def __getitem__(self, row: int) -> Value: ...
    @overload
    def __getitem__(self, row: slice) -> Column[Value]: ...
    def __getitem__(self, row: int | slice) -> Value | Column[Value]:
        if isinstance(row, slice):
            return self.take(range(*row.indices(len(self.array))))
        at = range(len(self.array))[row] + self.array.offset
        stored: Any = self._numbers[at]
        if self._texts is not None:
            stored = bytes(self._texts[stored : self._numbers[at + 1]])
        value: Value = self._decode(stored)
        return value

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return Column, (self._kind, self.array)


class ColumnBuilder(Generic[Value]):
    """Collects the values of one field, in the memory that the column will have.

    Args:
        kind: `str`, `Path`, `tuple[str, ...]`, `int` (64 bits), `float`, or
            `float | None`, which does not distinguish `None` from NaN.
        values: the first ones.

    >>> ages = ColumnBuilder(int, [3])
    >>> ages.append(4)
    >>> list(ages.column()), ages.column()[-1]
    ([3, 4], 4)
    """

    def __init__(self, kind: Any, values: Iterable[Value] = ()) -> None:
        self._hint, self._kind = kind, _KINDS[kind]
        self._is_text = pa.types.is_binary(self._kind.arrow)
        self._texts = bytearray()
        self._numbers = array(self._kind.code, [0] if self._is_text else [])
        self._shared = False
        for value in values:
            self.append(value)

    def append(self, value: Value) -> None:
        """Add a value at the end.

        Raises:
            AttributeError, TypeError: if it is of another type.
        """
        stored = self._kind.encode(value)
        if self._shared:  # columns never change
            self._texts, self._numbers = self._texts[:], self._numbers[:]
            self._shared = False
        if self._is_text:
            self._texts += stored
            stored = len(self._texts)
        self._numbers.append(stored)

    def column(self) -> Column[Value]:
        """The values so far."""
        self._shared = True
        buffers = [None, pa.py_buffer(self._numbers)]
        if self._is_text:
            buffers.append(pa.py_buffer(self._texts))
        count = len(self._numbers) - self._is_text
        return Column(self._hint, pa.Array.from_buffers(self._kind.arrow, count, buffers))


class Records(Sequence[Value], Generic[Value]):
    """Values of one frozen dataclass, read only; each is made when it is needed.

    Args:
        kind: the dataclass. See `ColumnBuilder` for the types that its fields may have.
        columns: one for each field, all of the same length; they are not copied.

    >>> from sigma_ser.core.utterance import Utterance
    >>> one = Utterance("a", Path("/a.wav"), "sad")
    >>> records = Records.of(Utterance, [one])
    >>> records[0] == one, list(records[:1]) == [one], records.column("label")[0]
    (True, True, 'sad')
    """

    def __init__(self, kind: type[Value], columns: Mapping[str, Column[Any]]) -> None:
        self.kind = kind
        self._columns = {name: columns[name] for name in _hints(kind)}
        if len({len(column) for column in self._columns.values()}) > 1:
            raise ValueError(f"columns of {kind.__name__} differ in length")

    @classmethod
    def of(cls, kind: type[Value], values: Iterable[Value]) -> Records[Value]:
        """The records with these values."""
        builder = RecordsBuilder(kind)
        for value in values:
            builder.append(value)
        return builder.records()

    @classmethod
    def of_table(cls, kind: type[Value], table: pa.Table) -> Records[Value]:
        """The rows of a table with a column for each field.

        Raises:
            KeyError, ValueError: if a column is absent, of another type, or has nulls.
        """
        columns: dict[str, Column[Any]] = {}
        for name, hint in _hints(kind).items():
            stored = table[name].cast(_KINDS[hint].arrow).combine_chunks()
            if hint == float | None:
                stored = stored.fill_null(math.nan)
            if stored.null_count:
                raise ValueError(f"column {name} has nulls")
            columns[name] = Column(hint, stored)
        return cls(kind, columns)

    def column(self, name: str) -> Column[Any]:
        """One field of all values, without making them."""
        return self._columns[name]

    def take(self, rows: Sequence[int]) -> Records[Value]:
        """A copy of some of the values, in the order of `rows`."""
        taken = {name: column.take(rows) for name, column in self._columns.items()}
        return Records(self.kind, taken)

    def replaced(self, **columns: Column[Any]) -> Records[Value]:
        """The same values with other columns for some fields."""
        return Records(self.kind, {**self._columns, **columns})

    @property
    def nbytes(self) -> int:
        """Memory of the columns in bytes."""
        return sum(int(column.array.nbytes) for column in self._columns.values())

    def __len__(self) -> int:
        return len(next(iter(self._columns.values())))

    def __iter__(self) -> Iterator[Value]:
        return (self.kind(*values) for values in zip(*self._columns.values(), strict=True))

    @overload
    def __getitem__(self, row: int) -> Value: ...
    @overload
    def __getitem__(self, row: slice) -> Records[Value]: ...
    def __getitem__(self, row: int | slice) -> Value | Records[Value]:
        if isinstance(row, slice):
            return self.take(range(*row.indices(len(self))))
        return self.kind(*[column[row] for column in self._columns.values()])

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} of {self.kind.__name__}>"


class RecordsBuilder(Generic[Value]):
    """Collects values of one dataclass for `Records`."""

    def __init__(self, kind: type[Value]) -> None:
        self._kind = kind
        self._builders = {name: ColumnBuilder[Any](hint) for name, hint in _hints(kind).items()}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, value: Value) -> None:
        """Add a value at the end.

        Raises:
            AttributeError, TypeError: if a field is of another type than the dataclass says; the
                builder is of no use afterwards.
        """
        for name, builder in self._builders.items():
            builder.append(getattr(value, name))
        self._count += 1

    def records(self) -> Records[Value]:
        """The values so far."""
        columns = {name: builder.column() for name, builder in self._builders.items()}
        return Records(self._kind, columns)


def _hints(kind: type) -> dict[str, Any]:
    """The type of each field, in order."""
    hints = typing.get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}


def _equal(one: Sequence[Any], other: object) -> bool:
    """Equality with any other sequence, by values."""
    if not isinstance(other, Sequence) or isinstance(other, str | bytes):
        return False
    return len(one) == len(other) and all(a == b for a, b in zip(one, other, strict=True))
