"""Columns give back what was put in, in a fraction of the memory."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_ser.core.keyed import Keyed
from sigma_ser.core.records import Column, ColumnBuilder, Records, RecordsBuilder
from sigma_ser.core.utterance import Utterance


@dataclass(frozen=True)
class Sample:
    text: str
    number: int
    share: float
    place: Path
    flags: tuple[str, ...]


# Python keeps bytes of file names that are no UTF-8 as lone surrogates.
_TEXTS = st.text(st.characters(exclude_categories=())) | st.just(os.fsdecode(b"\xff\xfe"))
_SAMPLES = st.builds(
    Sample,
    text=_TEXTS,
    number=st.integers(-(2**63), 2**63 - 1),
    share=st.floats(allow_nan=False),
    place=st.text("abc/\u00e4\udcff", max_size=8).map(lambda text: Path("/") / text),
    flags=st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple),
)


@given(st.lists(_SAMPLES, max_size=8), st.data())
def test_records_are_the_sequence_that_was_put_in(
    samples: list[Sample], data: st.DataObject
) -> None:
    records = Records.of(Sample, samples)
    assert list(records) == samples
    assert records == samples
    assert list(records.column("text")) == [one.text for one in samples]
    part = data.draw(st.slices(len(samples)))
    assert list(records[part]) == samples[part]
    rows = data.draw(st.permutations(range(len(samples))))
    assert list(records.take(rows)) == [samples[row] for row in rows]
    assert list(pickle.loads(pickle.dumps(records))) == samples
    columns = {name: records.column(name) for name in vars(Sample)["__dataclass_fields__"]}
    assert Records(Sample, columns) == records
    assert Records.of_table(Sample, table_of(records)) == records
    places = pickle.loads(pickle.dumps(records.column("place")[part]))
    assert places == [one.place for one in samples[part]]


def table_of(records: Records[Sample]) -> pa.Table:
    return pa.table({name: column.array for name, column in records._columns.items()})


def test_what_was_read_before_does_not_change_when_more_is_added() -> None:
    builder = RecordsBuilder(Sample)
    seen = []
    for number in range(5):
        builder.append(Sample(str(number), number, 0.5, Path("/a"), ("x",)))
        seen.append(builder.records())
    for number, records in enumerate(seen, 1):
        assert list(records.column("text")) == [str(n) for n in range(number)]
        assert list(records.column("number")) == list(range(number))


def test_values_and_tables_of_other_types_are_refused() -> None:
    for kind, wrong, error in (
        (str, 7, AttributeError), (Path, 7, TypeError), (int, "7", TypeError),
        (int, 2**63, OverflowError),
    ):  # fmt: skip
        with pytest.raises(error):
            ColumnBuilder(kind, [wrong])
    table = table_of(Records.of(Sample, [Sample("a", 1, 0.5, Path("/a"), ())]))
    for name, values in (("number", [None]), ("number", ["x"]), ("text", [None])):
        at = table.schema.get_field_index(name)
        with pytest.raises(ValueError, match=r"nulls|x"):
            Records.of_table(Sample, table.set_column(at, name, pa.array(values)))
    with pytest.raises(KeyError):
        Records.of_table(Sample, table.drop_columns(["share"]))
    records = Records.of(Sample, [Sample("a", 1, 0.5, Path("/a"), ())])
    with pytest.raises(ValueError, match="differ in length"):
        records.replaced(number=column(int, [1, 2]))


def column(kind: type, values: Iterable[Any]) -> Column[Any]:
    return ColumnBuilder[Any](kind, values).column()


def test_rows_count_as_in_any_sequence() -> None:
    samples = [Sample(str(n), n, n / 2, Path("/a"), ()) for n in range(3)]
    for values in (Records.of(Sample, samples), Records.of(Sample, samples).column("number")):
        assert values[-1] in (samples[2], 2)
        with pytest.raises(IndexError):
            values[3]
        with pytest.raises(IndexError):
            values[-4]
    with pytest.raises(IndexError):
        column(str, ["a"])[-2]
    assert Records.of(Sample, samples) != samples[:2]


def test_a_replaced_field_leaves_the_original_alone() -> None:
    samples = [Sample(str(n), n, 0.0, Path("/a"), ()) for n in range(3)]
    records = Records.of(Sample, samples)
    other = records.replaced(number=column(int, (10 * n for n in range(3))))
    assert list(other.column("number")) == [0, 10, 20]
    assert list(records.column("number")) == [0, 1, 2]
    assert list(other.column("text")) == ["0", "1", "2"]


@given(st.dictionaries(_TEXTS, st.integers()))
def test_a_keyed_column_is_the_mapping(known: dict[str, int]) -> None:
    keyed = Keyed(column(str, known), list(known.values()))
    assert keyed == known
    assert list(keyed.items()) == list(known.items())
    assert list(keyed.values()) == list(known.values())
    assert "not one of them, surely" not in keyed
    assert 7 not in keyed


def test_names_with_equal_hashes_are_distinguished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigma_ser.core.keyed.hash", len, raising=False)
    keyed = Keyed(column(str, ["aa", "b", "ab"]), [1, 2, 3])
    assert [keyed[name] for name in ("aa", "ab", "b")] == [1, 3, 2]
    assert "bb" not in keyed


def test_another_process_finds_the_same_though_its_hashes_differ(tmp_path: Path) -> None:
    keyed = Keyed(column(str, (f"name {n}" for n in range(50))), column(str, map(str, range(50))))
    assert keyed["name 7"] == "7"  # the hashes are there when it travels
    (tmp_path / "keyed").write_bytes(pickle.dumps(keyed))
    reported = subprocess.run(
        [sys.executable, "-c",
         "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))['name 7'])",
         str(tmp_path / "keyed")],
        env={**os.environ, "PYTHONHASHSEED": "12345"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert reported.stdout.strip() == "7"


@pytest.mark.slow
def test_columns_weigh_a_fraction_of_objects() -> None:
    def utterance(n: int) -> Utterance:
        path = Path(f"/data/corpus/speaker_{n % 9}/{n:06d}_take.wav")
        return Utterance(f"{n:06d}_take", path, "angry", f"speaker_{n % 9}", "", "", 16000, n)

    def weight(make: Callable[[], Sequence[Utterance]]) -> int:
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        kept = make()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) == 2000
        return size + pa.total_allocated_bytes() - before

    objects = weight(lambda: [utterance(n) for n in range(2000)])
    columns = weight(lambda: Records.of(Utterance, map(utterance, range(2000))))
    assert columns < objects / 4
    assert columns / 2000 < 200  # bytes
    records = Records.of(Utterance, map(utterance, range(2000)))
    assert 100 < records.nbytes / 2000 < 200
    # Part of a table travels without the rest of it.
    assert len(pickle.dumps(records[:10])) < len(pickle.dumps(records)) / 50


def test_records_do_not_import_pandas() -> None:
    # It would add 30 MB to every process that lists recordings.
    code = (
        "import sys; from sigma_ser.core.records import ColumnBuilder; "
        "column = ColumnBuilder(str, ['a', 'b']).column(); "
        "print(list(column.take([1, 0])), list(column[:1]), 'pandas' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['b', 'a'] ['a'] False"
