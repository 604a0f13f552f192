"""Files of a mask bank: maps of some utterances, with the position and the passes of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Int16
from torch import Tensor

from sigma_ser.core.errors import DamagedStoreError
from sigma_ser.core.files import Seal, write_tensors
from sigma_ser.core.json_text import parse_json

from .half import marks_of


@dataclass(frozen=True)
class StoredMap:
    """Position of a map in its file, its largest magnitude, and the passes of its explanation."""

    row: int
    first: int
    frames: int
    peak: float
    forwards: int
    backwards: int
    completeness: float | None


@dataclass(frozen=True)
class BankPart:
    """One file of the bank, mapped into memory.

    Args:
        entries: position of each map, by its name.
        maps: concatenated maps.
        marks: magnitudes of each map at evenly spaced ranks.
    """

    entries: Mapping[str, StoredMap]
    maps: Float16[Tensor, "N D"]
    marks: Int16[np.ndarray, "M 129"]


def write_part(
    path: Path,
    maps: Mapping[str, Float16[Tensor, "T D"]],
    peaks: Float[Tensor, "M"],
    passes: Sequence[tuple[int, int, float | None]],
    seal: Seal | None,
) -> None:
    """Write a part, whole or not at all.

    Args:
        path: of the file.
        maps: of each utterance, by its name, each divided by its peak.
        peaks: largest magnitude of each map.
        passes: forward passes, backward passes and completeness gap of each explanation.
        seal: as for `sigma_ser.core.files.whole_file`.

    Raises:
        OSError: if it cannot be written.
    """
    facts, first = {}, 0
    for row, (name, one) in enumerate(maps.items()):
        entry = StoredMap(row, first, len(one), float(peaks[row]), *passes[row])
        facts[name] = asdict(entry)
        first += len(one)
    marks = [marks_of(one) for one in maps.values()]
    tensors = {"maps": torch.cat(list(maps.values())), "marks": torch.stack(marks)}
    write_tensors(path, tensors, {"maps": json.dumps(facts)}, seal)


def read_part(path: Path) -> BankPart:
    """Open a part; its tensors stay memory-mapped, so slices are not copied.

    Raises:
        DamagedStoreError: if it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = parse_json(file.metadata()["maps"])
            entries = {name: StoredMap(**fact) for name, fact in facts.items()}
            return BankPart(entries, file.get_tensor("maps"), file.get_tensor("marks").numpy())
    except (SafetensorError, OSError, TypeError, KeyError, ValueError, AttributeError) as fault:
        raise DamagedStoreError(
            f"{path} is damaged ({fault}); delete it, and its maps are computed again", path
        ) from fault
