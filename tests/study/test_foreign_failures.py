"""Trackers, networks, disks and signals that fail: the results stay, and the cause is named."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import sigma_ser as ss
from sigma_ser.core.files import write_json
from sigma_ser.core.progress import Silent
from sigma_ser.corpora.folds import Fold
from sigma_ser.execution.executor import LostTaskError
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.status import read_status
from sigma_ser.study import run as run_module
from sigma_ser.study.scheduler import Scheduler
from sigma_ser.study.steps import Setting, VictimStep
from sigma_ser.study.tasks import VictimTask
from sigma_ser.study.tracking import track


class Tracker:
    """A tracker whose server is gone after the first result."""

    closed = 0

    def __init__(self, study: str, folder: Path) -> None:
        assert folder.is_dir()

    def settings(self, values: Mapping[str, Any]) -> None:
        assert values

    def number(self, name: str, value: float) -> None:
        raise ConnectionError("the server is gone")

    def close(self) -> None:
        type(self).closed += 1


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> type[Tracker]:
    """The tracker above in the place of mlflow."""
    from sigma_ser.core import registry
    from sigma_ser.study import tracking

    registry.names("tracker")
    monkeypatch.setitem(registry._members["tracker"], "mlflow", Tracker)
    monkeypatch.setattr(tracking, "_package", lambda name: None)
    monkeypatch.setattr(Tracker, "closed", 0)
    return Tracker


def test_a_tracker_that_fails_is_a_note_and_the_run_is_finished(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path, tracked: type[Tracker]
) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    notes: list[str] = []

    class Noted(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    ss.run(small_study | {"tracking": {"name": "mlflow"}}, out=folder, progress=Noted())
    assert read_status(RunLayout(folder))["state"] == "finished"
    assert tracked.closed == 1
    (note,) = [one for one in notes if "tracking" in one]
    assert "mlflow did not receive all results (ConnectionError: the server is gone)" in note
    assert str(folder) in note
    assert list(track(finished.config, finished.layout)) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/disk/a"),
         r"cannot go on in .*run: No space left on device \(/disk/a\); fix that and run"),
        (OSError(errno.EIO, "Input/output error"), r"cannot go on in .*: Input/output error; fix"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
         r"the run in .*run stopped \(ConnectionResetError: .*\); run the same command again"),
        (ConnectionError("the hub is down"), r"stopped \(ConnectionError: the hub is down\); run"),
        (TimeoutError("timed out"), r"stopped \(TimeoutError: timed out\)"),
        (socket.gaierror(-2, "Name or service not known"), r"stopped \(gaierror: .*not known\)"),
    ],
)  # fmt: skip
def test_only_faults_of_the_disk_are_blamed_on_the_folder(
    small_study: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: OSError,
    said: str,
) -> None:
    def fails(*given: Any) -> None:
        raise fault

    monkeypatch.setattr(run_module, "_execute", fails)
    with pytest.raises(ss.errors.RunError, match=said):
        ss.run(small_study, out=tmp_path / "run")


def test_a_task_whose_result_alone_was_lost_is_done(tmp_path: Path) -> None:
    class Loses:
        """An executor that does the work, and loses the result of the first task."""

        workers, in_process = 1, True

        def completed(self, function: Any, tasks: Any) -> Any:
            if len(tasks) == 2:
                write_json(tasks[0].target, {"train_seconds": 0.0})
                raise LostTaskError("task 1 of 2 was lost", 0)
            yield 0, None

    layout = RunLayout(tmp_path)
    scheduler = Scheduler(layout, Loses(), Silent())
    setting = Setting("corpus", "protocol", "encoder", "0", "features", tmp_path, 0.02)
    fold = Fold("fold", (), (), ("a",))
    steps = [VictimStep(key, setting, key, fold, "mlp", {}, {}, 0) for key in ("one", "two")]
    scheduler.stage("victims", [VictimTask(layout, step) for step in steps])
    assert scheduler.failures == []
    assert json.loads(layout.failures.read_text("utf-8")) == []


STUDY = """
name = "stopped"
corpus = {{ name = "manifest", root = "{root}", protocol = "speaker-kfold", folds = [0], \
protocol_settings = {{ folds = 3 }} }}
encoder = {{ name = "demo" }}
victims = [{{ head = "mlp", epochs = 100000, patience = 100000 }}]
attacks = [{{ name = "oneshot" }}]
executor = {{ name = "processes", workers = 2 }}
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM to catch")
def test_sigterm_ends_a_run_as_ctrl_c_does(small_corpus: Path, tmp_path: Path) -> None:
    study, layout = tmp_path / "study.toml", RunLayout(tmp_path / "run")
    study.write_text(STUDY.format(root=small_corpus).replace("\\\n", ""), "utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "sigma_ser", "run", str(study), "--out", str(layout.folder)],
        stderr=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    # The victim of this study is trained for hours, in a worker.
    while process.poll() is None and not _training(layout):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143, said
    assert "interrupted; completed results are kept" in said
    assert "Traceback" not in said
    assert "leaked" not in said
    assert read_status(layout)["state"] == "stopped"


def _training(layout: RunLayout) -> bool:
    if not layout.status.is_file():
        return False
    stages = read_status(layout)["stages"]
    return bool(stages) and stages[-1]["name"] == "victims"
