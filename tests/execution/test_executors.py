"""Laws of every executor: all results, of the right tasks; faults; nothing left running."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError, UnknownNameError
from sigma_ser.execution import processes
from sigma_ser.execution.executor import load_executor, ordered
from sigma_ser.execution.threads import one_thread
from sigma_ser.runs.layout import RunLayout
from sigma_ser.study.worker import Worker

# Workers import functions by name, so these are taken from the standard library.
# A Ray cluster takes seconds to start: test_ray_cluster.py has one for all that Ray must show.
# `slurm` takes whole studies: test_slurm.py and test_slurm_studies.py.
NAMES = [name for name in registry.names("executor") if name not in {"ray", "slurm"}]


@pytest.mark.parametrize("name", NAMES)
def test_every_task_once_and_in_its_place(name: str) -> None:
    executor = load_executor(name)
    tasks = list(range(-7, 8))
    assert ordered(executor, abs, tasks) == [abs(task) for task in tasks]
    assert sorted(position for position, _ in executor.completed(abs, tasks)) == list(range(15))
    assert ordered(executor, abs, []) == []
    assert executor.workers >= 1


@pytest.mark.parametrize("name", NAMES)
def test_an_exception_of_the_function_is_raised_as_it_is(name: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        ordered(load_executor(name), int, ["1", "two", "3"])


def test_modules_that_a_function_names_are_imported_once_for_all_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    preloaded: list[str] = []
    monkeypatch.setattr(processes._CONTEXT, "set_forkserver_preload", preloaded.extend)
    function = functools.partial(abs)
    vars(function)["imports"] = ("scipy.stats",)
    assert ordered(load_executor("processes"), function, [-1]) == [1]
    assert "scipy.stats" in preloaded


def test_a_worker_of_a_study_names_modules_that_exist(tmp_path: Path) -> None:
    # The fork server passes over a module that it cannot find.
    named = Worker(RunLayout(tmp_path)).imports
    assert Worker.__module__ in named
    assert [one for one in named if importlib.util.find_spec(one) is None] == []


def test_settings_that_are_not_possible() -> None:
    with pytest.raises(ConfigError, match="one worker"):
        load_executor("inline", workers=2)
    with pytest.raises(ConfigError, match="at least 1"):
        load_executor("processes", workers=0)
    with pytest.raises(ConfigError, match=r"no setting 'retrys'; did you mean retries\?"):
        load_executor("processes", retrys=2)
    with pytest.raises(UnknownNameError, match="did you mean processes"):
        load_executor("proceses")


def run_script(folder: Path, body: str) -> subprocess.Popen[str]:
    """Start a script whose functions worker processes can import."""
    script = folder / "study_script.py"
    script.write_text(
        "import os, pathlib, signal, sys, time\n"
        "from sigma_ser.execution.executor import load_executor, ordered\n"
        f"folder = pathlib.Path({str(folder)!r})\n" + body
    )
    return subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _threads_of_blas() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_one_thread_includes_those_of_numpy() -> None:
    with threadpool_limits(2):
        before = _threads_of_blas()
        with one_thread():
            assert torch.get_num_threads() == 1
            assert _threads_of_blas() == {1}
        assert _threads_of_blas() == before


@pytest.mark.slow
def test_the_fork_server_imports_beforehand(tmp_path: Path) -> None:
    started = run_script(
        tmp_path,
        """
def work(task):
    return "colorsys" in sys.modules

if __name__ == "__main__":
    executor = load_executor("processes", workers=1)
    executor.prepare(work, ["colorsys", "no_such_module"])
    print(ordered(executor, work, [0]))
""",
    )
    out, err = started.communicate(timeout=120)
    assert out.strip() == "[True]", err


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_its_task_done(tmp_path: Path) -> None:
    started = run_script(
        tmp_path,
        """
def work(task):
    mark = folder / f"died-{task}"
    if task == 2 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    import torch
    from threadpoolctl import threadpool_info
    blas = max(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
    return task * 10, torch.get_num_threads(), blas, os.environ["OMP_NUM_THREADS"]

if __name__ == "__main__":
    print(ordered(load_executor("processes", workers=2), work, [0, 1, 2, 3]))
""",
    )
    out, err = started.communicate(timeout=120)
    assert (tmp_path / "died-2").exists(), err
    assert out.strip() == str([(n * 10, 1, 1, "1") for n in range(4)]), err


@pytest.mark.slow
def test_each_worker_sees_one_device_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave workers out"):
        load_executor("processes", workers=3, devices=["4", "7"])
    started = run_script(
        tmp_path,
        """
def work(task):
    (folder / f"here-{task}").touch()
    # Both run at once, so that one worker cannot do both.
    while not (folder / f"here-{1 - task}").exists():
        time.sleep(0.02)
    return os.environ["CUDA_VISIBLE_DEVICES"]

if __name__ == "__main__":
    print(sorted(ordered(load_executor("processes", devices=["4", "7"]), work, [0, 1])))
""",
    )
    out, err = started.communicate(timeout=120)
    assert out.strip() == "['4', '7']", err


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    started = run_script(
        tmp_path,
        """
def work(task):
    if task == 1:
        os._exit(9)
    return task

if __name__ == "__main__":
    from sigma_ser.core.errors import RunError
    try:
        ordered(load_executor("processes", workers=1, retries=1), work, [0, 1])
    except RunError as error:
        print(error)
""",
    )
    out, err = started.communicate(timeout=120)
    assert "task 2 of 2 died 2 times" in out, err


@pytest.mark.slow
def test_who_ran_beside_a_killer_is_tried_alone_and_not_blamed(tmp_path: Path) -> None:
    started = run_script(
        tmp_path,
        """
def work(task):
    here, begun = folder / f"at-work-{task}", folder / f"begun-{task}"
    first = not begun.exists()
    begun.touch()
    here.touch()
    if task == 1:
        # The first time beside task 0, whose worker goes with the pool.
        while first and not (folder / "at-work-0").exists():
            time.sleep(0.02)
        with (folder / "deaths").open("a") as file:
            file.write(f"{len(list(folder.glob('at-work-*'))) - 1} ")
        here.unlink(missing_ok=True)
        if first:
            (folder / "at-work-0").unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if first:
        # At work until the other worker has died and the pool with it.
        while not (folder / "deaths").exists():
            time.sleep(0.02)
        time.sleep(2)
    here.unlink(missing_ok=True)
    return task

if __name__ == "__main__":
    from sigma_ser.execution.executor import LostTaskError
    done = []
    try:
        for position, _ in load_executor("processes", workers=2).completed(work, [0, 1]):
            done.append(position)
    except LostTaskError as lost:
        print(done, lost.position, (folder / "deaths").read_text())
""",
    )
    out, err = started.communicate(timeout=120)
    # Beside task 0 once, then twice by itself; task 0 is done although it was there.
    assert out.strip() == "[0] 1 1 0 0", err


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_workers_leave_when_the_parent_is_stopped(tmp_path: Path, sign: signal.Signals) -> None:
    started = run_script(
        tmp_path,
        """
def work(task):
    (folder / f"pid-{os.getpid()}").touch()
    time.sleep(60)

if __name__ == "__main__":
    ordered(load_executor("processes", workers=2), work, [0, 1, 2])
""",
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(workers) == 2
    os.kill(started.pid, sign)
    _, err = started.communicate(timeout=30)
    while not all(map(gone, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(gone, workers))
    if sign == signal.SIGINT:
        assert err.count("KeyboardInterrupt") == 1, err


def test_a_caller_that_stops_early_leaves_the_other_tasks_alone() -> None:
    done: list[int] = []
    for position, _ in load_executor("inline").completed(done.append, [1, 2, 3]):
        if position == 1:
            break
    assert done == [1, 2]
