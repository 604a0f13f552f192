"""What recordings were found to be, remembered from one run to the next in an SQLite file.

A recording is remembered by path, size and modification time, in one file for each corpus folder
below `~/.cache/sigma-ser/checked` (`SIGMA_SER_CACHE` moves it). Nothing is lost with such a file:
what is not remembered is read again.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sigma_ser.audio.recording import AudioFacts
from sigma_ser.core.files import content_key

from .reader import Verdict

# Raised whenever a check finds more or fewer faults than before.
_VERSION = 2
_TABLE = """CREATE TABLE checked (
    path BLOB, max_seconds REAL, size INTEGER, mtime_ns INTEGER, facts TEXT, reason TEXT,
    message TEXT, PRIMARY KEY (path, max_seconds)) WITHOUT ROWID"""
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where things are kept that can be made again: `SIGMA_SER_CACHE`, or below `~/.cache`."""
    return Path(
        os.environ.get("SIGMA_SER_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sigma-ser"
    )


class Memory:
    """The verdicts on the recordings of one corpus; one that cannot be used is empty.

    Args:
        root: of the corpus; `None` remembers nothing.
        max_seconds: the limit of the checks, on which the verdicts depend.
    """

    def __init__(self, root: Path | None, max_seconds: float) -> None:
        self._limit = max_seconds
        self._open: sqlite3.Connection | None = None
        if root is not None:
            name = content_key(os.fsencode(root).hex())
            self._file = cache_folder() / "checked" / f"{name}.sqlite"
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._open = _opened(self._file)
            except (OSError, sqlite3.Error) as error:
                self._mend(error)

    def close(self) -> None:
        """Let go of the file."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def recall(self, paths: Sequence[Path]) -> dict[str, Verdict]:
        """What was found before of these, a few hundred at a time."""
        if self._open is None or not paths:
            return {}
        question = (
            "SELECT path, size, mtime_ns, facts, reason, message FROM checked "
            f"WHERE max_seconds = ? AND path IN ({', '.join('?' * len(paths))})"
        )
        try:
            rows = self._open.execute(question, [self._limit, *map(os.fsencode, paths)]).fetchall()
        except sqlite3.Error as error:
            self._mend(error)
            return {}
        verdicts = ((os.fsdecode(path), _verdict(rest)) for path, *rest in rows)
        return {path: verdict for path, verdict in verdicts if verdict is not None}

    def remember(self, verdicts: Mapping[Path, Verdict]) -> None:
        """Keep these, whatever was known before."""
        if self._open is None or not verdicts:
            return
        rows = [
            (
                os.fsencode(path), self._limit, one.size, one.mtime_ns,
                None if one.facts is None else json.dumps(asdict(one.facts)),
                one.reason, one.message,
            )
            for path, one in verdicts.items()
        ]  # fmt: skip
        try:
            with self._open as transaction:
                transaction.executemany(
                    "INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?, ?, ?, ?)", rows
                )
        except sqlite3.Error as error:
            self._mend(error)

    def _mend(self, error: Exception) -> None:
        """Begin a damaged file anew; do without one that is locked or cannot be written."""
        self.close()
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            _log.warning("what was checked before cannot be read (%s); checking again", error)
            try:
                self._file.unlink()
                self._open = _opened(self._file)
            except (OSError, sqlite3.Error) as another:
                error = another
            else:
                return
        _log.warning("what is checked cannot be remembered (%s)", error)


def _opened(file: Path) -> sqlite3.Connection:
    opened = sqlite3.connect(file)
    try:
        # Of two that come first, one makes the table and the other finds it.
        opened.isolation_level = None
        opened.execute("BEGIN IMMEDIATE")
        if opened.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            opened.execute("DROP TABLE IF EXISTS checked")
            opened.execute(_TABLE)
            opened.execute(f"PRAGMA user_version = {_VERSION}")
        opened.execute("COMMIT")
        opened.isolation_level = "DEFERRED"
    except BaseException:
        opened.close()
        raise
    return opened


def _verdict(row: Sequence[Any]) -> Verdict | None:
    """What a row says; `None` if it is none of ours."""
    size, mtime_ns, facts, reason, message = row
    try:
        values = None if facts is None else json.loads(facts)
        known = None if values is None else AudioFacts(
            **{**values, "warnings": tuple(values["warnings"])}
        )  # fmt: skip
    except (ValueError, TypeError, KeyError):
        return None
    return Verdict(size, mtime_ns, known, reason, message)
