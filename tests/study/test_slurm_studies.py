"""A study as jobs, on this machine and on a stand-in for SLURM: signals, and the same rows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import sigma_ser as ss
from sigma_ser.cli.status import status
from sigma_ser.cli.study_jobs import submit
from sigma_ser.core.rows import TIMING_COLUMNS
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.status import read_status
from sigma_ser.study.loading import parse_study
from sigma_ser.study.scheduler import read_failures

pytest.importorskip("submitit", reason="submitit is not installed")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")

SUBMIT = """
import json, sys
from pathlib import Path
from sigma_ser.cli.study_jobs import submit
from sigma_ser.study.loading import parse_study
submit(parse_study(json.loads(sys.argv[1])), Path(sys.argv[2]))
print("submitted", flush=True)
sys.stdin.read()
"""

# Attacks of the jobs wait in the middle of a part as long as the file `hold` exists.
HOLD = """
import os, sys, time
from pathlib import Path
if "submitit.core._submit" in sys.orig_argv:
    from sigma_ser.report import writer
    from sigma_ser.study import worker
    writer.write_figures = lambda *given: None  # as in conftest.py
    folder, attack_of = Path(__file__).parent, worker.attack_of
    def held(step):
        (folder / f"at-work-{os.getpid()}").touch()
        while (folder / "hold").exists():
            time.sleep(0.05)
        return attack_of(step)
    worker.attack_of = held
"""

# Runs the scripts of an array, or of a job that depends on one, as SLURM does: a job that was
# requeued is started again, and one that another depends on has ended before that starts.
CLUSTER = """
import os, re, subprocess, sys, time
from pathlib import Path
here, script = Path(__file__).parent, Path(sys.argv[1])
text = script.read_text()
if len(sys.argv) == 2:
    number = str(70 + len(list(here.glob("*.batch"))))
    copy = here / f"{number}.batch"
    copy.write_text(text)
    size = re.search(r"--array=0-(\\d+)", text)
    jobs = [f"{number}_{n}" for n in range(int(size[1]) + 1)] if size else [number]
    for job in jobs:
        (here / f"{job}.job").write_text("PENDING")
        subprocess.Popen([sys.executable, __file__, copy, job], start_new_session=True,
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    print(f"Submitted batch job {number}")
    sys.exit()
job = sys.argv[2]
if before := re.search(r"--dependency=afterany:(\\d+)", text):
    while list(here.glob(f"{before[1]}_*.job")):
        time.sleep(0.05)
array, _, place = job.partition("_")
names = {"SLURM_JOB_ID": array}
if place:
    names |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": place}
again = here / f"{job}.again"
(here / f"{job}.job").write_text("RUNNING")
while True:
    subprocess.run(["bash", script], env={**os.environ, **names})
    if not again.exists():
        break
    again.unlink()
    (here / "requeued").open("a").write(job + "\\n")
(here / f"{job}.job").unlink()
"""
PROGRAMS = {
    "sbatch": f'exec {sys.executable} "$(dirname "$0")/cluster.py" "$1"',
    # Its options are --unbuffered, --output FILE and --error FILE.
    "srun": 'shift 5; exec "$@"',
    "scontrol": 'touch "$(dirname "$0")/$2.again"',
    "squeue": 'cd "$(dirname "$0")"; for one in *.job; do '
    '[ -e "$one" ] && echo "${one%.job}|$(cat "$one")"; done; exit 0',
}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of programs that take the place of those of SLURM."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "cluster.py").write_text(CLUSTER)
    for name, body in PROGRAMS.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the file `hold`, while which attacks wait, and of a mark for each that does."""
    folder = tmp_path / "hooks"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HOLD)
    (folder / "hold").touch()
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
    return folder


def without_attacks(finished: ss.Study, folder: Path) -> Path:
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / "attacks")
    for name in ("rows.json", "rows.parquet", "status.json"):
        (folder / name).unlink()
    return folder


def wait_until(condition: Callable[[], object], what: str, folder: Path) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        if time.monotonic() > deadline:
            logs = [path.read_text()[-2000:] for path in folder.glob("jobs/*log*")]
            pytest.fail(f"waited too long: {what}\n" + "\n".join(logs))
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local", "slurm"])
def test_signals_in_the_middle_of_a_part_and_a_shell_that_is_killed(  # noqa: PLR0917
    finished: ss.Study,
    small_study: dict[str, Any],
    cluster: Path,
    hooks: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    folder = without_attacks(finished, cluster.with_name("run"))
    # After 10 minutes or less, each interruption counts as one by the limit of time.
    small_study["executor"] = {
        "name": "slurm", "cluster": name, "max_parallel": 2, "time": 10, "resubmissions": 5
    }  # fmt: skip
    shell = subprocess.Popen(
        [sys.executable, "-c", SUBMIT, json.dumps(small_study), str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert shell.stdout is not None
    assert shell.stdin is not None
    assert shell.stdout.readline() == "submitted\n"
    os.killpg(shell.pid, signal.SIGKILL)
    shell.communicate()

    def at_work() -> set[int]:
        return {int(path.name.rpartition("-")[2]) for path in hooks.glob("at-work-*")}

    wait_until(lambda: len(at_work()) == 2, "two workers", folder)
    first, second = at_work()
    assert read_status(RunLayout(folder))["state"] == "running"
    status(folder, as_json=False)
    assert "2 running" in capsys.readouterr().out
    with pytest.raises(ss.errors.RunError, match=r"are queued or running; wait for them"):
        submit(parse_study(small_study), folder)
    with pytest.raises(ss.errors.RunError, match="already using"):
        ss.run(small_study | {"executor": {"name": "inline"}}, out=folder)
    os.kill(first, signal.SIGTERM)  # as SLURM does before it takes a machine away
    os.kill(first, signal.SIGUSR2)
    wait_until(lambda: len(at_work()) == 3, "the first worker, started again", folder)
    os.kill(second, signal.SIGKILL)
    assert not (folder / "rows.parquet").exists()
    (hooks / "hold").unlink()
    layout = RunLayout(folder)
    wait_until(lambda: read_status(layout)["state"] != "running" and layout.rows.exists()
               and read_status(layout)["state"] != "queued", "the report", folder)  # fmt: skip
    status(folder, as_json=False)
    assert capsys.readouterr().out.startswith("finished")
    assert layout.page.exists()
    assert read_failures(layout) == []
    rows = pl.read_parquet(folder / "rows.parquet")
    assert_frame_equal(rows.drop(TIMING_COLUMNS), finished.rows.drop(TIMING_COLUMNS))
    if name == "slurm":
        assert len((cluster / "requeued").read_text().split()) == 1
    assert list((folder / "jobs" / "claims").glob("[0-9a-f]" * 32)) == []


@pytest.mark.slow
def test_a_study_of_jobs_is_not_run_by_a_call(small_study: dict[str, Any], tmp_path: Path) -> None:
    small_study["executor"] = {"name": "slurm"}
    with pytest.raises(ss.errors.ConfigError, match="use sigma-ser run"):
        ss.run(small_study, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    small_study["executor"] = {"name": "inline"}
    with pytest.raises(ss.errors.ConfigError, match="'inline' has no jobs"):
        submit(parse_study(small_study), tmp_path / "run")
