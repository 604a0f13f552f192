"""IEMOCAP, the interactive emotional dyadic motion capture database, in its full release."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sigma_ser.core.registry import register
from sigma_ser.core.utterance import Utterance

from .finding import find_files
from .reader import Card, Entry, Listing, Official, listing_of, quarantined

# [start - end] TAB id TAB label TAB [valence, activation, dominance]; the speaker is the letter
# before the last three digits, wherever that is: dialogs like impro05a have longer names.
_LINE = re.compile(
    r"\[(?P<start>\d+\.\d+) - (?P<end>\d+\.\d+)\]\t"
    r"(?P<id>(?P<session>Ses0[1-5])[FM]_(?P<dialog>(?P<text>impro\d{2}|script\d{2}_\d)[ab]?)_"
    r"(?P<sex>[FM])\d{3})\t"
    r"(?P<label>[a-z]{3})\t"
    r"\[(?P<valence>\d\.\d+), (?P<activation>\d\.\d+), (?P<dominance>\d\.\d+)\]\s*"
)
_NO_AGREEMENT = "xxx"
_FOUR = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
_ALL = {
    "ang": "angry", "hap": "happy", "exc": "excited", "neu": "neutral", "sad": "sad",
    "fru": "frustrated", "sur": "surprise", "fea": "fear", "dis": "disgust", "oth": "other",
}  # fmt: skip
_CARD = Card(
    title="IEMOCAP",
    source="https://sail.usc.edu/iemocap/",
    licence="IEMOCAP licence of the University of Southern California: research, on request",
    citation="Busso, C., Bulut, M., Lee, C.-C., Kazemzadeh, A., Mower, E., Kim, S., Chang, J. N., "
    "Lee, S. and Narayanan, S. S. (2008). IEMOCAP: interactive emotional dyadic motion capture "
    "database. Language Resources and Evaluation 42, 335-359. "
    "https://doi.org/10.1007/s10579-008-9076-6",
)


class _Iemocap:
    """The common part of both choices of classes; `labels` maps the codes of the release.

    The label is that of the majority of raters. `text_id` is the scene (`impro05`, `script01_1`),
    which occurs in every session; single sentences have no common names. `columns` has `dialog`,
    `label_code`, `valence`, `activation`, `dominance` and `sex`.
    """

    card: ClassVar[Card] = _CARD
    official: ClassVar[Official | None]
    default_root: ClassVar[Path | None] = None
    labels: ClassVar[Mapping[str, str]]

    def list(self, root: Path) -> Listing:
        """The label lines of all dialogs, with the recordings of their sentences."""
        root = root.absolute()
        found = find_files(root)
        listing = listing_of(found)
        recordings: dict[str, list[Path]] = {}
        for path in found.files:
            # dialog/wav holds whole conversations.
            if "sentences" in (part.lower() for part in path.relative_to(root).parts):
                recordings.setdefault(path.stem, []).append(path)
        unread: list[str] = []
        other: Counter[str] = Counter()
        labelled: set[str] = set()
        for file in _label_files(root):
            for line in _label_lines(file):
                match = _LINE.fullmatch(line)
                if match is None:
                    unread.append(f"{file.name}: {line.strip()}")
                    continue
                labelled.add(match["id"])
                if match["label"] not in self.labels:
                    other[match["label"]] += 1
                    continue
                for path in recordings.get(match["id"]) or [_official_place(file, match["id"])]:
                    listing.entries.append(_entry(match, self.labels[match["label"]], path))
        for name in sorted(set(recordings) - labelled):
            for path in recordings[name]:
                message = f"{path} has no label line in EmoEvaluation; fetch the release again"
                listing.quarantine.append(quarantined(path, "no-label", message))
        for label, count in sorted(other.items()):
            why = "raters disagree" if label == _NO_AGREEMENT else "not one of the classes"
            listing.notes.append(f"{count} utterances labelled {label!r} were left out ({why})")
        if unread:
            listing.differences.append(
                f"{len(unread)} label lines cannot be read, such as {unread[0]!r}"
            )
        return listing


@register("corpus", "iemocap4")
@dataclass(frozen=True)
class Iemocap4(_Iemocap):
    """The four classes that most papers use: angry, happy with excited, neutral, sad."""

    official: ClassVar[Official | None] = Official(
        utterances=5531,
        by={
            "label": {"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084},
            "session": {
                "Ses01": 1085, "Ses02": 1023, "Ses03": 1151, "Ses04": 1031, "Ses05": 1241,
            },
        },
        distinct={"speaker": 10},
    )  # fmt: skip
    labels: ClassVar[Mapping[str, str]] = _FOUR


@register("corpus", "iemocap")
@dataclass(frozen=True)
class Iemocap(_Iemocap):
    """All ten classes on which a majority of raters agreed; excited is a class of its own."""

    official: ClassVar[Official | None] = Official(
        utterances=7532,
        by={
            "label": {
                "angry": 1103, "happy": 595, "excited": 1041, "neutral": 1708, "sad": 1084,
                "frustrated": 1849, "surprise": 107, "fear": 40, "disgust": 2, "other": 3,
            }
        },
        distinct={"speaker": 10, "session": 5},
    )  # fmt: skip
    labels: ClassVar[Mapping[str, str]] = _ALL


def _label_files(root: Path) -> Iterator[Path]:
    """The text files directly in `EmoEvaluation`; its folders hold those of single raters."""
    for path in find_files(root, {".txt"}).files:
        if path.parent.name.lower() == "emoevaluation":
            yield path


def _label_lines(file: Path) -> Iterator[str]:
    """Lines that begin with a time; headers, blanks and single raters' lines are skipped."""
    for line in file.read_text("utf-8", errors="replace").splitlines():
        # The header of each file is "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]".
        if line.startswith("["):
            yield line


def _official_place(label_file: Path, name: str) -> Path:
    """The path of the recording of an utterance in the release."""
    session = label_file.parents[2]
    return session / "sentences" / "wav" / name.rpartition("_")[0] / f"{name}.wav"


def _entry(match: re.Match[str], label: str, path: Path) -> Entry:
    utterance = Utterance(
        id=match["id"],
        path=path,
        label=label,
        speaker=f"{match['session']}{match['sex']}",
        session=match["session"],
        text_id=match["text"],
    )
    columns = {
        "dialog": match["id"].rpartition("_")[0],
        "label_code": match["label"],
        "sex": "female" if match["sex"] == "F" else "male",
        **{name: match[name] for name in ("valence", "activation", "dominance")},
    }
    return Entry(utterance, columns)
