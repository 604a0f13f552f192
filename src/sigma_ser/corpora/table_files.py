"""The rows of tables: CSV, TSV, JSON, JSON lines and Parquet; every error names the place."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import CorpusError

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a `.csv`, `.tsv`, `.jsonl`, `.json` or `.parquet` file.

    A JSON file may hold a list of rows, an object with a row for each id, an object with a list for
    each column, or one row on each line.

    Raises:
        CorpusError: if the file is absent, of another kind, or damaged, or a row does not fit.
    """
    if not path.is_file():
        raise CorpusError(f"the manifest {path} does not exist; give a CSV, JSON or Parquet file")
    readers = {
        ".csv": _csv, ".tsv": _csv, ".jsonl": _json, ".json": _json, ".parquet": _parquet,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise CorpusError(
            f"the manifest {path} has the suffix {path.suffix!r}; "
            f"supported are {', '.join(readers)}"
        )
    try:
        yield from reader(path)
    except CorpusError:
        raise
    except (ValueError, csv.Error, OSError, TypeError, RecursionError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(f"the manifest {path} cannot be read ({line}); correct it") from error


def _csv(path: Path) -> Iterator[Row]:
    # utf-8-sig, because spreadsheets put a byte-order mark before the first column's name.
    with path.open(newline="", encoding="utf-8-sig") as file:
        head = file.read(4096)
        file.seek(0)
        if path.suffix.lower() == ".tsv":
            delimiter = "\t"
        else:
            first = head.splitlines()[0] if head else ""
            delimiter = max(",;\t", key=first.count)
        lines = _Lines(file)
        records = csv.reader(lines, delimiter=delimiter, strict=True)
        names = next(records, [])
        _check_names(names)
        while True:
            lines.since_record.clear()
            before = records.line_num
            try:
                cells = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(f"line {before + 1}: {error}") from error
            if not cells:
                continue
            _check_cells(cells, names, delimiter, lines.since_record, before + 1)
            yield dict(zip(names, cells, strict=True))


class _Lines:
    """The lines of a file, with those that belong to the record that is read."""

    def __init__(self, file: Iterable[str]) -> None:
        self._file = iter(file)
        self.since_record: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.since_record.append(line)
        return line


def _check_names(names: list[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1 and name.strip()]
    if repeated:
        raise ValueError(
            f"line 1: {len([one for one in names if one == repeated[0]])} columns have the name "
            f"{repeated[0]!r}, and only one can be used; give each column its own name"
        )


def _check_cells(
    cells: list[str], names: list[str], delimiter: str, lines: list[str], number: int
) -> None:
    if len(lines) > 1 and any(line.count(delimiter) >= len(names) - 1 > 0 for line in lines):
        raise ValueError(
            f"line {number}: a quote that is opened here is closed in line "
            f"{number + len(lines) - 1}, so these lines would be one row; double the quotes that "
            "belong to a text, or write the text in one line"
        )
    if len(cells) != len(names):
        raise ValueError(
            f"line {number}: the row has {len(cells)} cells and the header {len(names)}; "
            f"put cells that contain {delimiter!r} in quotes, and write empty cells as well"
        )


def _json(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
        file.seek(0)
        if _is_row(first):
            yield from _json_lines(file)
            return
        try:
            whole = json.load(file)
        except ValueError:
            if path.suffix.lower() == ".json":
                raise
            file.seek(0)
            yield from _json_lines(file)
            return
    yield from _rows_of(whole)


def _json_lines(file: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number}: each line must be a JSON object")
        yield row


def _is_row(line: str) -> bool:
    """Whether a line is a JSON object with the cells of one row."""
    try:
        value = json.loads(line)
    except ValueError:
        return False
    return isinstance(value, dict) and not all(
        isinstance(cell, dict | list) for cell in value.values()
    )


def _rows_of(whole: Any) -> Iterator[Row]:
    """The rows of a JSON value."""
    if isinstance(whole, dict) and whole:
        values = list(whole.values())
        if len(values) == 1 and isinstance(values[0], list):
            whole = values[0] if all(isinstance(one, dict) for one in values[0]) else whole
        if isinstance(whole, dict) and all(isinstance(one, dict) for one in values):
            whole = _of_objects(whole)
        elif isinstance(whole, dict) and all(isinstance(one, list) for one in values):
            if len({len(column) for column in values}) > 1:
                raise ValueError("its columns differ in length")
            whole = [dict(zip(whole, cells, strict=True)) for cells in zip(*values, strict=True)]
    if not isinstance(whole, list):
        raise ValueError("it holds neither a list of rows nor an object with a row for each id")
    for number, row in enumerate(whole, 1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number}: each row must be a JSON object")
        yield row


def _of_objects(whole: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """The rows of an object of objects: one for each id, or one for each column (pandas)."""
    keys = [tuple(one) for one in whole.values()]
    # pandas writes a column as an object with the numbers of the rows as keys.
    by_column = len(set(keys)) == 1 and all(key.isdecimal() for key in keys[0])
    if by_column and not all(name.isdecimal() for name in whole):
        return [{name: column[key] for name, column in whole.items()} for key in keys[0]]
    if all(name.isdecimal() for name in whole):
        return [dict(row) for row in whole.values()]
    return [{"id": name, **row} for name, row in whole.items()]


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq
    import pyarrow.types as kinds

    with pq.ParquetFile(path) as file:
        for column in file.schema_arrow:
            inner = [one.name for one in column.type] if kinds.is_struct(column.type) else []
            if {"bytes", "path"} <= set(inner):
                raise CorpusError(
                    f"the recordings of {path} are inside its column {column.name!r}, as in data "
                    "sets of the Hugging Face hub; load its folder with the corpus `huggingface`"
                )
        for batch in file.iter_batches(4096):
            yield from batch.to_pylist()
