"""Embedded data: a synthetic emotional corpus and a small pretrained encoder, for offline use.

Data and their paths only; imports nothing of the project, and any room may import it.
"""

from __future__ import annotations

from pathlib import Path

TRAINING_SPEAKERS = ("f1", "f2", "m1", "m2", "m3")
VALIDATION_SPEAKERS = ("f3",)
TEST_SPEAKERS = ("f4", "m4")


def corpus_path() -> Path:
    """Folder of the demo corpus: ``index.csv``, ``DATACARD.md`` and one folder of FLAC a voice."""
    return Path(__file__).parent / "corpus"


def encoder_path() -> Path:
    """Folder of the demo encoder in ``transformers`` format (HuBERT)."""
    return Path(__file__).parent / "encoder"


def study_path() -> Path:
    """The study that ``sigma-ser demo`` runs."""
    return Path(__file__).parent / "study.toml"
