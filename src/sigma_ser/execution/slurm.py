"""Whole studies as jobs of SLURM, or of the same program on this machine; submitit submits them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sigma_ser.core.cores import usable_cores
from sigma_ser.core.errors import ConfigError, RunError
from sigma_ser.core.registry import register

from .executor import Result, Task
from .jobs import Jobs

# Roles of a job: the second argument of the function that it calls.
WORK, COLLECT, WORK_AND_COLLECT = "work", "collect", "work-and-collect"

WHOLE_STUDIES = (
    "the executor 'slurm' submits whole studies and returns before there are results: "
    'use sigma-ser run, or executor.name = "processes"'
)

_CLUSTERS = ("slurm", "local")
# Workers where the study does not say how many.
_WORKERS = 16


@register("executor", "slurm")
class Slurm:
    """Submits a study to SLURM as an array of workers and ends; a last job collects and reports.

    `sigma-ser run` does this; Python calls need another executor. The run folder, the corpus and
    the encoder must have the same path on every machine. Needs the extra `sigma-ser[slurm]`.

    Args:
        workers: the same as `max_parallel`.
        cluster: `slurm`, or `local` for processes on this machine that survive their shell.
        partition: of the cluster.
        account: to which the jobs are charged.
        time: minutes that one job may take, at least 1; a job that needs more is submitted again.
        memory: of one job in GB.
        gpus: accelerators of one job.
        cpus: cores of one job, at least 1; a worker computes with one, and extracts with all.
        max_parallel: number of workers; by default 16, or on this machine one for each core.
        setup: shell commands that each job runs first.
        resubmissions: how often one job may reach its time limit.
        options: further options of `sbatch` by name, such as `qos`.
    """

    in_process = False

    def __init__(
        self,
        *,
        workers: int | None = None,
        cluster: str = "slurm",
        partition: str | None = None,
        account: str | None = None,
        time: int = 240,
        memory: float | None = None,
        gpus: int = 0,
        cpus: int = 1,
        max_parallel: int | None = None,
        setup: Sequence[str] = (),
        resubmissions: int = 100,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if cluster not in _CLUSTERS:
            raise ConfigError(f"cluster must be slurm or local, got {cluster!r}")
        if None not in (workers, max_parallel):
            raise ConfigError("workers and max_parallel mean the same; give one of them")
        if not isinstance(setup, list | tuple) or not all(isinstance(one, str) for one in setup):
            raise ConfigError(f"setup must be a list of shell commands, got {setup!r}")
        default = usable_cores() if cluster == "local" else _WORKERS
        chosen = max_parallel if workers is None else workers
        self.workers = default if chosen is None else chosen
        for name, value, least in (
            ("max_parallel", self.workers, 1), ("time", time, 1), ("cpus", cpus, 1),
            ("gpus", gpus, 0), ("resubmissions", resubmissions, 0),
        ):  # fmt: skip
            if value < least:
                raise ConfigError(f"{name} must be at least {least}, got {value}")
        if memory is not None and memory <= 0:
            raise ConfigError(f"memory must be more than 0 GB, got {memory}")
        _submitit()
        self.cluster = cluster
        self.cpus = cpus
        self._gpus = gpus
        self._minutes = time
        self._setup = list(setup)
        self._resubmissions = resubmissions
        # SLURM itself submits a job again whose machine it needed or lost.
        further = {"requeue": True, **(options or {})}
        megabytes = None if memory is None else f"{round(1024 * memory)}M"
        given = {"partition": partition, "account": account, "mem": megabytes,
                 "gpus_per_node": gpus or None, "setup": self._setup or None}  # fmt: skip
        self._sbatch = {"time": time, "cpus_per_task": cpus, "additional_parameters": further}
        self._sbatch |= {key: value for key, value in given.items() if value is not None}

    def completed(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Refuse single tasks.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(WHOLE_STUDIES)

    def submit(self, folder: Path, function: Callable[[str, str], None], run: Path) -> Jobs:
        """Submit the workers of a run, and on SLURM the job that collects after them.

        Args:
            folder: for scripts, logs and pickles.
            function: is called in each job with the path of the run and the role of the job. It is
                pickled by name, with these strings and nothing else.
            run: the run folder.

        Raises:
            RunError: if the jobs cannot be submitted.
        """
        if self.cluster == "local":
            return self._submit_here(folder, function, str(run))
        submitit = _submitit()
        name = f"sigma-ser-{run.name}"
        try:
            executor = submitit.SlurmExecutor(folder, max_num_timeout=self._resubmissions)
            executor.update_parameters(
                job_name=name, array_parallelism=self.workers, **self._sbatch
            )
            each = [str(run)] * self.workers
            workers = executor.map_array(function, each, [WORK] * self.workers)
            try:
                array = workers[0].job_id.split("_")[0]
                executor.update_parameters(dependency=f"afterany:{array}")
                last = executor.submit(function, str(run), COLLECT)
            except RuntimeError:
                for one in workers:
                    one.cancel(check=False)
                raise
        except (RuntimeError, OSError) as fault:
            raise RunError(
                f"the jobs could not be submitted ({_sentence(fault)}); call this on a machine "
                'that has sbatch and srun, or use cluster = "local"'
            ) from fault
        ids = tuple(str(one.job_id) for one in workers)
        return Jobs("slurm", ids, str(last.job_id), socket.gethostname())

    def _submit_here(self, folder: Path, function: Callable[[str, str], None], run: str) -> Jobs:
        """Start the workers in the session of this process, which they survive."""
        executor = _submitit().LocalExecutor(folder, max_num_timeout=self._resubmissions)
        ids = []
        for number in range(self.workers):
            executor.update_parameters(
                timeout_min=self._minutes,
                setup=self._setup,
                gpus_per_node=self._gpus,
                visible_gpus=tuple(range(number * self._gpus, (number + 1) * self._gpus)),
                stderr_to_stdout=True,
            )
            ids.append(str(executor.submit(function, run, WORK_AND_COLLECT).job_id))
        return Jobs("local", tuple(ids), None, socket.gethostname(), os.getsid(0))

    def __repr__(self) -> str:
        return f"Slurm(cluster={self.cluster!r}, max_parallel={self.workers})"


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as fault:
        raise ConfigError(
            f"executor.name: submitit is not installed ({fault}); pip install sigma-ser[slurm], or "
            'use executor = "processes"'
        ) from None
    return submitit


def _sentence(fault: Exception) -> str:
    """The last line of an error, which for `sbatch` is its own."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[-1] if lines else type(fault).__name__
