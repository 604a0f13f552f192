"""EmoDB, the Berlin database of emotional speech."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sigma_ser.core.registry import register
from sigma_ser.core.utterance import Utterance

from .reader import Card, Entry, NamedFiles, Official

# German initials: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral.
_EMOTIONS = {
    "W": "angry", "L": "bored", "E": "disgust", "A": "fear", "F": "happy", "T": "sad",
    "N": "neutral",
}  # fmt: skip
_COUNTS = {
    "angry": 127, "bored": 81, "disgust": 46, "fear": 69, "happy": 71, "sad": 62, "neutral": 79,
}  # fmt: skip
_MEN = ("03", "10", "11", "12", "15")
_WOMEN = ("08", "09", "13", "14", "16")


@register("corpus", "emodb")
@dataclass(frozen=True)
class EmoDb(NamedFiles):
    """10 speakers, 7 emotions, 10 German sentences.

    A stem is speaker, sentence, initial of the emotion and version: `03a01Fa`. `columns` has
    `sex` and `version`.
    """

    card: ClassVar[Card] = Card(
        title="Berlin database of emotional speech (EmoDB)",
        source="http://emodb.bilderbar.info",
        licence="free for research, with citation; the release names no standard licence",
        citation="Burkhardt, F., Paeschke, A., Rolfes, M., Sendlmeier, W. and Weiss, B. (2005). "
        "A database of German emotional speech. Interspeech 2005, 1517-1520. "
        "https://doi.org/10.21437/Interspeech.2005-446",
    )
    official: ClassVar[Official] = Official(
        utterances=535, by={"label": _COUNTS}, distinct={"speaker": 10, "text_id": 10}
    )
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        rf"(?P<speaker>{'|'.join(_MEN + _WOMEN)})(?P<text>[ab]\d\d)(?P<emotion>[WLEAFTN])"
        r"(?P<version>[a-f])"
    )

    def describe(self, match: re.Match[str], path: Path) -> Entry:
        """The recording, with its sentence as text."""
        utterance = Utterance(
            id=match[0],
            path=path,
            label=_EMOTIONS[match["emotion"]],
            speaker=match["speaker"],
            text_id=match["text"],
        )
        sex = "male" if match["speaker"] in _MEN else "female"
        return Entry(utterance, {"sex": sex, "version": match["version"]})
