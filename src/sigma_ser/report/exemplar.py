"""One attacked utterance in full, for the page: recording, explanations, mask and perturbation."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int16

from sigma_ser.core.errors import DamagedRunError, ShapeError
from sigma_ser.core.files import Seal, write_tensors
from sigma_ser.core.json_text import parse_json

SAMPLE_RATE = 16_000
FEATURES, WAVEFORM = "features", "waveform"
_ARRAYS = (
    "probabilities_before",
    "probabilities_after",
    "waveform",
    "saliency_before",
    "saliency_after",
    "mask",
    "delta",
)
# Only attacks on the waveform have it.
_PERTURBED = "perturbed"


@dataclass(frozen=True, eq=False, kw_only=True)
class Exemplar:
    """What one attack did to one utterance: to its features, or to its recording.

    Args:
        utterance: id, as in the rows.
        speaker: who speaks.
        text: the words, or their id.
        label: true class.
        class_names: names of the `C` classes, in the order of the probabilities.
        victim: name of the attacked head, as in the rows.
        attack: name of the attack, as in the rows.
        explainer: whose map made the mask; `None` where the attack chose its own support.
        mask_source: victim whose map it was, `"own"` where the same; `None` for native attacks.
        scope: times the budget that the mask holds; `None` for native attacks.
        sparsity: share of the elements that may change.
        epsilon: the largest move, in units of scale; `None` where the budget was given as a
            signal-to-noise ratio.
        probabilities_before: `(C,)`, of the original features.
        probabilities_after: `(C,)`, of the attacked features, or of the wave `perturbed`.
        waveform: `(N,)` float32 in [-1, 1] at 16 kHz: the original recording.
        frame_seconds: time from one frame to the next; on the waveform, of one sample.
        saliency_before: `(T, D)` explanation of the true class on the original features; on the
            waveform, `(N, 1)`, as all following maps.
        saliency_after: `(T, D)` the same on the attacked features.
        mask: `(T, D)` what was allowed to change; for a native attack, what it changed.
        delta: `(T, D)` the move, in units of scale.
        surface: `"features"` or `"waveform"`: what was attacked.
        perturbed: `(N,)` the perturbed recording at 16 kHz and 16 bits, as it is written to a
            file; `None` on the features, where no recording is changed.
        budget_snr: the budget as a signal-to-noise ratio in dB, where it was given as one.
        snr: signal-to-noise ratio of `perturbed` in dB; `None` where undefined, as `pesq` and
            `stoi`.
        pesq: wide-band PESQ of `perturbed`.
        stoi: short-time objective intelligibility of `perturbed`.

    Raises:
        ShapeError: if the arrays do not fit together.
    """

    utterance: str
    speaker: str
    text: str
    label: str
    class_names: tuple[str, ...]
    victim: str
    attack: str
    explainer: str | None
    mask_source: str | None
    scope: int | None
    sparsity: float
    epsilon: float | None
    probabilities_before: Float[np.ndarray, "C"]
    probabilities_after: Float[np.ndarray, "C"]
    waveform: Float[np.ndarray, "N"]
    frame_seconds: float
    saliency_before: Float[np.ndarray, "T D"]
    saliency_after: Float[np.ndarray, "T D"]
    mask: Bool[np.ndarray, "T D"]
    delta: Float[np.ndarray, "T D"]
    surface: str = FEATURES
    perturbed: Int16[np.ndarray, "_"] | None = None
    budget_snr: float | None = None
    snr: float | None = None
    pesq: float | None = None
    stoi: float | None = None

    def __post_init__(self) -> None:
        maps = {
            name: getattr(self, name).shape
            for name in ("saliency_before", "saliency_after", "mask", "delta")
        }
        if len(set(maps.values())) != 1 or len(self.mask.shape) != 2:
            raise ShapeError(
                f"the maps of exemplar {self.utterance!r} must share (T, D), got {maps}"
            )
        shape = (len(self.class_names),)
        if not self.probabilities_before.shape == self.probabilities_after.shape == shape:
            raise ShapeError(
                f"exemplar {self.utterance!r} needs one probability for each of its "
                f"{len(self.class_names)} classes"
            )
        changed = None if self.perturbed is None else self.perturbed.shape
        samples = self.waveform.shape if self.surface == WAVEFORM else None
        if changed != samples or (samples and self.mask.shape != (*samples, 1)):
            raise ShapeError(
                f"exemplar {self.utterance!r} of the surface {self.surface} has a recording "
                f"{self.waveform.shape}, a perturbed one {changed} and maps {self.mask.shape}; on "
                "the waveform all have one value for each sample, and on the features there is no "
                "perturbed recording"
            )

    @property
    def prediction_before(self) -> str:
        """The class that the victim saw in the original features."""
        return self.class_names[int(self.probabilities_before.argmax())]

    @property
    def prediction_after(self) -> str:
        """The class that it sees after the attack."""
        return self.class_names[int(self.probabilities_after.argmax())]

    @property
    def flipped(self) -> bool:
        """Right before and wrong after."""
        return self.prediction_before == self.label != self.prediction_after

    def save(self, path: Path, seal: Seal | None = None) -> None:
        """Write one safetensors file: the arrays, and everything else as JSON in its metadata.

        Args:
            path: of the file.
            seal: as for `sigma_ser.core.files.whole_file`.
        """
        import torch

        arrays = {
            name: torch.from_numpy(np.ascontiguousarray(_compact(getattr(self, name))))
            for name in (*_ARRAYS, _PERTURBED)
            if getattr(self, name) is not None
        }
        rest = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in (*_ARRAYS, _PERTURBED)
        }
        write_tensors(path, arrays, {"exemplar": json.dumps(rest, ensure_ascii=False)}, seal)

    @classmethod
    def load(cls, path: Path) -> Exemplar:
        """Read what `save` wrote.

        Raises:
            DamagedRunError: if the file is missing or is not an exemplar.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                there = {_PERTURBED} & set(file.keys())
                arrays = {name: file.get_tensor(name) for name in (*_ARRAYS, *there)}
                rest: dict[str, Any] = parse_json((file.metadata() or {})["exemplar"])
            rest["class_names"] = tuple(rest["class_names"])
            return cls(**rest, **arrays)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as fault:
            raise DamagedRunError(
                f"{path} cannot be read as an exemplar ({fault}); delete it and run again: "
                "it is computed again, and the rest is kept",
                path,
            ) from fault


def _compact(array: np.ndarray) -> np.ndarray:
    return array if array.dtype in (np.bool_, np.int16) else array.astype(np.float32)
