"""CREMA-D, the crowd-sourced emotional multimodal actors data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sigma_ser.core.registry import register
from sigma_ser.core.utterance import Utterance

from .reader import Card, Entry, NamedFiles, Official

_EMOTIONS = {
    "ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad",
}  # fmt: skip
_LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "", "X": ""}


@register("corpus", "crema-d")
@dataclass(frozen=True)
class CremaD(NamedFiles):
    """91 actors, 6 emotions, 12 sentences; labels are the intended emotions.

    A stem is `<actor>_<sentence>_<emotion>_<level>`; one file of the release ends in `_X`.
    `columns` has the `level`. `1076_MTI_SAD_XX` of the release is silent and goes to quarantine.
    """

    card: ClassVar[Card] = Card(
        title="CREMA-D",
        source="https://github.com/CheyneyComputerScience/CREMA-D",
        licence="Open Database License (ODbL) 1.0",
        citation="Cao, H., Cooper, D. G., Keutmann, M. K., Gur, R. C., Nenkova, A. and Verma, R. "
        "(2014). CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset. IEEE Transactions on "
        "Affective Computing 5(4), 377-390. https://doi.org/10.1109/TAFFC.2014.2336244",
    )
    official: ClassVar[Official] = Official(
        utterances=7442,
        by={"label": {name: 1087 if name == "neutral" else 1271 for name in _EMOTIONS.values()}},
        distinct={"speaker": 91, "text_id": 12},
    )
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        r"(?P<actor>10\d\d)_(?P<sentence>DFA|IEO|IOM|ITH|ITS|IWL|IWW|MTI|TAI|TIE|TSI|WSI)_"
        r"(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)"
    )

    def describe(self, match: re.Match[str], path: Path) -> Entry:
        """The recording, with its sentence as text."""
        utterance = Utterance(
            id=match[0],
            path=path,
            label=_EMOTIONS[match["emotion"]],
            speaker=match["actor"],
            text_id=match["sentence"],
        )
        return Entry(utterance, {"level": _LEVELS[match["level"]]})
