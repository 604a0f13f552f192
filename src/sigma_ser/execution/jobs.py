"""Jobs of a batch system that compute one run, and where they stand in its queue."""

from __future__ import annotations

import socket
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

State = Literal["queued", "running", "ended", "unknown"]

# States of SLURM that are neither the first nor the last ones of a job; all others are ends.
_QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")
_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
_SQUEUE_SECONDS = 60
# The program that submitit starts for each job on this machine.
_LOCAL_PROGRAM = b"submitit.local._local"


@dataclass(frozen=True)
class Jobs:
    """The jobs of one submission.

    Args:
        cluster: `slurm`, or `local` for processes on `host`.
        workers: an id for each job that computes; on SLURM `ARRAY_NUMBER`.
        last: id of the job that collects after them; `None` where the last worker does.
        host: machine from which they were submitted.
        session: number of the session of local jobs, which `kill` takes with a minus sign.
    """

    cluster: str
    workers: tuple[str, ...]
    last: str | None
    host: str
    session: int | None = None

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> Jobs:
        """The jobs of a record."""
        return cls(**{**values, "workers": tuple(values["workers"])})

    @property
    def ids(self) -> list[str]:
        """One id for each job, an array being one."""
        arrays = [one.split("_")[0] for one in self.workers]
        return list(dict.fromkeys(arrays if self.last is None else [*arrays, self.last]))

    @property
    def stop_command(self) -> str:
        """The command that ends all of them; what they have finished is kept."""
        if self.session is not None:
            return f"kill -KILL -- -{self.session}"
        return f"scancel {' '.join(self.ids)}"

    def states(self) -> Counter[State]:
        """How many of them are in each state."""
        everyone = self.workers if self.last is None else (*self.workers, self.last)
        if self.cluster == "slurm":
            return _in_queue(self.ids, everyone)
        if self.host != socket.gethostname():
            return Counter({"unknown": len(everyone)})
        return Counter("running" if _is_alive(one) else "ended" for one in everyone)


def is_active(states: Mapping[State, int]) -> bool:
    """Whether a job is in the queue or at work, or may be."""
    return any(states.get(one) for one in ("queued", "running", "unknown"))


def _is_alive(pid: str) -> bool:
    try:
        return _LOCAL_PROGRAM in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _in_queue(ids: Sequence[str], everyone: Sequence[str]) -> Counter[State]:
    """States by `squeue`, which does not list jobs that ended some minutes ago."""
    command = ["squeue", "--noheader", "--array", "--format=%i|%T", f"--jobs={','.join(ids)}"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_SQUEUE_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return Counter({"unknown": len(everyone)})
    if done.returncode and "Invalid job id" not in done.stderr:
        return Counter({"unknown": len(everyone)})
    lines = (line.partition("|") for line in done.stdout.split() if "|" in line)
    found: dict[str, str] = {job: state for job, _, state in lines}
    return Counter(_state_of(found.get(one, "")) for one in everyone)


def _state_of(name: str) -> State:
    if name in _QUEUED:
        return "queued"
    return "running" if name in _RUNNING else "ended"
