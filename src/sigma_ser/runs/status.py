"""The status of a run, kept in its folder so that another terminal can read it."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from dataclasses import asdict
from types import TracebackType
from typing import Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import write_json
from sigma_ser.core.progress import Progress
from sigma_ser.execution.jobs import Jobs, State, is_active

from .files import lacking, read_object
from .layout import RunLayout
from .lock import is_locked

_NUMBER = (int, float)
_KEYS = {
    "state": str, "process": int, "host": str, "started": _NUMBER, "updated": _NUMBER,
    "reason": (str, type(None)), "stages": list,
}  # fmt: skip
_JOB_KEYS = {
    "cluster": str, "workers": list, "last": (str, type(None)), "host": str,
    "session": (int, type(None)),
}  # fmt: skip
_STAGE_KEYS = {"name": str, "total": int, "cached": int, "done": int, "began": _NUMBER}
_EVERY = 1.0  # seconds between two writes


class RecordedProgress:
    """A progress that is also written to the status file of a run.

    Args:
        layout: of the run folder.
        progress: receives the same calls.
        whole: whether the run ends with this process; False for one of its jobs, after which the
            run goes on.
    """

    def __init__(self, layout: RunLayout, progress: Progress, *, whole: bool = True) -> None:
        self._path = layout.status
        self._progress = progress
        self._whole = whole
        self._written = 0.0
        self._values: dict[str, Any] = {
            "state": "running",
            "process": os.getpid(),
            "host": socket.gethostname(),
            "started": time.time(),
            "updated": time.time(),
            "reason": None,
            "stages": [],
        }

    def __enter__(self) -> RecordedProgress:
        self.begin()
        return self

    def begin(self) -> None:
        """Record that the run is at work, or will be."""
        self._write()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._whole:
            return
        if fault is None:
            self._values["state"] = "finished"
        elif isinstance(fault, KeyboardInterrupt):
            self._values["state"] = "stopped"
        else:
            self._values |= {"state": "failed", "reason": str(fault) or type(fault).__name__}
        try:
            self._write()
        except OSError:
            # A full disk is the fault that is being reported.
            if fault is None:
                raise

    def stage(self, name: str, total: int, cached: int = 0) -> None:
        """A stage begins."""
        self._progress.stage(name, total, cached)
        self._values["stages"].append(
            {"name": name, "total": total, "cached": cached, "done": cached, "began": time.time()}
        )
        self._write()

    def advance(self, steps: int = 1) -> None:
        """Steps of the stage are done."""
        self._progress.advance(steps)
        self._values["stages"][-1]["done"] += steps
        if time.monotonic() - self._written >= _EVERY:
            self._write()

    def note(self, text: str) -> None:
        """One line worth reading."""
        self._progress.note(text)

    def _write(self) -> None:
        self._values["updated"] = time.time()
        write_json(self._path, self._values)
        self._written = time.monotonic()


def write_jobs(layout: RunLayout, jobs: Jobs) -> None:
    """Record the jobs that compute a run."""
    write_json(layout.submission, asdict(jobs))


def read_jobs(layout: RunLayout) -> Jobs | None:
    """The jobs that were last submitted for a run; `None` where there were none.

    Raises:
        RunError: if the file is damaged.
    """
    if not layout.submission.exists():
        return None
    advice = "delete it and run the study again"
    return Jobs.from_record(read_object(layout.submission, _JOB_KEYS, advice))


def read_status(layout: RunLayout) -> dict[str, Any]:
    """The last status of a run; `state` is `stopped` where the process was killed.

    Returns:
        `state` (`queued`, `running`, `finished`, `failed`, `stopped`), `process`, `host`,
        `started`, `updated` (seconds since 1970), `reason`, `stages`: `name`, `total`, `cached`
        (there from the start), `done`, `began`, and for a run that jobs compute `jobs`: their
        `cluster`, `ids`, and how many are `queued`, `running`, `ended` or `unknown`.

    Raises:
        RunError: if no run was started there, or the file is damaged.
    """
    values = _recorded(layout)
    if values["state"] != "running":
        return values
    locked, jobs = is_locked(layout.folder), read_jobs(layout)
    states = Counter[State]() if jobs is None else jobs.states()
    if jobs is not None:
        values["jobs"] = {"cluster": jobs.cluster, "ids": jobs.ids, **states}
    if not locked:
        # It may have ended after its state was read.
        if (now := _recorded(layout))["state"] != "running":
            return now
        values["state"] = "queued" if is_active(states) else "stopped"
    return values


def is_over(layout: RunLayout) -> bool:
    """Whether a run has finished or failed, by its own record; False before its first one."""
    return layout.status.is_file() and _recorded(layout)["state"] in {"finished", "failed"}


def _recorded(layout: RunLayout) -> dict[str, Any]:
    path = layout.status
    if not path.is_file():
        raise RunError(
            f"{layout.folder} is not a run folder (it has no {path.name}); give the folder that "
            "sigma-ser run wrote"
        )
    values = read_object(path, _KEYS, "run the study again, which rewrites it")
    for stage in values["stages"]:
        if lacking(stage, _STAGE_KEYS):
            raise RunError(f"{path} is damaged; run the study again, which rewrites it")
    return values
