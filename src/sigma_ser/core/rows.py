"""The rows of a run: one per utterance x victim x attack x explainer x mask source x budget.

Every table, figure and page is computed from these columns and from nothing else.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import RunError

if TYPE_CHECKING:
    import polars as pl

# Consistency of explanations: `<metric>` explains the true label on both inputs, `<metric>_own`
# each input's own prediction, `<metric>_floor` the same class under a random perturbation.
CONSISTENCY_METRICS: tuple[str, ...] = (
    "topk_intersection",
    "iou",
    "spearman",
    "kendall",
    "cosine",
    "centre_shift",
    "ssim_time",
)

# Measured on the waveform: levels in dB and perceptual scores of the perturbed wave.
AUDIO_QUALITY: tuple[str, ...] = ("snr", "snr_segmental", "peak_dbfs", "pesq", "stoi", "estoi")

_TEXT = (
    "corpus",
    "protocol",
    "fold",
    "encoder",
    "layer",
    "surface",  # `features` or `waveform`
    "victim",  # name of the head, with its seed where there are several
    "utterance",
    "speaker",
    "text_id",
    "label",  # true class
    "attack",  # or a natural corruption: then granularity, sparsity and epsilon are null
    "attack_settings",  # repr of the attack, with every hyperparameter
    "explainer",  # null: the attack chose its own support
    "mask_source",  # victim whose map made the mask ("own" where the same); null for native
    "granularity",
    "prediction_before",
    "prediction_after",
    "consistency_explainer",
    "round_trip_prediction",  # after the perturbed wave was written as a file and read
    "quality_note",  # why `pesq`, `stoi` or `estoi` is null
)
_WHOLE = (
    "scope",  # null for native attacks
    "budget_elements",  # k
    "l0",
    "frames_touched",
    "channels_touched",
    "steps",
    "forwards",
    "backwards",
    "mask_forwards",  # what the explanation cost; 0 for native attacks
    "mask_backwards",
    "victim_seed",
    "attack_seed",
)
_REAL = (
    "duration",  # seconds of audio
    "sparsity",
    "epsilon",  # null where the budget was given as a signal-to-noise ratio
    "budget_snr",  # dB; null where epsilon was given
    "bound",  # on |delta| of this utterance, in units of scale
    "confidence_before",  # probability of the class predicted before
    "confidence_after",
    "l0_share",
    "l2",  # in feature units
    "linf",  # in units of scale
    "seconds",  # share of this utterance in the attack's wall time
    "mask_seconds",
    *CONSISTENCY_METRICS,
    *(f"{metric}_own" for metric in CONSISTENCY_METRICS),
    *(f"{metric}_floor" for metric in CONSISTENCY_METRICS),
    "mask_mass",
    *AUDIO_QUALITY,
)
_TRUTH = (
    "correct_before",
    "success",
    "round_trip_correct",  # the clean recording is recognised after the same round trip
    "round_trip_success",
)

# Columns that differ between two runs of one study and are left out of comparisons.
TIMING_COLUMNS: tuple[str, ...] = ("seconds", "mask_seconds")
# The rows of one cell of a study agree in these columns.
CELL_COLUMNS: tuple[str, ...] = (
    "corpus",
    "protocol",
    "fold",
    "encoder",
    "layer",
    "surface",
    "victim",
    "victim_seed",
    "attack",
    "attack_settings",
    "attack_seed",
    "explainer",
    "mask_source",
    "scope",
    "granularity",
    "sparsity",
    "epsilon",
    "budget_snr",
)


@cache
def schema() -> Any:
    """The pyarrow schema of the rows."""
    import pyarrow as pa

    return pa.schema(
        [pa.field(name, pa.string()) for name in _TEXT]
        + [pa.field(name, pa.int64()) for name in _WHOLE]
        + [pa.field(name, pa.float64()) for name in _REAL]
        + [pa.field(name, pa.bool_()) for name in _TRUTH]
    )


def read_rows(path: Path) -> pl.DataFrame:
    """The rows in a file.

    Raises:
        RunError: if the file is missing or damaged, or another version wrote it.
    """
    import polars as pl

    try:
        if not path.is_file():
            raise FileNotFoundError("the file does not exist")
        rows = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise RunError(
            f"the rows in {path} cannot be read ({fault}); run the study again, which "
            "collects them again"
        ) from fault
    lacking = [name for name in schema().names if name not in rows.columns]
    if lacking:
        raise RunError(
            f"{path} was written by another version of sigma-ser, which had no column "
            f"{lacking[0]!r}; run the study again with this one"
        )
    return rows
