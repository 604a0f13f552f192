"""The embedded corpus: synthetic emotional speech that comes with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sigma_ser.core.errors import CorpusError
from sigma_ser.core.registry import register

from .reader import Card, Listing, Official
from .table_files import read_rows
from .tables import listing_of_rows

_FOLDER = Path(__file__).parents[1] / "demo" / "corpus"
_LABELS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
_VOICES = ("f1", "f2", "f3", "f4", "m1", "m2", "m3", "m4")


@register("corpus", "demo")
@dataclass(frozen=True)
class Demo:
    """8 synthetic voices, 7 emotions, 12 words in "Say the word ___"; no human speech."""

    card: ClassVar[Card] = Card(
        title="sigma-ser demo: synthetic emotional speech",
        source="tools/make_demo_corpus.py",
        licence="Apache-2.0",
        citation="Made for sigma-ser with eSpeak NG and Praat; synthetic, no human voice.",
        redistributable=True,
    )
    official: ClassVar[Official] = Official(
        utterances=672,
        by={"label": dict.fromkeys(_LABELS, 96), "speaker": dict.fromkeys(_VOICES, 84)},
        distinct={"text_id": 12},
    )
    default_root: ClassVar[Path] = _FOLDER

    def list(self, root: Path) -> Listing:
        """The rows of `index.csv`.

        Raises:
            CorpusError: if `root` is another folder, without this file.
        """
        if root.absolute() != _FOLDER.absolute() and not (root / "index.csv").is_file():
            raise CorpusError(
                f"{root} has no index.csv; the demo corpus is part of the package, leave 'root' out"
            )
        root = root.absolute()
        listing = listing_of_rows(read_rows(root / "index.csv"), root, {}, root / "index.csv")
        listing.card = self.card
        return listing
