"""A cache of the checks of recordings in an SQLite file.

A check is found by the key of the place, size and modification time, in one file for each corpus
folder below `~/.cache/sigma-ser/checked` (`SIGMA_SER_CACHE` moves it). Such a file may be deleted:
recordings that are not in the cache are read again.
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
from sigma_ser.core.json_text import parse_json

from .reader import Verdict

# To be incremented whenever the checks change.
_VERSION = 3
_TABLE = """CREATE TABLE checked (
    path BLOB, max_seconds REAL, size INTEGER, mtime_ns INTEGER, facts TEXT, reason TEXT,
    message TEXT, PRIMARY KEY (path, max_seconds)) WITHOUT ROWID"""
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of cached files: `SIGMA_SER_CACHE`, or below `~/.cache`."""
    return Path(
        os.environ.get("SIGMA_SER_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sigma-ser"
    )


class CheckCache:
    """The verdicts on the recordings of one corpus; a cache that cannot be used is empty.

    Args:
        root: root of the corpus; `None` caches nothing.
        max_seconds: limit of the duration in the checks, on which the verdicts depend.
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
                self._repair(error)

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def load(self, keys: Sequence[str]) -> dict[str, Verdict]:
        """The verdicts on some recordings, at most a few hundred, by `Place.key`."""
        if self._open is None or not keys:
            return {}
        query = (
            "SELECT path, size, mtime_ns, facts, reason, message FROM checked "
            f"WHERE max_seconds = ? AND path IN ({', '.join('?' * len(keys))})"
        )
        try:
            rows = self._open.execute(query, [self._limit, *map(os.fsencode, keys)]).fetchall()
        except sqlite3.Error as error:
            self._repair(error)
            return {}
        verdicts = ((os.fsdecode(key), _verdict(rest)) for key, *rest in rows)
        return {key: verdict for key, verdict in verdicts if verdict is not None}

    def store(self, verdicts: Mapping[str, Verdict]) -> None:
        """Store verdicts by `Place.key`, in place of earlier ones."""
        if self._open is None or not verdicts:
            return
        rows = [
            (
                os.fsencode(key), self._limit, one.size, one.mtime_ns,
                None if one.facts is None else json.dumps(asdict(one.facts)),
                one.reason, one.message,
            )
            for key, one in verdicts.items()
        ]  # fmt: skip
        try:
            with self._open as transaction:
                transaction.executemany(
                    "INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?, ?, ?, ?)", rows
                )
        except sqlite3.Error as error:
            self._repair(error)

    def _repair(self, error: Exception) -> None:
        """Replace a damaged file; go on without one that is locked or cannot be written."""
        self.close()
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            _log.warning(
                "the cache of earlier checks cannot be read (%s); recordings are checked again",
                error,
            )
            try:
                self._file.unlink()
                self._open = _opened(self._file)
            except (OSError, sqlite3.Error) as another:
                error = another
            else:
                return
        _log.warning("the results of the checks cannot be cached (%s)", error)


def _opened(file: Path) -> sqlite3.Connection:
    opened = sqlite3.connect(file)
    try:
        # Of two processes that start together, one makes the table and the other finds it.
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
    """The verdict in a row; `None` if the row is not valid."""
    size, mtime_ns, facts, reason, message = row
    try:
        values = None if facts is None else parse_json(facts)
        known = None if values is None else AudioFacts(
            **{**values, "warnings": tuple(values["warnings"])}
        )  # fmt: skip
    except (ValueError, TypeError, KeyError):
        return None
    return Verdict(size, mtime_ns, known, reason, message)
