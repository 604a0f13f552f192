"""One recording, or a segment of one, with its labels and metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording, or a segment of one, with its emotion label, speaker, session and text.

    `path` is absolute. `start` and `end` (seconds) delimit a segment of the file; `None` is the
    begin or the end of the file. `sample_rate` (Hz) and `num_samples` (per channel, of the segment)
    are 0 until the file has been opened. `id` is unique in its corpus and safe as a file name.
    """

    id: str
    path: Path
    label: str
    speaker: str = ""
    session: str = ""
    text_id: str = ""
    sample_rate: int = 0
    num_samples: int = 0
    start: float | None = None
    end: float | None = None

    @property
    def seconds(self) -> float:
        """Duration in seconds, 0 where it is unknown."""
        return self.num_samples / self.sample_rate if self.sample_rate else 0.0
