"""`benchmarks/bench.py` runs sections, writes one folder of results, and compares two of them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RECORDS = """
import json, pathlib, sys
at = pathlib.Path(sys.argv[2])
at.with_name("runs").open("a").write("x")
line = {"name": "a pass", "setting": "mlp", "value": float(sys.argv[1]), "low": None, "high": None,
        "unit": "ms", "target": "<= 3", "met": float(sys.argv[1]) <= 3}
at.write_text(json.dumps([line]))
"""


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script, with its neighbours importable as it has them."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("sigma_ser_bench", BENCHMARKS / "bench.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_sections_are_run_kept_named_where_they_fail_and_compared(
    bench: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "write.py").write_text(RECORDS)
    (tmp_path / "fail.py").write_text("raise SystemExit('no victim')")
    good = f"{tmp_path / 'write.py'} 2.0 {{out}}"
    sections = {"fails": str(tmp_path / "fail.py"), "good": good}

    bench.run(sections, tmp_path / "out")
    results = bench.collect(tmp_path / "out", "quick")

    assert results["sections"]["fails"]["failed"].endswith("no victim")
    assert results["sections"]["good"]["failed"] is None
    (line,) = results["records"]
    assert (line["section"], line["value"], line["met"]) == ("good", 2.0, True)
    assert pq.read_table(tmp_path / "out" / "results.parquet").to_pylist() == [line]
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    assert {"date", "machine", "commit", "versions", "form"} <= results["environment"].keys()
    page = (tmp_path / "out" / "index.html").read_text()
    assert "no victim" in page
    assert "a pass" in page

    # What is finished stays, what failed is tried again, another command is another section.
    bench.run(sections, tmp_path / "out")
    assert (tmp_path / "out" / "sections" / "runs").read_text() == "x"
    bench.run({"good": good.replace("2.0", "3.0")}, tmp_path / "out")
    text = bench.compare(bench.collect(tmp_path / "out", "quick"), results)
    assert "| good | a pass | mlp | 2 ms | 3 ms | 1.50 |" in text
    assert "1 figures in both, 0 new, 0 gone." in text


def test_every_section_of_the_full_form_has_a_quick_one(bench: ModuleType) -> None:
    assert bench.FULL.keys() == bench.QUICK.keys()
    for commands in [*bench.QUICK.values(), *bench.FULL.values()]:
        for command in commands.splitlines():
            assert (BENCHMARKS / command.split()[0]).is_file()
