"""The values that attacks changed, where the run keeps them, for the pictures of the page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int

from sigma_ser.core.errors import DamagedRunError
from sigma_ser.core.rows import CELL_COLUMNS, schema
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import read_part
from sigma_ser.runs.layout import RunLayout

if TYPE_CHECKING:
    import polars as pl

# Characters of all places; a changed value takes about two.
_MOST = 1_500_000
_EACH = 2


def kept_changes(
    layout: RunLayout, digests: Digests, channels: Any, *, most: int = _MOST
) -> pl.DataFrame | None:
    """Which values of the features each attack changed, in parts that keep perturbations.

    Args:
        layout: of the run folder.
        digests: of the same folder.
        channels: number of channels of a frame; anything but a number finds nothing.
        most: maximum number of characters. If there are more, utterances are sampled evenly in
            order of their ids.

    Returns:
        The columns of a cell, `utterance`, `frames`, `channels` and the text `places` of
        `packed`; `None` where the run keeps none.

    Raises:
        DamagedRunError: if a file is damaged.
    """
    import polars as pl

    if not isinstance(channels, int):
        return None
    parts = []
    for path in sorted(layout.folder.glob("attacks/*/perturbations-*.safetensors")):
        rows = layout.attack(path.parent.name, int(path.stem.removeprefix("perturbations-")))
        if not rows.is_file():
            continue
        digests.check(rows)
        table = pl.DataFrame(read_part(rows, schema())).filter(
            (pl.col("surface") == "features") & (pl.col("l0") > 0)
        )
        if len(table):
            parts.append((path, table))
    if not parts:
        return None
    every = pl.concat(table.select("utterance", "l0") for _, table in parts)
    names = every["utterance"].unique().sort()
    wanted = max(1, min(len(names), int(len(names) * most / (_EACH * every["l0"].sum()))))
    shown = names.gather([place * len(names) // wanted for place in range(wanted)])
    found = []
    for path, table in parts:
        digests.check(path)
        some = table.filter(pl.col("utterance").is_in(shown.implode()))
        texts = _read(path, some["utterance"].to_list())
        found.append(
            some.select(
                *CELL_COLUMNS,
                "utterance",
                (pl.col("l0") / pl.col("l0_share") / channels).round().cast(pl.Int64)
                .alias("frames"),
                pl.lit(channels).alias("channels"),
                pl.Series("places", texts, pl.String),
            )
        )  # fmt: skip
    return pl.concat(found)


def packed(places: Int[np.ndarray, "N"]) -> str:
    """Ascending places as text: gaps between them in bytes of 7 bits, as base64.

    Args:
        places: `(N,)` distinct flat indices, at least 0. The high bit of a byte says that the gap
            goes on in the next one, whose bits are higher.

    >>> packed(np.array([0, 1, 130]))
    'AACAAQ=='
    """
    gaps = np.diff(places, prepend=-1) - 1
    found = bytearray()
    for gap in gaps.tolist():
        rest = gap
        while rest > 127:
            found.append(rest & 127 | 128)
            rest >>= 7
        found.append(rest)
    return base64.b64encode(bytes(found)).decode()


def _read(path: Path, names: list[str]) -> list[str]:
    """The packed places of some utterances in a file of perturbations."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return [packed(np.sort(file.get_tensor(f"{name}/places"))) for name in names]
    except (OSError, SafetensorError, ValueError) as fault:
        raise DamagedRunError(
            f"{path} cannot be read ({fault}); delete it and run again: it is computed again, and "
            "the rest is kept",
            path,
        ) from fault
