"""Any folder of class folders: the folder names are the classes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sigma_ser.core.errors import ConfigError
from sigma_ser.core.records import ColumnBuilder
from sigma_ser.core.registry import register
from sigma_ser.core.utterance import Utterance

from .finding import find_files, unique_ids
from .labels import canonical_label
from .reader import Card, Entry, Listing, Official, listing_of, quarantined

_SPLITS = frozenset(
    {"train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval"}
)


@register("corpus", "folders")
@dataclass(frozen=True)
class Folders:
    """`<class>/**/<recording>`, or `<train|validation|test>/<class>/**/<recording>`.

    In the second case the split becomes the column `split`, for the protocol `predefined`.

    Args:
        pattern: regular expression that is searched for in each path below the corpus folder
            (with `/`); its named groups `speaker`, `session` and `text` fill these fields.
    """

    pattern: str | None = None

    card: ClassVar[Card] = Card(title="A folder of class folders", source="root='folder'")
    official: ClassVar[Official | None] = None
    default_root: ClassVar[Path | None] = None

    def list(self, root: Path) -> Listing:
        """All recordings in class folders; others go to quarantine as `no-label`."""
        root = root.absolute()
        pattern = self._compiled()
        found = find_files(root)
        listing = listing_of(found)
        for path in found.others:
            message = (
                f"{path} has the suffix {path.suffix}, whose format libsndfile does not read; "
                "convert it to FLAC or WAV"
            )
            listing.quarantine.append(quarantined(path, "unreadable", message))
        listing.name = root.name
        listing.card = Card(title=f"Recordings in {root.name}", source=str(root))
        texts = ColumnBuilder(
            str, (path.relative_to(root).as_posix() for path in found.files)
        ).column()
        tops = {text.partition("/")[0].lower() for text in texts if "/" in text}
        level = 1 if tops and tops <= _SPLITS else 0
        placed = [row for row, text in enumerate(texts) if text.count("/") > level]
        for row in sorted(set(range(len(texts))) - set(placed)):
            message = f"{found.files[row]} is not in a class folder; move it into one"
            listing.quarantine.append(quarantined(found.files[row], "no-label", message))
        placed_texts, files = texts.take(placed), found.files
        for row, text, name in zip(placed, placed_texts, unique_ids(placed_texts), strict=True):
            parts = text.split("/")
            written = parts[level]
            match = pattern.search(text) if pattern else None
            groups = match.groupdict() if match else {}
            columns = {"split": parts[0].lower()} if level else {}
            if canonical_label(written) != written:
                columns["label_as_written"] = written
            utterance = Utterance(
                id=name,
                path=files[row],
                label=canonical_label(written),
                speaker=groups.get("speaker") or "",
                session=groups.get("session") or "",
                text_id=groups.get("text") or "",
            )
            listing.entries.append(Entry(utterance, columns))
        return listing

    def _compiled(self) -> re.Pattern[str] | None:
        if self.pattern is None:
            return None
        try:
            return re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(
                f"pattern={self.pattern!r} is not a regular expression ({error})"
            ) from error
