"""Speech corpora, one module each, with manifests, split protocols and a leakage report.

`load_corpus` reads a corpus, `make_folds` splits it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .corpus import Corpus as Corpus
    from .corpus import load_corpus as load_corpus
    from .folds import Fold as Fold
    from .folds import make_folds as make_folds
    from .labels import canonical_label as canonical_label
    from .leakage import LeakageReport as LeakageReport
    from .leakage import leakage_report as leakage_report
    from .manifest import save_manifest as save_manifest
    from .reader import Card as Card
    from .reader import Entry as Entry
    from .reader import Listing as Listing
    from .reader import NamedFiles as NamedFiles
    from .reader import Official as Official
    from .reader import Reader as Reader

_HOMES = {
    "Card": "reader",
    "Corpus": "corpus",
    "Entry": "reader",
    "Fold": "folds",
    "LeakageReport": "leakage",
    "Listing": "reader",
    "NamedFiles": "reader",
    "Official": "reader",
    "Reader": "reader",
    "canonical_label": "labels",
    "leakage_report": "leakage",
    "load_corpus": "corpus",
    "make_folds": "folds",
    "save_manifest": "manifest",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
