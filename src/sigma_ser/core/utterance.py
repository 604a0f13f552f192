"""One recording with what is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording with its emotion label, speaker, session and text.

    `path` is absolute; `sample_rate` (Hz) and `num_samples` (per channel) are those of the file,
    0 where nobody has opened it yet. `id` is unique in its corpus and safe as a file name.
    """

    id: str
    path: Path
    label: str
    speaker: str = ""
    session: str = ""
    text_id: str = ""
    sample_rate: int = 0
    num_samples: int = 0

    @property
    def seconds(self) -> float:
        """Duration, 0 where it is not known."""
        return self.num_samples / self.sample_rate if self.sample_rate else 0.0
