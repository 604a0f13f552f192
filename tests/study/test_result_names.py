"""Every victim and every cell of a run has a name of its own, so that none hides another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

import sigma_ser as ss
from sigma_ser.evaluate.result_names import cell_names, victim_names
from sigma_ser.report.diff import compare_runs


def test_only_what_tells_two_victims_apart_is_told() -> None:
    mlp = {"fold": "f", "name": "mlp", "encoder": "e", "layer": "3", "seed": 0}
    deeper, twin = {**mlp, "layer": "4"}, {**mlp, "seed": 1}
    assert victim_names([mlp], [deeper]) == [["f/mlp"], ["f/mlp"]]
    assert victim_names([mlp, deeper], [mlp]) == [["f/mlp/layer-3", "f/mlp/layer-4"],
                                                  ["f/mlp/layer-3"]]  # fmt: skip
    assert len(set(victim_names([mlp, twin, deeper])[0])) == 3


def test_two_victims_of_equal_name_do_not_hide_each_other(
    finished: ss.Study, tmp_path: Path
) -> None:
    def written(folder: Path, uars: list[float], falls: bool) -> Path:
        """The finished run as one of two layers, with these UARs of its first victim."""
        folder.mkdir()
        for name in ("study", "environment"):
            (folder / f"{name}.json").write_bytes((finished.folder / f"{name}.json").read_bytes())
        victims: list[dict[str, Any]] = [
            {**finished.victims[0], "layer": str(layer), "uar": uar}
            for layer, uar in enumerate(uars)
        ]
        (folder / "victims.json").write_text(json.dumps(victims), "utf-8")
        rows = finished.rows
        fallen = rows.with_columns(layer=pl.lit("0"), success=pl.lit(falls))
        pl.concat([fallen, rows.with_columns(layer=pl.lit("1"))]).write_parquet(
            folder / "rows.parquet"
        )
        return folder

    first = written(tmp_path / "a", [0.5, 0.75], falls=True)
    second = written(tmp_path / "b", [0.25, 0.75], falls=False)
    result = compare_runs(first, second)
    assert [(one.first, one.second) for one in result.victims] == [(0.5, 0.25)]
    assert result.victims[0].what.endswith("layer-0")
    assert result.cells
    assert all("layer-0" in one.what for one in result.cells)
    cells = finished.summary.to_dicts()
    assert len(set(cell_names(cells)[0])) == len(cells)
