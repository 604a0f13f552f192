"""RAVDESS, the Ryerson audio-visual database of emotional speech and song: its speech part."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import ClassVar

from sigma_ser.core.registry import register
from sigma_ser.core.utterance import Utterance

from .reader import Card, Entry, NamedFiles, Official

_EMOTIONS = {
    "01": "neutral", "02": "calm", "03": "happy", "04": "sad",
    "05": "angry", "06": "fear", "07": "disgust", "08": "surprise",
}  # fmt: skip
_ACTORS = tuple(f"{actor:02d}" for actor in range(1, 25))


@register("corpus", "ravdess")
@dataclass(frozen=True)
class Ravdess(NamedFiles):
    """24 actors, 8 emotions in two intensities, 2 statements, each with two repetitions.

    A stem is modality-channel-emotion-intensity-statement-repetition-actor. Only the audio-only
    release (modality 03) is read; song (channel 02) is left out.
    Actors with even numbers are women. `columns` has `sex`, `intensity` and `repetition`.
    """

    card: ClassVar[Card] = Card(
        title="RAVDESS, speech audio-only",
        source="https://doi.org/10.5281/zenodo.1188976",
        licence="CC BY-NC-SA 4.0",
        citation="Livingstone, S. R. and Russo, F. A. (2018). The Ryerson Audio-Visual Database of "
        "Emotional Speech and Song (RAVDESS). PLoS ONE 13(5): e0196391. "
        "https://doi.org/10.1371/journal.pone.0196391",
    )
    official: ClassVar[Official] = Official(
        utterances=1440,
        by={
            "label": {name: 96 if name == "neutral" else 192 for name in _EMOTIONS.values()},
            "speaker": dict.fromkeys(_ACTORS, 60),
        },
        distinct={"text_id": 2},
    )
    pattern: ClassVar[re.Pattern[str]] = re.compile(
        r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])-"
        r"(?P<statement>0[12])-(?P<repetition>0[12])-(?P<actor>[01]\d|2[0-4])"
    )

    def describe(self, match: re.Match[str], path: Path) -> Entry | None:
        """The recording, or `None` for song and for the sound of a video."""
        if match["channel"] != "01" or match["modality"] != "03":
            return None
        utterance = Utterance(
            id=match[0],
            path=path,
            label=_EMOTIONS[match["emotion"]],
            speaker=match["actor"],
            text_id=match["statement"],
        )
        columns = {
            "sex": "male" if int(match["actor"]) % 2 else "female",
            "intensity": "normal" if match["intensity"] == "01" else "strong",
            "repetition": match["repetition"],
        }
        return Entry(utterance, columns)

    def expected(self, entries: Sequence[Entry]) -> set[str]:
        """The 1440 names of the release; neutral has no strong intensity."""
        del entries
        return {
            f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor}"
            for emotion, intensity, statement, repetition, actor in product(
                _EMOTIONS, ("01", "02"), ("01", "02"), ("01", "02"), _ACTORS
            )
            if (emotion, intensity) != ("01", "02")
        }
