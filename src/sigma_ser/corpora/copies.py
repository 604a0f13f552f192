"""Which of several recordings with the same id is used, and what happens to the others."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sigma_ser.audio.recording import AudioFacts
from sigma_ser.core.records import Records, RecordsBuilder

from .reader import Listing, Quarantined, Verdict

# Lossy encoders add silence: up to 2300 samples in MPEG audio, of 8 kHz at the lowest.
_PADDING_SECONDS = 0.3


@dataclass
class Division:
    """The recordings of a listing that are used, and the others.

    `rows` are rows of the listing in the order of their ids, and `facts` their properties.
    `copies` have the same samples as a used one, `lossy` are its lossy copies.
    """

    rows: Sequence[int]
    facts: Records[AudioFacts]
    quarantine: list[Quarantined]
    copies: list[Path] = field(default_factory=list)
    lossy: list[Path] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """One line for each kind of copy."""
        kinds = (("", self.copies), ("lossy ", self.lossy))
        return [
            f"{len(files)} files are {kind}copies of other utterances and were left out, "
            f"such as {files[0]}"
            for kind, files in kinds
            if files
        ]


def divide(listing: Listing, verdicts: Iterable[Verdict]) -> Division:
    """Choose one usable recording for each id: a lossless one before others, then the first.

    Args:
        listing: entries of any order.
        verdicts: one for each entry.
    """
    listed = listing.entries.utterances
    ids, paths, labels = (listed.column(one) for one in ("id", "path", "label"))
    used: dict[str, int] = {}  # ids, with their positions in `rows` and `inspected`
    inspected, rows = RecordsBuilder(AudioFacts), array("q")
    lossless = bytearray()
    others: list[tuple[str, int, Verdict | None]] = []  # id, row or position, verdict
    quarantine = list(listing.quarantine)
    for row, (name, verdict) in enumerate(zip(ids, verdicts, strict=True)):
        found = verdict.facts
        if found is None:
            quarantine.append(
                Quarantined(paths[row], verdict.reason, verdict.size, verdict.message)
            )
            continue
        if name in used:
            if lossless[used[name]] or not found.lossless:
                others.append((name, row, verdict))
                continue
            others.append((name, used[name], None))
        used[name] = len(rows)
        inspected.append(found)
        rows.append(row)
        lossless.append(found.lossless)
    facts = inspected.records()
    result = Division((), facts, quarantine)
    for name, at, second in others:
        best = used[name]
        row, one = (at, second.facts) if second else (rows[at], facts[at])
        assert one is not None
        same_label = labels[rows[best]] == labels[row]
        if same_label and facts.column("content")[best] == one.content:
            result.copies.append(paths[row])
            continue
        close = abs(facts[best].seconds - one.seconds) <= _PADDING_SECONDS
        if same_label and close and lossless[best] and not one.lossless:
            result.lossy.append(paths[row])
            continue
        message = (
            f"{paths[row]} has the same name as {paths[rows[best]]}, but different audio or "
            "another label; keep the right one"
        )
        size = second.size if second else -1
        quarantine.append(Quarantined(paths[row], "conflicting-copy", size, message))
    order = [used[name] for name in sorted(used)]
    result.facts, result.rows = facts.take(order), array("q", (rows[at] for at in order))
    return result
