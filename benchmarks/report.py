"""What the page of a run of 100,000 rows takes to write, and how large it is.

    python benchmarks/report.py [--rows 100000] [--out FILE.json]

Rows are those of the report's own tests. CPU seconds of one thread: cells, tables and the page.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from pathlib import Path

import polars as pl

from measuring import record, table, write_records
from sigma_ser.report.cells import budgets_of, page_cells
from sigma_ser.report.page import render_page
from sigma_ser.report.tables import write_tables

MADE_BY = Path(__file__).parents[1] / "tests" / "report" / "conftest.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location("report_rows", MADE_BY)
    assert spec is not None
    assert spec.loader is not None
    made_by = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made_by)
    one = made_by.rows_of()
    rows = pl.concat(
        one.with_columns(pl.col("utterance") + f"-{number:04d}")
        for number in range(-(-options.rows // len(one)))
    )[: options.rows]
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        cells = page_cells(rows)
        write_tables(Path(folder), rows, cells, budgets_of(cells))
        page = render_page(made_by.inputs_of(rows))
    seconds = time.process_time() - started
    setting = f"{len(rows):,} rows"
    found = [
        record("tables and page", setting, seconds, "s", at_most=20),
        record("size of the page", setting, len(page.encode()) / 1e6, "MB", at_most=15),
    ]
    print(table(found))
    write_records(options.out, found)


if __name__ == "__main__":
    main()
