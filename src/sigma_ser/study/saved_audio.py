"""The perturbed recordings of a run as audio files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sigma_ser.audio.writing import Provenance, write_flac
from sigma_ser.core.files import safe_name
from sigma_ser.core.rows import schema
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.corpora.waveforms import waveforms
from sigma_ser.runs.files import read_part
from sigma_ser.runs.layout import RunLayout

from .transfer import Perturbations

_BUDGET = ("granularity", "sparsity", "epsilon", "budget_snr")
_CELL = ("victim", "attack", "attack_seed", "explainer", "mask_source", "scope", *_BUDGET)


def save_audio(layout: RunLayout, corpus: Corpus, folder: Path) -> int:
    """Write the perturbed recordings of a run as 16-bit FLAC files with provenance in their tags.

    Args:
        layout: of a run on the waveform that kept its perturbations.
        corpus: the recordings.
        folder: receives one folder for each cell, and in it one file for each utterance.

    Returns:
        The number of files.

    Raises:
        DamagedRunError: if a file of the run is damaged.
        OSError: if a file cannot be written.
    """
    count = 0
    for path in sorted(layout.folder.glob("attacks/*/part-*.parquet")):
        number = int(path.stem.removeprefix("part-"))
        perturbations = layout.perturbations(path.parent.name, number)
        if not perturbations.exists():
            continue
        kept = Perturbations.load(perturbations)
        for row in read_part(path, schema()).to_pylist():
            name = row["utterance"]
            clean = waveforms(corpus, [name])
            wave = kept.applied(clean)[0, :, 0].numpy()
            about = Provenance(
                original=name,
                attack=row["attack_settings"],
                budget={one: row[one] for one in (*_BUDGET, "bound")},
            )
            # Cells may differ in settings of the attack alone, which the key stands for.
            cell = f"{_cell(row)}-{path.parent.name[:8]}"
            write_flac(folder / cell / f"{safe_name(name)}.flac", wave, about)
            count += 1
    return count


def _cell(row: Mapping[str, Any]) -> str:
    """The name of a cell, as that of a folder."""
    values = (f"{row[name]:g}" if isinstance(row[name], float) else row[name] for name in _CELL)
    return safe_name("-".join(str(value) for value in values if value is not None))
