"""The mask bank: each utterance is explained once, and every mask comes out of that one map.

A bank is a folder `<root>/<key>` whose key is a hash of what determines its maps: the features
(corpus, encoder, layer), the victim's weights, the explainer with every setting, and the seed:

    source.json                     those, in words
    part-<digest>.safetensors       maps (T_i, D) one after the other, and where each one lies

A map is kept as float16, two bytes an element, divided by its largest magnitude; maps of gradients
are kept times the victim's scale, as they rank, so a stored map ranks by its magnitude whatever
its kind. Beside it lie 129 of its magnitudes at evenly spaced ranks, a quarter of a kilobyte: they
say between which bounds the k-th largest is, so a mask of any k costs a few passes and no sort.
Parts are written once, whole, and read by memory map, so any number of runs and workers share one
bank. What is explained and what is read is the same number for number: a map goes through the
bank's float16 also when it has just been made.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int, Int16, UInt16
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Explainer, Explanation, Victim
from sigma_ser.core.errors import ExplainerError, StoreError
from sigma_ser.core.features import FeatureBatch, content_ids
from sigma_ser.core.files import content_key, whole_file, write_json
from sigma_ser.core.seeds import utterance_seeds
from sigma_ser.core.topk import largest, topk_support
from sigma_ser.explainers.explanation import explanation
from sigma_ser.explainers.ranking import ranking_scale

from .topk import units_in_scope

_SOURCE = "source.json"
# Steps between the ranks whose magnitudes are kept.
_MARKS = 128


@dataclass(frozen=True)
class _Part:
    """One file, mapped into memory."""

    maps: Float16[Tensor, "N D"]
    marks: Int16[np.ndarray, "M 129"]


@dataclass(frozen=True)
class _Entry:
    """Where a map lies, and what it cost."""

    part: Path
    row: int
    first: int
    frames: int
    peak: float
    forwards: int
    backwards: int
    completeness: float | None


class MaskBank:
    """Maps of one explainer on one victim, kept on disk, and the masks that follow from them.

    Args:
        root: folder of all banks.
        explainer: makes the maps that are missing.
        victim: the classifier that is explained.
        features: what the features are: `FeatureStore.key`, or any text that changes with corpus,
            encoder and layer.
        fingerprint: hash of the victim's weights; `None` takes `victim.fingerprint`.
        seed: of stochastic explainers; `None` derives their seeds from the ids alone.

    Raises:
        ExplainerError: if the victim has no fingerprint and none is given.
        StoreError: if a part is damaged.
    """

    def __init__(
        self,
        root: str | Path,
        explainer: Explainer,
        victim: Victim,
        *,
        features: str,
        fingerprint: str | None = None,
        seed: int | None = None,
    ) -> None:
        fingerprint = fingerprint or getattr(victim, "fingerprint", None)
        if fingerprint is None:
            raise ExplainerError(
                "a bank is filed under the victim's weights and this victim does not tell them; "
                "give fingerprint="
            )
        references: FeatureBatch | None = getattr(explainer, "references", None)
        self.source: dict[str, Any] = {
            "format": 2,
            "features": features,
            "victim": fingerprint,
            "explainer": repr(explainer),
            "references": references and content_ids(references.x, references.lengths),
            "kind": explainer.kind,
            "seed": seed,
        }
        self.key = content_key(self.source)
        self.folder = Path(root) / self.key
        self.explainer = explainer
        self.victim = victim
        self.seed = seed
        self._entries: dict[str, _Entry] = {}
        self._parts: dict[Path, _Part] = {}
        self.refresh()

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"MaskBank({str(self.folder)!r}, {len(self)} maps)"

    @property
    def bytes_on_disk(self) -> int:
        """What all parts take, headers included."""
        return sum(part.stat().st_size for part in self._parts)

    def refresh(self) -> None:
        """See what other processes have added meanwhile."""
        for part in sorted(self.folder.glob("part-*.safetensors")):
            if part not in self._parts:
                self._open(part)

    def fill(self, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> int:
        """Explain the utterances whose map for class `labels` is missing; how many there were."""
        names = _names(batch, labels)
        missing = [row for row, name in enumerate(names) if name not in self._entries]
        if missing:
            self.refresh()
            missing = [row for row in missing if names[row] not in self._entries]
        if not missing:
            return 0
        rows = torch.tensor(missing, device=batch.device)
        part, classes = batch.select(rows), labels.to(batch.device)[rows]
        told = explanation(self.explainer, self.victim, part, classes, seeds=self.seeds(part))
        self._write(part, [names[row] for row in missing], told)
        return len(missing)

    def seeds(self, batch: FeatureBatch) -> Int[Tensor, "B"] | None:
        """The noise with which these utterances are explained, whatever becomes of them."""
        return None if self.seed is None else utterance_seeds(batch.ids, "bank", self.seed)

    def as_stored(self, told: Explanation, batch: FeatureBatch) -> Explanation:
        """An explanation that is not kept, rounded as if it were.

        Compared with a kept one, an input that nobody changed then keeps its map exactly.
        """
        scale = ranking_scale(self.explainer.kind, self.victim, batch)
        halved, peaks = _halved(told.saliency if scale is None else told.saliency * scale)
        saliency = halved.float() * peaks[:, None, None]
        return dataclasses.replace(told, saliency=saliency if scale is None else saliency / scale)

    def explain(self, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> Explanation:
        """The maps for class `labels`, explained where they are missing.

        Returns:
            Saliency as the explainer gives it but for the rounding to float16, and the passes
            that it cost when it was made.
        """
        self.fill(batch, labels)
        entries = [self._entries[name] for name in _names(batch, labels)]
        saliency = self._stored(batch, labels)
        peaks = saliency.new_tensor([entry.peak for entry in entries])
        saliency = saliency * peaks[:, None, None]
        scale = ranking_scale(self.explainer.kind, self.victim, batch)
        gaps = [entry.completeness for entry in entries if entry.completeness is not None]
        return Explanation(
            saliency if scale is None else saliency / scale,
            torch.tensor([entry.forwards for entry in entries]),
            torch.tensor([entry.backwards for entry in entries]),
            torch.tensor(gaps) if len(gaps) == len(entries) else None,
        )

    def scores(self, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> Float[Tensor, "B T D"]:
        """What the elements count in a ranking, as a share of the largest: in [0, 1]."""
        self.fill(batch, labels)
        return self._stored(batch, labels).abs()

    def mask(
        self, batch: FeatureBatch, labels: Int[Tensor, "B"], budget: Budget, scope: int = 1
    ) -> Bool[Tensor, "B T D"]:
        """The mask of :func:`sigma_ser.topk_mask` on :meth:`scores`, straight from the kept bits.

        Raises:
            BudgetError: if the budget or the scope does not fit.
        """
        self.fill(batch, labels)
        shape = batch.x.shape
        counts = units_in_scope(budget, batch.lengths, shape[2], scope).tolist()
        width = {"element": shape[1] * shape[2], "channel": shape[2]}.get(
            budget.granularity, shape[1]
        )
        chosen = np.zeros((len(batch), width), dtype=bool)
        lengths = batch.lengths.tolist()
        for row, name in enumerate(_names(batch, labels)):
            stored = self._map(name, lengths[row])
            if budget.granularity == "element":
                bracket = self._bracket(name, stored.numel(), counts[row])
                units = largest(_magnitudes(stored), counts[row], bracket)
            else:
                scores = budget.unit_scores(stored.float().abs()[None], torch.tensor([len(stored)]))
                units = topk_support(scores, torch.tensor([counts[row]]))[0].numpy()
            chosen[row, : len(units)] = units
        support = torch.from_numpy(chosen).to(batch.device)
        if budget.granularity == "element":
            return support.view(shape)
        return budget.expand(support, batch.lengths, shape)

    def _stored(self, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> Float[Tensor, "B T D"]:
        stored = torch.zeros(batch.x.shape)
        lengths = batch.lengths.tolist()
        for row, name in enumerate(_names(batch, labels)):
            stored[row, : lengths[row]] = self._map(name, lengths[row])
        return stored.to(batch.device)

    def _map(self, name: str, length: int) -> Float16[Tensor, "T D"]:
        entry = self._entries[name]
        if entry.frames != length:
            raise StoreError(
                f"the bank {self.folder} holds a map of {entry.frames} frames for {name!r}, which "
                f"now has {length}; the features have changed, so give another features="
            )
        return self._parts[entry.part].maps[entry.first : entry.first + entry.frames]

    def _bracket(self, name: str, size: int, k: int) -> tuple[int, int] | None:
        """Two kept magnitudes, as bits, between which the `k`-th largest of a map lies."""
        if not 0 < k < size:
            return None
        entry = self._entries[name]
        marks = self._parts[entry.part].marks[entry.row]
        at = (k - 1) * _MARKS // (size - 1)
        return int(marks[min(at + 1, _MARKS)]), int(marks[at])

    def _write(self, batch: FeatureBatch, names: list[str], told: Explanation) -> None:
        from safetensors.torch import save_file

        scale = ranking_scale(self.explainer.kind, self.victim, batch)
        halved, peaks = _halved((told.saliency if scale is None else told.saliency * scale).cpu())
        lengths = batch.lengths.tolist()
        facts, first = {}, 0
        for row, (name, length) in enumerate(zip(names, lengths, strict=True)):
            facts[name] = {
                "row": row,
                "first": first,
                "frames": length,
                "peak": float(peaks[row]),
                "forwards": int(told.forwards[row]),
                "backwards": int(told.backwards[row]),
                "completeness": None
                if told.completeness is None
                else float(told.completeness[row]),
            }
            first += length
        kept = [halved[row, :length] for row, length in enumerate(lengths)]
        tensors = {"maps": torch.cat(kept), "marks": torch.stack([_marks(one) for one in kept])}
        if not (self.folder / _SOURCE).exists():
            write_json(self.folder / _SOURCE, self.source)
        part = self.folder / f"part-{content_key(names)}.safetensors"
        with whole_file(part) as aside:
            save_file(tensors, aside, {"maps": json.dumps(facts)})
        self._open(part)

    def _open(self, part: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(part, "pt") as file:
                facts = json.loads(file.metadata()["maps"])
                # It stays mapped: a slice copies nothing.
                self._parts[part] = _Part(file.get_tensor("maps"), file.get_tensor("marks").numpy())
        except (SafetensorError, OSError, TypeError, KeyError, ValueError) as fault:
            raise StoreError(
                f"{part} is damaged ({fault}); delete it and its maps are made again"
            ) from fault
        for name, fact in facts.items():
            self._entries.setdefault(name, _Entry(part, **fact))


def _halved(
    ranked: Float[Tensor, "B T D"],
) -> tuple[Float16[Tensor, "B T D"], Float[Tensor, "B"]]:
    """Maps as float16 after division by their peaks: a gradient may be below its smallest."""
    peaks = ranked.abs().amax((1, 2))
    peaks = torch.where(peaks > 0, peaks, 1.0)
    return (ranked / peaks[:, None, None]).half(), peaks


def _names(batch: FeatureBatch, labels: Int[Tensor, "B"]) -> list[str]:
    return [f"{label}/{name}" for label, name in zip(labels.tolist(), batch.ids, strict=True)]


def _magnitudes(stored: Float16[Tensor, "T D"]) -> UInt16[np.ndarray, "N"]:
    """Without its sign a float16 is one of 32768 magnitudes whose bits order as they do."""
    bits: UInt16[np.ndarray, "N"] = stored.numpy().view(np.uint16).ravel() & 0x7FFF
    return bits


def _marks(stored: Float16[Tensor, "T D"]) -> Int[Tensor, "129"]:
    """Magnitudes at evenly spaced ranks, the largest first, as bits."""
    # numpy sorts 32-bit integers with vector instructions, 16-bit ones on few machines alone.
    ordered = np.sort(_magnitudes(stored).astype(np.int32))[::-1]
    ranks = np.arange(_MARKS + 1) * (len(ordered) - 1) // _MARKS
    return torch.from_numpy(ordered[ranks].astype(np.int16))
