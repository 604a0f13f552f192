"""Digests of the files of a run, from which a file that has changed is recognised."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from sigma_ser.core.errors import DamagedRunError
from sigma_ser.core.files import file_digest, remove, write_text

from .files import MAKE_ANEW
from .layout import RunLayout

# A line of `b2sum -l 128`, with the path relative to the run folder.
_LINE = re.compile(r"([0-9a-f]{32})  (.+)")


class Digests:
    """The digests of one run folder, a `FileRecord`.

    Each process appends to a file of its own in `digests/`, before the file that it has written
    gets its name. A path may have several digests: a task that was tried twice differs in its
    seconds, and each of its files was complete. Files are checked once, when they are first read.

    Args:
        layout: of the run folder. Files elsewhere are neither recorded nor checked.
    """

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout
        self._own = layout.digests / f"{secrets.token_hex(4)}.txt"
        self._intact: set[Path] = set()
        self._known: dict[str, tuple[str, ...]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the digests again, for files that other processes have written."""
        self._known = {}
        for path in _journals(self._layout):
            for line in path.read_text("utf-8", errors="replace").splitlines():
                # A process that was killed, or damage, may leave a line that is none.
                if found := _LINE.fullmatch(line):
                    self._add(found[2], found[1])

    def of(self, path: Path) -> tuple[str, ...]:
        """The digests of a file, each of a complete state of it; empty if there is none."""
        return self._known.get(self._name(path), ())

    def seal(self, path: Path, whole: Path) -> None:
        """Record a complete file that is about to be renamed to `path`."""
        self._layout.digests.mkdir(parents=True, exist_ok=True)
        digest, name = file_digest(whole), self._name(path)
        with self._own.open("ab") as journal:
            journal.write(f"{digest}  {name}\n".encode())
            journal.flush()
            os.fsync(journal.fileno())
        self._add(name, digest)
        self._intact.discard(path)

    def record(self, path: Path) -> None:
        """Record a file that is there already."""
        self.seal(path, path)

    def check(self, path: Path) -> None:
        """Check a file against its digest, unless this was done before.

        A missing file, and one without a digest (of an earlier version), is no error here.

        Raises:
            DamagedRunError: if the file has changed since it was written.
        """
        ours = path.is_relative_to(self._layout.folder)
        if path in self._intact or not ours or not path.is_file():
            return
        if not self.of(path):
            self.refresh()
        if self.of(path) and not self._matches(path):
            # Another process may have made it again.
            self.refresh()
            if not self._matches(path):
                raise DamagedRunError(
                    f"{path} is damaged (it has changed since it was written); {MAKE_ANEW}", path
                )
        self._intact.add(path)

    def changed(self) -> Iterator[Path]:
        """Every recorded artefact that has changed; all of them are read."""
        for path in self._layout.artefacts():
            if self.of(path) and not self._matches(path):
                yield path

    def complete(self) -> int:
        """Record the artefacts that have no digest, and forget all files but artefacts.

        Only while the folder is locked. Artefacts of earlier versions have no digest. Each call
        writes the other files again.

        Returns:
            How many artefacts had none, without features, whose own index has digests.
        """
        there = {self._name(path): path for path in self._layout.artefacts()}
        new = [name for name in there if name not in self._known]
        for name in new:
            self._add(name, file_digest(there[name]))
        self._known = {name: self._known[name] for name in there}
        self._write()
        return sum(not self._layout.is_feature(there[name]) for name in new)

    def join(self) -> None:
        """Join the files of all processes to one; only while the folder is locked.

        Of several digests of a file, that of its present state is kept.
        """
        self.refresh()
        there = {name: self._layout.folder / name for name in self._known}
        for name, path in there.items():
            if not path.is_file():
                del self._known[name]
            elif len(self._known[name]) > 1 and self._matches(path):
                self._known[name] = (file_digest(path),)
        self._write()

    def _write(self) -> None:
        old = [path for path in _journals(self._layout) if path != self._layout.digests_joined]
        lines = (f"{one}  {name}\n" for name, all_of in self._known.items() for one in all_of)
        write_text(self._layout.digests_joined, "".join(lines))
        for path in old:
            remove(path)

    def _matches(self, path: Path) -> bool:
        return file_digest(path) in self.of(path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._layout.folder).as_posix()

    def _add(self, name: str, digest: str) -> None:
        known = self._known.get(name, ())
        if digest not in known:
            self._known[name] = (*known, digest)


def _journals(layout: RunLayout) -> list[Path]:
    return sorted(layout.digests.glob("*.txt"))
