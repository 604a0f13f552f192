"""The claims about masked attacks as a table of a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.evaluate.claims import claims

from .paper_table import Entry, Line, PaperTable

if TYPE_CHECKING:
    import polars as pl


def claim_table(rows: pl.DataFrame) -> PaperTable | None:
    """One line for each claim and corpus, with criterion, result and figure; `None` without rows.

    Args:
        rows: the columns of `core.rows`.
    """
    lines = [
        Line(
            one["corpus"],
            (one["claim"], one["criterion"],
             ": ".join(part for part in (one["verdict"], one["reason"]) if part)),
            (Entry(one["figure"], one["low"], one["high"]), Entry(one["utterances"] or None)),
        )
        for one in claims(rows).to_dicts()
    ]  # fmt: skip
    if not any(line.entries[0].value is not None for line in lines):
        return None
    caption = "Claims about masked attacks, tested on this run; figures with 95 % intervals"
    columns = (("", "Figure"), ("", "Utterances"))
    names = ("Claim", "Criterion", "Result")
    return PaperTable(
        "claims", caption, names, columns, tuple(lines), ("fine", "count"),
        section="Corpus", widths=(0.25, 0.25, 0.2),
    )  # fmt: skip
