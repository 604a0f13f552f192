"""SIGKILL at any moment, a full disk, a folder that cannot be written: nothing is lost or wrong."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

import sigma_ser as ss
from sigma_ser.core.rows import TIMING_COLUMNS
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.status import read_status

STEPS = ("saliency", "floors", "attacks")


def emptied(finished: ss.Study, folder: Path) -> Path:
    """A copy of a finished run that has its features and victims alone."""
    shutil.copytree(finished.folder, folder)
    for part in (*STEPS, "exemplars", "report"):
        shutil.rmtree(folder / part)
    (folder / "rows.json").unlink()
    (folder / "rows.parquet").unlink()
    return folder


def written(folder: Path) -> dict[Path, int]:
    """Finished files of the steps, with the time when each was written."""
    return {
        path: path.stat().st_mtime_ns
        for part in STEPS
        for path in (folder / part).rglob("*")
        if path.is_file() and not any(one.startswith(".") for one in path.parts)
    }


def test_a_run_killed_again_and_again_ends_as_if_nothing_had_happened(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path
) -> None:
    folder = emptied(finished, tmp_path / "run")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sigma_ser.study.run", "captum.attr"])
    rng = random.Random(8)
    for _ in range(3):
        before = written(folder)
        process = context.Process(target=ss.run, args=(small_study,), kwargs={"out": folder})
        process.start()
        wanted = len(before) + rng.randint(1, 8)
        while len(written(folder)) < wanted and process.is_alive():
            time.sleep(0.005)
        time.sleep(rng.random() * 0.05)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert read_status(RunLayout(folder))["state"] == "stopped"
        after = written(folder)
        assert {path: after[path] for path in before} == before
    kept = written(folder)
    assert kept
    again = ss.run(small_study, out=folder)
    now = written(folder)
    assert {path: now[path] for path in kept} == kept
    assert_frame_equal(again.rows.drop(TIMING_COLUMNS), finished.rows.drop(TIMING_COLUMNS))
    assert [path.name for path in folder.rglob(".*") if path.name != ".lock"] == []


LIMITED = """
import json, resource, sys
import sigma_ser as ss
values, folder, limit = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    ss.run(values, out=folder)
except ss.SigmaError as fault:
    print(fault)
"""


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path
) -> None:
    folder = emptied(finished, tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, json.dumps(small_study), str(folder), "30000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"cannot go on in {folder}" in done.stdout, done.stderr
    assert "completed results are kept" in done.stdout
    assert not [path for path in folder.rglob("*") if path.name.startswith(".part-")]
    again = ss.run(small_study, out=folder)
    assert_frame_equal(again.rows.drop(TIMING_COLUMNS), finished.rows.drop(TIMING_COLUMNS))


def test_a_folder_that_cannot_be_written(small_study: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ss.errors.RunError, match=r"cannot go on in .*fix that"):
        ss.run(small_study, out=tmp_path / "file" / "run")


def test_what_cannot_be_computed_is_told_and_the_rest_goes_on(
    finished: ss.Study,
    small_study: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sigma_ser.study import worker as work_module

    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / "attacks")
    tried = []
    attack_of = work_module.attack_of

    def fails(step: Any) -> Any:
        if step.attack == "pgd" and step.victim.name == "linear":
            tried.append(step)
            raise RuntimeError("out of luck")
        return attack_of(step)

    monkeypatch.setattr(work_module, "attack_of", fails)
    study = ss.run(small_study, out=folder)
    assert len(tried) == 3
    (failure,) = study.failures
    assert failure["reason"] == "RuntimeError: out of luck"
    assert failure["utterances"] == finished.rows["utterance"].unique(maintain_order=True).to_list()
    assert len(study.rows) == len(finished.rows) * 6 // 7
    monkeypatch.undo()
    mended = ss.run(small_study, out=folder)
    assert mended.failures == []
    assert_frame_equal(mended.rows.drop(TIMING_COLUMNS), finished.rows.drop(TIMING_COLUMNS))
