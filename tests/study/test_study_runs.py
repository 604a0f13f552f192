"""A study end to end: what it writes, that it stops and goes on, that nothing is done twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

import sigma_ser as ss
from sigma_ser.core.rows import TIMING_COLUMNS, schema
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.status import read_status
from sigma_ser.study import worker as worker_module


class Recorder:
    """Remembers what each stage had to do."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, int]] = {}

    def stage(self, name: str, total: int, cached: int = 0) -> None:
        self.stages[name] = (total, cached)

    def advance(self, steps: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


def without_timing(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.drop(TIMING_COLUMNS)


def test_rows_hold_every_condition_for_every_test_utterance(finished: ss.Study) -> None:
    rows = finished.rows
    assert rows.columns == schema().names
    cells = rows.select("victim", "attack", "explainer", "mask_source", "scope").unique().rows()
    guided = "integrated-gradients"
    assert set(cells) == {
        ("linear", "dual-averaging", None, None, None),
        ("linear", "dual-averaging", guided, "own", 4),
        ("linear", "pgd", "random", "own", 1),
        ("mlp", "dual-averaging", None, None, None),
        ("mlp", "dual-averaging", guided, "own", 4),
        ("mlp", "dual-averaging", guided, "linear", 4),
        ("mlp", "pgd", "random", "own", 1),
    }
    per_cell = rows.group_by("victim", "attack", "explainer", "mask_source").len()["len"]
    assert per_cell.n_unique() == 1
    assert rows.filter(pl.col("correct_before"))["topk_intersection"].null_count() == 0


def test_rows_agree_with_the_budget_and_with_each_other(finished: ss.Study) -> None:
    rows = finished.rows
    assert (rows["l0"] <= rows["budget_elements"]).all()
    assert (rows["linf"] <= rows["epsilon"] * (1 + 1e-4)).all()
    changed = rows["prediction_after"] != rows["label"]
    assert (changed == rows["success"]).all()
    native = rows["explainer"].is_null()
    assert (rows.filter(native)["mask_forwards"] == 0).all()
    guided = rows.filter(rows["explainer"] == "integrated-gradients")
    assert (guided["mask_backwards"] == 4).all()


def test_the_page_and_the_tables_are_there(finished: ss.Study) -> None:
    assert "small" in finished.report.read_text("utf-8")
    assert list(finished.folder.glob("tables/*.csv"))
    assert {victim["name"] for victim in finished.victims} == {"linear", "mlp"}


def test_the_second_time_nothing_is_computed_again(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path
) -> None:
    folder = shutil.copytree(finished.folder, tmp_path / "copy")
    artefacts = [
        path
        for part in ("features", "victims", "saliency", "floors", "attacks")
        for path in (folder / part).rglob("*")
        if path.is_file() and not path.name.startswith(".")
    ]
    before = {path: path.stat().st_mtime_ns for path in artefacts}
    recorder = Recorder()
    again = ss.run(small_study, out=folder, progress=recorder)
    assert {path: path.stat().st_mtime_ns for path in artefacts} == before
    assert_frame_equal(again.rows, finished.rows)
    for stage in ("victims", "explanations", "floors", "attacks"):
        total, cached = recorder.stages[stage]
        assert total == cached > 0


def test_a_run_that_lost_half_of_its_files_ends_with_the_same_rows(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    for part in ("victims/*", "saliency/*", "floors/*", "attacks/*"):
        for path in sorted(folder.glob(part))[::2]:
            shutil.rmtree(path)
    again = ss.run(small_study, out=folder)
    assert_frame_equal(without_timing(again.rows), without_timing(finished.rows))


def test_worker_processes_give_the_same_rows(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "processes"
    shutil.copytree(finished.folder, folder)
    for part in ("saliency", "floors", "attacks"):
        shutil.rmtree(folder / part)
    parallel = small_study | {"executor": {"name": "processes", "workers": 2}}
    again = ss.run(parallel, out=folder)
    assert_frame_equal(without_timing(again.rows), without_timing(finished.rows))


def test_an_interrupted_run_goes_on(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "interrupted"
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / "attacks")
    done = []

    def stop_after_three(task: Any, artifacts: Any) -> Path:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(work(task, artifacts))
        return done[-1]

    work = worker_module.work
    monkeypatch.setattr(worker_module, "work", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        ss.run(small_study, out=folder)
    assert read_status(RunLayout(folder))["state"] == "stopped"
    monkeypatch.undo()
    kept = {path: path.stat().st_mtime_ns for path in done}
    again = ss.run(small_study, out=folder)
    assert {path: path.stat().st_mtime_ns for path in done} == kept
    assert_frame_equal(without_timing(again.rows), without_timing(finished.rows))


def test_a_task_has_one_thread_in_this_process_as_in_a_worker(
    small_study: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def stop_at_once(*_: Any) -> None:
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(worker_module, "work", stop_at_once)
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            ss.run(small_study, out=tmp_path)
        assert seen == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(usual)


def test_another_budget_adds_rows_and_trains_nothing(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "wider"
    shutil.copytree(finished.folder, folder)
    wider = small_study | {"budgets": {"sparsity": [0.01, 0.02]}}
    recorder = Recorder()
    again = ss.run(wider, out=folder, progress=recorder)
    assert len(again.rows) == 2 * len(finished.rows)
    assert recorder.stages["victims"] == (2, 2)
    assert recorder.stages["explanations"][0] == recorder.stages["explanations"][1]
    assert recorder.stages["attacks"][0] == 2 * recorder.stages["attacks"][1]


def test_two_runs_in_one_folder_do_not_meet(small_study: dict[str, Any], tmp_path: Path) -> None:
    from sigma_ser.runs.lock import run_lock

    with run_lock(tmp_path), pytest.raises(ss.SigmaError, match="another run is already using"):
        ss.run(small_study, out=tmp_path)


def test_a_random_map_of_another_victim_is_the_same_map_and_not_attacked_again(
    finished: ss.Study,
) -> None:
    control = finished.rows.filter(pl.col("explainer") == "random")
    assert control.height > 0
    assert set(control["mask_source"]) == {"own"}
