"""Jobs of SLURM: scripts, pickles, the queue, and tasks that processes divide among themselves."""

from __future__ import annotations

import os
import pickletools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sigma_ser.cli.study_jobs import StudyJob
from sigma_ser.core.errors import ConfigError, RunError
from sigma_ser.core.locks import Claims, exclusive, is_held, shared
from sigma_ser.execution.executor import Fault, load_executor
from sigma_ser.execution.jobs import Jobs, is_active
from sigma_ser.execution.shared import Shared
from sigma_ser.execution.slurm import Slurm

submitit = pytest.importorskip("submitit", reason="submitit is not installed")

Stand = Callable[[str, str], None]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Write a program that takes the place of one of SLURM."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def write(name: str, body: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)

    return write


def submitted(stand_in: Stand, folder: Path, **settings: Any) -> Jobs:
    """Submit to a cluster that only takes the scripts: the array is job 70, the last one 71."""
    stand_in("srun", "exit 1")
    count = f"$(ls {folder} | grep -c batch)"
    stand_in("sbatch", f'n={count}; cp "$1" {folder}/$n.batch; echo "Submitted batch job 7$n"')
    executor = load_executor("slurm", **settings)
    assert isinstance(executor, Slurm)
    return executor.submit(folder / "jobs", StudyJob(), folder / "run")


def test_the_batch_scripts_are_these(stand_in: Stand, tmp_path: Path) -> None:
    jobs = submitted(
        stand_in, tmp_path, max_parallel=3, partition="gpu", account="speech", time=90, memory=12.0,
        gpus=1, cpus=4, setup=["module load cuda"], options={"qos": "long"},
    )  # fmt: skip
    assert jobs.workers == ("70_0", "70_1", "70_2")
    assert jobs.last == "71"
    assert jobs.ids == ["70", "71"]
    assert jobs.stop_command == "scancel 70 71"
    logs = tmp_path / "jobs"
    script = f"""#!/bin/bash

# Parameters
#SBATCH --account=speech
#SBATCH --array=0-2%3
#SBATCH --cpus-per-task=4
#SBATCH --error={logs}/%A_%a_0_log.err
#SBATCH --gpus-per-node=1
#SBATCH --job-name=sigma-ser-run
#SBATCH --mem=12288M
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output={logs}/%A_%a_0_log.out
#SBATCH --partition=gpu
#SBATCH --qos=long
#SBATCH --requeue
#SBATCH --signal=USR2@90
#SBATCH --time=90
#SBATCH --wckey=submitit

# setup
module load cuda

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output {logs}/%A_%a_%t_log.out --error {logs}/%A_%a_%t_log.err \
{sys.executable} -u -m submitit.core._submit {logs}
"""
    assert (tmp_path / "0.batch").read_text() == script
    last = script.replace("%A_%a", "%j").replace(
        "#SBATCH --array=0-2%3\n#SBATCH --cpus-per-task=4\n",
        "#SBATCH --cpus-per-task=4\n#SBATCH --dependency=afterany:70\n",
    )
    assert (tmp_path / "1.batch").read_text() == last


def test_one_worker_is_no_array(stand_in: Stand, tmp_path: Path) -> None:
    jobs = submitted(stand_in, tmp_path, max_parallel=1)
    assert (jobs.workers, jobs.ids) == (("70",), ["70", "71"])
    assert "--dependency=afterany:70" in (tmp_path / "1.batch").read_text()


def test_a_pickle_has_names_and_strings_only(stand_in: Stand, tmp_path: Path) -> None:
    submitted(stand_in, tmp_path, max_parallel=2)
    for job, role in (("70_0", "work"), ("70_1", "work"), ("71", "collect")):
        path = tmp_path / "jobs" / f"{job}_submitted.pkl"
        call = submitit.core.utils.DelayedSubmission.load(path)
        assert (call.args, call.kwargs) == ((str(tmp_path / "run"), role), {})
        assert vars(call.function) == {}
        again = call._checkpoint_function()
        assert (type(again.function), again.args) == (StudyJob, call.args)
        found = list(pickletools.genops(path.read_bytes()))
        names = {"submitit.core.utils", "DelayedSubmission", "sigma_ser.cli.study_jobs", "StudyJob"}
        texts = {argument for code, argument, _ in found if code.name == "SHORT_BINUNICODE"}
        assert names < texts
        assert sum(code.name == "STACK_GLOBAL" for code, _, _ in found) == 2


def test_jobs_that_cannot_be_submitted(
    stand_in: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = load_executor("slurm", max_parallel=2)
    assert isinstance(executor, Slurm)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path / "bin"))
        with pytest.raises(RunError, match=r'detect "srun".*; call this on a machine that has'):
            executor.submit(tmp_path / "jobs", StudyJob(), tmp_path / "run")
    stand_in("srun", "exit 1")
    # The array is taken, and the job after it is not.
    stand_in("sbatch", 'grep -q afterany "$1" && echo "sbatch: error: no such account" >&2 '
                       '&& exit 1; echo "Submitted batch job 70"')  # fmt: skip
    stand_in("scancel", f'echo "$@" >> {tmp_path}/cancelled')
    with pytest.raises(RunError, match="no such account"):
        executor.submit(tmp_path / "jobs", StudyJob(), tmp_path / "run")
    assert (tmp_path / "cancelled").read_text().split() == ["70_0", "70_1"]


def test_settings_that_are_not_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"cluster": "pbs"}, "cluster must be slurm or local, got 'pbs'"),
        ({"max_parallel": 0}, "max_parallel must be at least 1, got 0"),
        ({"time": 0}, "time must be at least 1"),
        ({"memory": 0.0}, "memory must be more than 0 GB"),
        ({"workers": 2, "max_parallel": 3}, "mean the same"),
        ({"setup": "module load cuda"}, "setup must be a list"),
        ({"partion": "gpu"}, r"did you mean partition\?"),
    ]
    for settings, message in wrong:
        with pytest.raises(ConfigError, match=message):
            load_executor("slurm", **settings)
    with pytest.raises(ConfigError, match="use sigma-ser run"):
        load_executor("slurm").completed(abs, [1])
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install sigma-ser\[slurm\]"):
        load_executor("slurm")


def test_the_queue_is_read(stand_in: Stand, tmp_path: Path) -> None:
    jobs = Jobs("slurm", ("70_0", "70_1", "70_2"), "71", "here")
    assert jobs.states() == {"unknown": 4}
    lines = "70_1|RUNNING\\n70_2|PENDING\\n71|PENDING\\n"
    stand_in("squeue", f'echo "$@" > {tmp_path}/asked; printf "{lines}"')
    assert jobs.states() == {"ended": 1, "running": 1, "queued": 2}
    asked = (tmp_path / "asked").read_text().split()
    assert asked == ["--noheader", "--array", "--format=%i|%T", "--jobs=70,71"]
    stand_in("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert jobs.states() == {"ended": 4}
    assert not is_active(jobs.states())
    stand_in("squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    assert jobs.states() == {"unknown": 4}
    assert is_active(jobs.states())


def test_processes_of_another_machine_are_not_looked_for() -> None:
    assert Jobs("local", ("1", "2"), None, "elsewhere.example", 1).states() == {"unknown": 2}


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


CLAIM = """
import sys
from pathlib import Path
from sigma_ser.core.locks import Claims
with Claims(Path(sys.argv[1])) as claims, claims.claimed(sys.argv[2]) as ours:
    print(ours, flush=True)
    sys.stdin.read(1)
"""


def test_a_claim_belongs_to_one_process_and_ends_with_it(tmp_path: Path) -> None:
    other = python(CLAIM, tmp_path / "claims", "a")
    assert other.stdout is not None
    assert other.stdout.readline() == "True\n"
    with Claims(tmp_path / "claims") as claims:
        with claims.claimed("a") as ours, claims.claimed("b") as also:
            assert (ours, also) == (False, True)
        other.kill()
        with claims.awaited("a"):
            third = python(CLAIM, tmp_path / "claims", "a")
            assert third.communicate("x")[0] == "False\n"
    other.communicate()


def test_a_shared_lock_excludes_an_exclusive_one_alone(tmp_path: Path) -> None:
    path, busy = tmp_path / "lock", ValueError("busy")
    with shared(path), shared(path):
        assert is_held(path)
        with pytest.raises(ValueError, match="busy"), exclusive(path, busy):
            pass
    with exclusive(path, busy):
        assert is_held(path)
    assert not is_held(path)


@dataclass(frozen=True)
class Task:
    target: Path


def test_tasks_are_done_once_and_a_fault_is_known_to_all(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    tasks, done = [Task(tmp_path / name) for name in "abc"], []

    def work(task: Task) -> Fault | None:
        done.append(task.target.name)
        if task.target.name == "b":
            return Fault("no luck", final=False)
        task.target.touch()
        return None

    for _ in range(2):
        results = dict(Shared(tmp_path / "claims").completed(work, tasks))
        assert {place: fault and fault.reason for place, fault in results.items()} == {
            0: None, 1: "no luck", 2: None
        }  # fmt: skip
    assert done == ["a", "b", "c"]


def test_a_task_at_which_three_processes_died_is_given_up(tmp_path: Path) -> None:
    executor, task = Shared(tmp_path), Task(tmp_path / "never")

    class Interrupted(BaseException):
        pass

    def interrupted(task: Task) -> None:
        raise Interrupted

    # An interruption is no death: the process ends in order and comes back.
    for _ in range(5):
        with pytest.raises(Interrupted):
            list(executor.completed(interrupted, [task]))
    died = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from sigma_ser.execution.shared import Shared
for _ in Shared(Path(sys.argv[1])).completed(lambda task: os._exit(9),
                                             [SimpleNamespace(target=Path(sys.argv[2]))]):
    sys.exit(0)
"""
    command = [sys.executable, "-c", died, str(tmp_path), str(task.target)]
    codes = [subprocess.run(command, check=False).returncode for _ in range(4)]
    assert codes == [9, 9, 9, 0]
    ((_, fault),) = executor.completed(interrupted, [task])
    assert fault is not None
    assert fault.reason.startswith("3 workers died at it")


def test_a_record_is_read_back() -> None:
    jobs = Jobs("local", ("4", "5"), None, "here", 3)
    assert Jobs.from_record(vars(SimpleNamespace(**vars(jobs)))) == jobs
    assert jobs.stop_command == "kill -KILL -- -3"
