"""Statistics of a corpus, for tables and as plain data for JSON."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from .corpus import Corpus
from .folds import PARTS, Fold
from .leakage import duplicate_groups, leakage_report


def summarise(corpus: Corpus, folds: Sequence[Fold] = ()) -> dict[str, Any]:
    """Counts, durations, rates, quarantine and differences; with folds also their leakage.

    Durations are in seconds, rates in Hz, sizes in bytes (`null` where unknown). Unknown
    speakers and sessions are counted under an empty name.
    """
    seconds = [utterance.seconds for utterance in corpus.utterances]
    facts = corpus.facts.values()
    summary: dict[str, Any] = {
        "corpus": corpus.name,
        "root": str(corpus.root),
        "key": corpus.key,
        "card": asdict(corpus.card),
        "utterances": len(corpus),
        "segments": sum(
            utterance.start is not None or utterance.end is not None
            for utterance in corpus.utterances
        ),
        "classes": _counts(utterance.label for utterance in corpus.utterances),
        "speakers": _counts(utterance.speaker for utterance in corpus.utterances),
        "sessions": _counts(utterance.session for utterance in corpus.utterances),
        "texts": len({utterance.text_id for utterance in corpus.utterances} - {""}),
        "seconds": {
            "total": sum(seconds),
            "shortest": min(seconds, default=0.0),
            "median": statistics.median(seconds) if seconds else 0.0,
            "longest": max(seconds, default=0.0),
        },
        "sample_rates": _counts(str(one.sample_rate) for one in facts),
        "channels": _counts(str(one.channels) for one in facts),
        "warnings": _counts(warning for one in facts for warning in one.warnings),
        "warned": {name: list(one.warnings) for name, one in corpus.facts.items() if one.warnings},
        "quarantine": [
            {
                "path": str(bad.path),
                "reason": bad.reason,
                "bytes": bad.size if bad.size >= 0 else None,
                "message": bad.message,
            }
            for bad in corpus.quarantine
        ],
        "quarantine_reasons": _counts(bad.reason for bad in corpus.quarantine),
        "differences": list(corpus.differences),
        "notes": list(corpus.notes),
        "duplicates": [list(group) for group in duplicate_groups(corpus)],
    }
    if folds:
        summary["folds"] = [
            {
                "name": fold.name,
                "key": fold.key,
                **{part: len(getattr(fold, part)) for part in PARTS},
            }
            for fold in folds
        ]
        summary["leakage"] = leakage_report(corpus, folds).to_dict()
    return summary


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
