"""Notes beside the figures of a cell, on pages that stand without the report of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sigma_ser.core.gradient_signs import masked_warnings
from sigma_ser.evaluate.notes import CODES

from .inputs import ReportInputs

MASKED = "masked-gradients"
# Codes with the short names that stand beside a figure.
CAVEATS: Mapping[str, str] = {MASKED: "masked gradients", **CODES}


def caveats(
    inputs: ReportInputs, cell: Mapping[str, Any], column: str | None = None
) -> list[dict[str, str]]:
    """Masked gradients of the victim of a cell, then its notes on degenerate measurements.

    Args:
        inputs: the inputs of the run.
        cell: a line of `page_cells`.
        column: only notes about this column; `None`: about any.

    Returns:
        Mappings with `code` (a key of `CAVEATS`) and `text`.
    """
    victims = [line for line in inputs.victims if line.get("name") == cell["victim"]]
    found = [{"code": MASKED, "text": text} for text in masked_warnings(victims)]
    notes = inputs.notes.of(cell, column)
    return [*found, *({"code": note["code"], "text": note["text"]} for note in notes)]
