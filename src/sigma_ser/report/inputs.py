"""What a report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .exemplar import Exemplar

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportInputs:
    """The results of one run.

    Args:
        name: name of the study, the title of the page.
        rows: one line for each utterance and cell, with the columns of `core.rows`.
        victims: one mapping for each trained victim and fold: `name`, `fold`, `uar`, `uar_low`,
            `uar_high`, `accuracy`, `macro_f1`, `test_utterances`, `labels`, `confusion` (C x C
            counts, row = true class), `train_seconds`.
        leakage: the lines of the leakage report, each a mapping with the same keys.
        corpus_card: what is known about the corpus.
        encoder_card: what is known about the encoder.
        environment: versions, device, threads.
        study_text: the study file, as text.
        exemplars: attacked utterances in full.
        seconds: wall time of the whole run, where known.
    """

    name: str
    rows: pl.DataFrame
    victims: Sequence[Mapping[str, Any]] = ()
    leakage: Sequence[Mapping[str, Any]] = ()
    corpus_card: Mapping[str, Any] = field(default_factory=dict)
    encoder_card: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    study_text: str = ""
    exemplars: Sequence[Exemplar] = ()
    seconds: float | int | None = None
