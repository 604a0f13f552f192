"""The status of a run, kept in its folder so that another terminal can read it."""

from __future__ import annotations

import os
import socket
import time
from types import TracebackType
from typing import Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import write_json
from sigma_ser.core.progress import Progress

from .files import lacking, read_object
from .layout import RunLayout
from .lock import is_locked

_NUMBER = (int, float)
_KEYS = {
    "state": str, "process": int, "host": str, "started": _NUMBER, "updated": _NUMBER,
    "reason": (str, type(None)), "stages": list,
}  # fmt: skip
_STAGE_KEYS = {"name": str, "total": int, "cached": int, "done": int, "began": _NUMBER}
_EVERY = 1.0  # seconds between two writes


class RecordedProgress:
    """A progress that is also written to the status file of a run.

    Args:
        layout: of the run folder.
        progress: receives the same calls.
    """

    def __init__(self, layout: RunLayout, progress: Progress) -> None:
        self._path = layout.status
        self._progress = progress
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
        self._write()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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


def read_status(layout: RunLayout) -> dict[str, Any]:
    """The last status of a run; `state` is `stopped` where the process was killed.

    Returns:
        `state` (`running`, `finished`, `failed`, `stopped`), `process`, `host`, `started`,
        `updated` (seconds since 1970), `reason`, and `stages`: `name`, `total`, `cached` (there
        from the start), `done`, `began`.

    Raises:
        RunError: if no run was started there, or the file is damaged.
    """
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
    if values["state"] == "running" and not is_locked(layout.folder):
        values["state"] = "stopped"
    return values
