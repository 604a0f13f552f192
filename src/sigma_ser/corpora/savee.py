"""SAVEE, the Surrey audio-visual expressed emotion database."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sigma_ser.core.registry import register
from sigma_ser.core.utterance import Utterance

from .finding import find_files
from .reader import Card, Entry, Listing, Official, listing_of, unknown_name

_EMOTIONS = {
    "a": "angry", "d": "disgust", "f": "fear", "h": "happy", "n": "neutral", "sa": "sad",
    "su": "surprise",
}  # fmt: skip
_SPEAKERS = ("DC", "JE", "JK", "KL")
_PATTERN = re.compile(
    r"(?:(?P<speaker>DC|JE|JK|KL)_)?(?P<emotion>sa|su|[adfhn])(?P<number>\d\d)", re.IGNORECASE
)


@register("corpus", "savee")
@dataclass(frozen=True)
class Savee:
    """Four men, 7 emotions, 15 sentences for each emotion (30 neutral).

    Names may be `DC_a01.wav`, or `DC/a01.wav` as in the release. The sentences 01 to 03 are common
    to all emotions and have one text id each. The names do not say which neutral sentences repeat
    those of another emotion, so the texts of a split may overlap there.
    """

    card: ClassVar[Card] = Card(
        title="Surrey audio-visual expressed emotion (SAVEE)",
        source="http://kahlan.eps.surrey.ac.uk/savee/",
        licence="free for research, on request; the release names no standard licence",
        citation="Haq, S. and Jackson, P. J. B. (2010). Multimodal emotion recognition. In Machine "
        "Audition: Principles, Algorithms and Systems, IGI Global, 398-423.",
    )
    official: ClassVar[Official] = Official(
        utterances=480,
        by={
            "label": {name: 120 if name == "neutral" else 60 for name in _EMOTIONS.values()},
            "speaker": dict.fromkeys(_SPEAKERS, 120),
        },
    )
    default_root: ClassVar[Path | None] = None

    def list(self, root: Path) -> Listing:
        """All recordings below `root`, with the speaker from the file name or its folder."""
        found = find_files(root)
        listing = listing_of(found)
        for path in found.files:
            match = _PATTERN.fullmatch(path.stem)
            speaker = (match["speaker"] or path.parent.name).upper() if match else ""
            if match is None or speaker not in _SPEAKERS:
                listing.quarantine.append(unknown_name(path))
                continue
            code, number = match["emotion"].lower(), match["number"]
            utterance = Utterance(
                id=f"{speaker}_{code}{number}",
                path=path,
                label=_EMOTIONS[code],
                speaker=speaker,
                text_id=f"common{number}" if int(number) <= 3 else f"{code}{number}",
            )
            listing.entries.append(Entry(utterance, {"sex": "male"}))
        present = set(listing.entries.utterances.column("id"))
        listing.missing = sorted(
            {
                f"{speaker}_{code}{number:02d}"
                for speaker in _SPEAKERS
                for code in _EMOTIONS
                for number in range(1, 31 if code == "n" else 16)
            }
            - present
        )
        return listing
