"""TESS, the Toronto emotional speech set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sigma_ser.core.registry import register
from sigma_ser.core.utterance import Utterance

from .labels import canonical_label
from .reader import Card, Entry, NamedFiles, Official

_LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")


@register("corpus", "tess")
@dataclass(frozen=True)
class Tess(NamedFiles):
    """Two actresses, 7 emotions, 200 words in "Say the word ___".

    A stem is `<speaker>_<word>_<emotion>`. Folders are ignored, since copies differ in their case,
    spelling and nesting. `OA_bite_neutral` is the spelling of the official archive.
    """

    card: ClassVar[Card] = Card(
        title="Toronto emotional speech set (TESS)",
        source="https://doi.org/10.5683/SP2/E8H2MF",
        licence="CC BY-NC-ND 4.0",
        citation="Pichora-Fuller, M. K. and Dupuis, K. (2020). Toronto emotional speech set "
        "(TESS). Borealis. https://doi.org/10.5683/SP2/E8H2MF",
    )
    official: ClassVar[Official] = Official(
        utterances=2800,
        by={
            "label": dict.fromkeys(_LABELS, 400),
            "speaker": {"OAF": 1400, "YAF": 1400},
        },
        distinct={"text_id": 200},
    )
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        r"(?P<speaker>[OY]A)F?_(?P<word>[a-z-]+)_"
        r"(?P<emotion>angry|disgust|fear|happy|neutral|sad|ps|pleasant_?surprised?|surprised?)",
        re.IGNORECASE,
    )

    def describe(self, match: re.Match[str], path: Path) -> Entry:
        """The recording, with its word as text."""
        speaker, word = f"{match['speaker'].upper()}F", match["word"].lower()
        label = canonical_label(match["emotion"])
        return Entry(_utterance(speaker, word, label, path))

    def expected(self, entries: Sequence[Entry]) -> set[str]:
        """Both speakers with all emotions and every word that was found."""
        words = {entry.utterance.text_id for entry in entries}
        return {
            _id(speaker, word, label)
            for speaker in ("OAF", "YAF")
            for word in words
            for label in _LABELS
        }


def _utterance(speaker: str, word: str, label: str, path: Path) -> Utterance:
    return Utterance(
        id=_id(speaker, word, label), path=path, label=label, speaker=speaker, text_id=word
    )


def _id(speaker: str, word: str, label: str) -> str:
    """The stem of the file in the usual spelling of the official archive."""
    return f"{speaker}_{word}_{'ps' if label == 'surprise' else label}"
