"""The mask bank: each utterance is explained once, and all masks are derived from that map.

A bank is a folder `<root>/<key>`. The key is a hash of everything that determines the maps: the
features (corpus, encoder, layer), the victim's weights, the explainer with every setting, and the
seed:

    source.json                     these values in plain text
    part-<digest>.safetensors       concatenated maps (T_i, D), with the position of each map

A map is stored as float16, divided by its largest magnitude. Gradients are multiplied by the
victim's scale first, so a stored map of any kind ranks by its magnitude. Each map is stored with
129 of its magnitudes at evenly spaced ranks (a quarter of a kilobyte). They bound the k-th largest
magnitude, so a mask of any k takes a few passes over the map and no sort. Parts are written once,
atomically, and read by memory map, so any number of runs and workers share a bank. New maps are
rounded to float16 as well, so a map does not depend on whether it was computed or read.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Explainer, Explanation, Victim
from sigma_ser.core.errors import ExplainerError, StoreError
from sigma_ser.core.features import FeatureBatch, content_ids
from sigma_ser.core.files import FileRecord, content_key, write_json
from sigma_ser.core.seeds import utterance_seeds
from sigma_ser.core.topk import largest, topk_support
from sigma_ser.explainers.explanation import explanation
from sigma_ser.explainers.ranking import ranking_scale

from .bank_parts import BankPart, StoredMap, read_part, write_part
from .half import bracket, magnitudes, rounded_to_half
from .topk import units_in_scope

_SOURCE = "source.json"


class MaskBank:
    """Maps of one explainer on one victim, stored on disk, and the masks derived from them.

    Args:
        root: folder of all banks.
        explainer: the explainer that computes missing maps.
        victim: the classifier that is explained.
        features: identifies the features: `FeatureStore.key`, or any text that changes with corpus,
            encoder and layer.
        fingerprint: hash of the victim's weights; `None` uses `victim.fingerprint`.
        seed: random seed of stochastic explainers; `None` derives their seeds from the ids only.
        record: records each part that is written, and checks each part when it is first used;
            `None` neither records nor checks.

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
        record: FileRecord | None = None,
    ) -> None:
        fingerprint = fingerprint or getattr(victim, "fingerprint", None)
        if fingerprint is None:
            raise ExplainerError(
                "a bank is identified by the victim's weights, but the victim has no attribute "
                "`fingerprint`; give fingerprint="
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
        self._record = record
        self._places: dict[str, Path] = {}
        self._parts: dict[Path, BankPart] = {}
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"MaskBank({str(self.folder)!r}, {len(self)} maps)"

    @property
    def bytes_on_disk(self) -> int:
        """Size of all parts in bytes, headers included."""
        return sum(part.stat().st_size for part in self._parts)

    def refresh(self) -> None:
        """Open the parts that other processes have added."""
        for part in sorted(self.folder.glob("part-*.safetensors")):
            if part not in self._parts:
                self._open(part)

    def fill(self, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> int:
        """Explain the utterances whose map is missing.

        Args:
            batch: features `(B, T, D)`.
            labels: the explained class `(B,)`.

        Returns:
            The number of utterances that were explained.

        Raises:
            ExplainerError: if an utterance cannot be explained.
            StoreError: if a part is damaged.
        """
        names = _names(batch, labels)
        missing = [row for row, name in enumerate(names) if name not in self._places]
        if missing:
            self.refresh()
            missing = [row for row in missing if names[row] not in self._places]
        if not missing:
            return 0
        # A part without the name of one of its maps is damaged, and not incomplete.
        for name in names:
            if name in self._places:
                self._entry(name)
        rows = torch.tensor(missing, device=batch.device)
        part, classes = batch.select(rows), labels.to(batch.device)[rows]
        new = explanation(self.explainer, self.victim, part, classes, seeds=self.seeds(part))
        self._write(part, [names[row] for row in missing], new)
        return len(missing)

    def seeds(self, batch: FeatureBatch) -> Int[Tensor, "B"] | None:
        """Seeds `(B,)` with which these utterances are explained, attacked or not.

        `None` if the bank has no seed.
        """
        return None if self.seed is None else utterance_seeds(batch.ids, "bank", self.seed)

    def as_stored(self, given: Explanation, batch: FeatureBatch) -> Explanation:
        """Round an explanation as the bank does, without storing it.

        The explanation of an unchanged input then equals the stored one exactly.

        Args:
            given: an explanation of `batch` by the explainer of the bank.
            batch: features `(B, T, D)`.
        """
        scale = ranking_scale(self.explainer.kind, self.victim, batch)
        halves, peaks = rounded_to_half(given.saliency if scale is None else given.saliency * scale)
        saliency = halves.float() * peaks[:, None, None]
        return dataclasses.replace(given, saliency=saliency if scale is None else saliency / scale)

    def explain(self, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> Explanation:
        """Return the explanations of a batch; missing ones are computed and stored.

        Args:
            batch: features `(B, T, D)`.
            labels: the explained class `(B,)`.

        Returns:
            Saliency of the explainer, rounded to float16 relative to its peak, and the passes of
            its computation.

        Raises:
            ExplainerError: if an utterance cannot be explained.
            StoreError: if a part is damaged, or a stored map has another number of frames.
        """
        self.fill(batch, labels)
        stored = [self._entry(name)[0] for name in _names(batch, labels)]
        saliency = self._maps(batch, labels)
        peaks = saliency.new_tensor([one.peak for one in stored])
        saliency = saliency * peaks[:, None, None]
        scale = ranking_scale(self.explainer.kind, self.victim, batch)
        gaps = [one.completeness for one in stored if one.completeness is not None]
        return Explanation(
            saliency if scale is None else saliency / scale,
            torch.tensor([one.forwards for one in stored]),
            torch.tensor([one.backwards for one in stored]),
            torch.tensor(gaps) if len(gaps) == len(stored) else None,
        )

    def scores(self, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> Float[Tensor, "B T D"]:
        """Return the ranking scores of a batch relative to the largest; missing maps are computed.

        Args:
            batch: features `(B, T, D)`.
            labels: the explained class `(B,)`.

        Returns:
            `(B, T, D)` in [0, 1], zero on padding.

        Raises:
            ExplainerError: if an utterance cannot be explained.
            StoreError: if a part is damaged, or a stored map has another number of frames.
        """
        self.fill(batch, labels)
        return self._maps(batch, labels).abs()

    def mask(
        self, batch: FeatureBatch, labels: Int[Tensor, "B"], budget: Budget, scope: int = 1
    ) -> Bool[Tensor, "B T D"]:
        """Compute the mask of `sigma_ser.topk_mask` from the stored maps, without a sort.

        Args:
            batch: features `(B, T, D)`.
            labels: the explained class `(B,)`.
            budget: number of units that may change, and the kind of unit.
            scope: mask size as a multiple of the number of units that may change, at least 1.

        Returns:
            Bool `(B, T, D)`, the mask of `scores`.

        Raises:
            BudgetError: if the budget or the scope does not fit.
            ExplainerError: if an utterance cannot be explained.
            StoreError: if a part is damaged, or a stored map has another number of frames.
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
                units = largest(magnitudes(stored), counts[row], bracket)
            else:
                scores = budget.unit_scores(stored.float().abs()[None], torch.tensor([len(stored)]))
                units = topk_support(scores, torch.tensor([counts[row]]))[0].numpy()
            chosen[row, : len(units)] = units
        support = torch.from_numpy(chosen).to(batch.device)
        if budget.granularity == "element":
            return support.view(shape)
        return budget.expand(support, batch.lengths, shape)

    def _maps(self, batch: FeatureBatch, labels: Int[Tensor, "B"]) -> Float[Tensor, "B T D"]:
        maps = torch.zeros(batch.x.shape)
        lengths = batch.lengths.tolist()
        for row, name in enumerate(_names(batch, labels)):
            maps[row, : lengths[row]] = self._map(name, lengths[row])
        return maps.to(batch.device)

    def _map(self, name: str, length: int) -> Float16[Tensor, "T D"]:
        stored, part = self._entry(name)
        if stored.frames != length:
            raise StoreError(
                f"the bank {self.folder} holds a map of {stored.frames} frames for {name!r}, which "
                f"now has {length}; the features have changed, so give another features="
            )
        return part.maps[stored.first : stored.first + stored.frames]

    def _bracket(self, name: str, size: int, k: int) -> tuple[int, int] | None:
        """Two stored magnitudes, as bits, that bound the `k`-th largest magnitude of a map."""
        stored, part = self._entry(name)
        return bracket(part.marks[stored.row], size, k)

    def _entry(self, name: str) -> tuple[StoredMap, BankPart]:
        """A stored map with the part it is in, which is checked when it is first used."""
        path = self._places[name]
        if self._record is not None:
            self._record.check(path)
        part = self._parts[path]
        return part.entries[name], part

    def _write(self, batch: FeatureBatch, names: list[str], new: Explanation) -> None:
        scale = ranking_scale(self.explainer.kind, self.victim, batch)
        halves, peaks = rounded_to_half(
            (new.saliency if scale is None else new.saliency * scale).cpu()
        )
        maps = {
            name: halves[row, :length]
            for row, (name, length) in enumerate(zip(names, batch.lengths.tolist(), strict=True))
        }
        gaps = [None] * len(names) if new.completeness is None else new.completeness.tolist()
        passes = list(zip(new.forwards.tolist(), new.backwards.tolist(), gaps, strict=True))
        seal = None if self._record is None else self._record.seal
        if not (self.folder / _SOURCE).exists():
            write_json(self.folder / _SOURCE, self.source, seal)
        path = self.folder / f"part-{content_key(names)}.safetensors"
        write_part(path, maps, peaks, passes, seal)
        self._open(path)

    def _open(self, path: Path) -> None:
        self._parts[path] = part = read_part(path)
        for name in part.entries:
            self._places.setdefault(name, path)


def _names(batch: FeatureBatch, labels: Int[Tensor, "B"]) -> list[str]:
    return [f"{label}/{name}" for label, name in zip(labels.tolist(), batch.ids, strict=True)]
