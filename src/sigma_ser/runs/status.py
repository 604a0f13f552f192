"""Where a run stands, told in its folder so that another terminal can see it."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import write_json

from .lock import is_locked
from sigma_ser.core.progress import Progress
from .files import read_object

_FILE = "status.json"
_KEYS = ("state", "process", "host", "started", "updated", "reason", "stages")
_STAGE_KEYS = ("name", "total", "cached", "done", "began")
_EVERY = 1.0  # seconds between two notes


class Told:
    """A progress that is also written to `status.json`."""

    def __init__(self, folder: Path, progress: Progress) -> None:
        self._folder = folder
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

    def __enter__(self) -> Told:
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
            # A full disk is being told of already.
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
        write_json(self._folder / _FILE, self._values)
        self._written = time.monotonic()


def read_status(folder: Path) -> dict[str, Any]:
    """What a run last told, with `state` set right where it was killed.

    Returns:
        `state` (`running`, `finished`, `failed`, `stopped`), `process`, `host`, `started`,
        `updated` (seconds since 1970), `reason`, and `stages`: `name`, `total`, `cached` (there
        from the start), `done`, `began`.

    Raises:
        RunError: if no run was ever begun there, or what it told is damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        raise RunError(
            f"{folder} is not the folder of a run (it has no {_FILE}); give the folder that "
            "sigma-ser run wrote"
        )
    values = read_object(path, _KEYS, "run the study again, which writes it anew")
    for stage in values["stages"]:
        if not set(_STAGE_KEYS) <= set(stage):
            raise RunError(f"{path} is damaged; run the study again, which writes it anew")
    if values["state"] == "running" and not is_locked(folder):
        values["state"] = "stopped"
    return values
