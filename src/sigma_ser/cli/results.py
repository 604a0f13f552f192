"""What a finished study says: a table for people, one JSON object for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import polars as pl

    from sigma_ser.experiment.study import Study

_VICTIM_FIELDS = ("name", "uar", "accuracy", "test_utterances")
_ATTACK_FIELDS = (
    "victim", "attack", "explainer", "mask_source", "scope", "sparsity", "epsilon", "utterances",
    "asr", "asr_low", "asr_high", "topk_intersection", "spearman", "cosine", "l0_share", "linf",
    "forwards", "backwards", "seconds",
)  # fmt: skip


def as_json(study: Study) -> str:
    """Everything that was measured, as one JSON object; rates are fractions."""
    config = study.config
    cells = pooled(study)
    return json.dumps(
        {
            "corpus": config.corpus.name,
            "encoder": config.encoder.name,
            "victims": [
                {name: victim[name] for name in _VICTIM_FIELDS} for victim in study.victims
            ],
            "attacks": [{name: cell[name] for name in _ATTACK_FIELDS} for cell in cells.to_dicts()],
            "seconds": round(study.seconds, 3),
            "report": str(study.report),
        }
    )


def pooled(study: Study) -> pl.DataFrame:
    """One line for each condition, over all folds."""
    from sigma_ser.core.rows import CELL_COLUMNS
    from sigma_ser.evaluate.summary import summarise

    return summarise(study.rows, [name for name in CELL_COLUMNS if name != "fold"])


def print_tables(study: Study) -> None:
    """Print victims and attacks, strongest first."""
    console = Console()
    victims = Table("victim", "fold", "UAR", "95 %", "accuracy", "test utterances", title="Victims")
    for victim in study.victims:
        victims.add_row(
            victim["name"],
            victim["fold"],
            _percent(victim["uar"]),
            f"{_percent(victim['uar_low'])} to {_percent(victim['uar_high'])}",
            _percent(victim["accuracy"]),
            str(victim["test_utterances"]),
        )
    console.print(victims)
    attacks = Table(
        "victim", "attack", "mask", "scope", "sparsity", "epsilon", "success", "95 %",
        "top-k kept", "Spearman", "passes", "s",
        title="Attacks on correctly recognised utterances",
    )  # fmt: skip
    cells = pooled(study).sort(
        ["victim", "sparsity", "epsilon", "asr"], descending=[False, False, False, True]
    )
    for cell in cells.iter_rows(named=True):
        attacks.add_row(
            cell["victim"],
            cell["attack"],
            _mask(cell),
            "" if cell["scope"] is None else str(cell["scope"]),
            f"{cell['sparsity']:g}",
            f"{cell['epsilon']:g}",
            f"{_percent(cell['asr'])} of {cell['utterances']}",
            f"{_percent(cell['asr_low'])} to {_percent(cell['asr_high'])}",
            _fraction(cell["topk_intersection"]),
            _fraction(cell["spearman"]),
            f"{cell['forwards'] + cell['backwards']:.0f}",
            f"{cell['seconds']:.3f}",
        )
    console.print(attacks)
    console.print(
        "Passes and seconds are means per utterance, without the explanation that made the mask."
    )
    console.print(f"Report: {study.report}")


def _mask(cell: dict[str, Any]) -> str:
    if cell["explainer"] is None:
        return "its own choice"
    source = "" if cell["mask_source"] == "own" else f" of {cell['mask_source']}"
    return f"{cell['explainer']}{source}"


def _percent(rate: float | None) -> str:
    return "n/a" if rate is None else f"{100 * rate:.0f} %"


def _fraction(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
