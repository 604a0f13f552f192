"""100,000 rows: written in time, small enough, sampled evenly where there are more."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from sigma_ser.report.cells import budgets_of, page_cells
from sigma_ser.report.explorer_data import embedded_rows
from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.page import render_page
from sigma_ser.report.tables import write_tables

Rows = Callable[..., pl.DataFrame]
Inputs = Callable[..., ReportInputs]


def many(rows: pl.DataFrame, copies: int) -> pl.DataFrame:
    """The same rows under other names."""
    return pl.concat(
        rows.with_columns(pl.col("utterance") + f"-{number:02d}") for number in range(copies)
    )


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_written_in_time_and_stay_small(
    make_rows: Rows, make_inputs: Inputs, tmp_path: Path
) -> None:
    rows = many(make_rows(), 13)
    assert len(rows) > 100_000
    # Processor time: the machine may be busy with other tests. Figures grow with the cells alone.
    started = time.process_time()
    cells = page_cells(rows)
    write_tables(tmp_path, rows, cells, budgets_of(cells))
    page = render_page(make_inputs(rows))
    assert time.process_time() - started < 20
    assert len(page.encode()) < 15e6
    # All of them are in the page: nothing had to be sampled.
    (packed,) = re.findall(r'id="results-data">(.*?)</script>', page)
    data = json.loads(packed)
    assert sum(len(cell[0]) for cell in data["cells"].values()) == len(rows)


def test_beyond_that_utterances_are_sampled_with_all_their_rows(make_rows: Rows) -> None:
    rows = many(make_rows(utterances=21), 2)
    cells = page_cells(rows).to_dicts()
    whole = embedded_rows(rows, cells, most=len(rows))
    assert whole.sampled is None
    part = embedded_rows(rows, cells, most=len(rows) // 4)
    assert part.sampled == 10
    data = json.loads(part.json)
    names = [line[0] for line in data["utterances"]]
    assert len(names) == 10
    assert names == sorted(names)
    assert names[-1] > sorted(rows["utterance"])[len(rows) // 2], "sampled from the whole list"
    assert all(sorted(cell[0]) == list(range(10)) for cell in data["cells"].values())


def test_packed_rows_say_what_the_rows_say(make_rows: Rows) -> None:
    rows = make_rows(utterances=14, sparsities=(0.01,), epsilons=(1.0,))
    cells = page_cells(rows).to_dicts()
    data = json.loads(embedded_rows(rows, cells).json)
    for cell in cells:
        unpacked = dict(zip(data["columns"], data["cells"][cell["cell"]], strict=True))
        same = rows.filter(
            (pl.col("victim") == cell["victim"])
            & (pl.col("attack") == cell["attack"])
            & pl.col("explainer").eq_missing(cell["explainer"])
        )
        names = [data["utterances"][index][0] for index in unpacked["utterance"]]
        assert names == same["utterance"].to_list()
        for key, column in (("correct", "correct_before"), ("success", "success")):
            assert list(map(bool, unpacked[key])) == same[column].to_list()
        for key in ("before", "after"):
            seen = [data["classes"][index] for index in unpacked[key]]
            assert seen == same[f"prediction_{key}"].to_list()
        assert unpacked["passes"] == (same["forwards"] + same["backwards"]).to_list()
