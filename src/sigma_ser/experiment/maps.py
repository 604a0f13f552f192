"""Saliency maps at the precision at which a run keeps them: float16 after division by the peak.

A gradient may be far below the smallest float16, so each map is first divided by its largest
magnitude. Whatever is compared with a kept map is rounded in the same way, so that an input that
nobody changed keeps its explanation exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.contracts import Explainer, Explanation, MapKind, Victim
from sigma_ser.core.errors import RunError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import whole_file

COSTS = ("forwards", "backwards", "seconds")


@dataclass(frozen=True)
class AtKeptPrecision:
    """An explainer whose maps are rounded as they are kept."""

    explainer: Explainer

    @property
    def kind(self) -> MapKind:
        """As that of the explainer."""
        return self.explainer.kind

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> Explanation:
        """Explain, then round."""
        explanation = self.explainer(victim, batch, labels, seeds=seeds)
        half, peak = _halve(explanation.saliency)
        return dataclasses.replace(explanation, saliency=_restore(half, peak))


def _halve(
    saliency: Float[Tensor, "B T D"],
) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B"]]:
    peak = saliency.abs().amax((1, 2))
    return (saliency / peak.clamp(min=torch.finfo(torch.float32).tiny)[:, None, None]).half(), peak


def _restore(half: Float[Tensor, "B T D"], peak: Float[Tensor, "B"]) -> Float[Tensor, "B T D"]:
    return half.float() * peak[:, None, None]


class MapWriter:
    """Collects the maps of one part, batch by batch, and writes them as one file."""

    def __init__(self) -> None:
        self._maps: list[Tensor] = []
        self._rest: dict[str, list[Tensor]] = {"peak": [], "lengths": [], **{c: [] for c in COSTS}}

    def add(self, batch: FeatureBatch, explanation: Explanation, seconds: float) -> None:
        """Take the maps of one batch, and what they cost together."""
        half, peak = _halve(explanation.saliency)
        self._maps += [half[row, :length] for row, length in enumerate(batch.lengths.tolist())]
        share = torch.full((len(batch),), seconds / len(batch), dtype=torch.float64)
        for name, value in (
            ("peak", peak),
            ("lengths", batch.lengths),
            ("forwards", explanation.forwards),
            ("backwards", explanation.backwards),
            ("seconds", share),
        ):
            self._rest[name].append(value.cpu())

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        from safetensors.torch import save_file

        tensors = {"maps": torch.cat(self._maps).cpu()}
        tensors |= {name: torch.cat(parts) for name, parts in self._rest.items()}
        with whole_file(path) as aside:
            save_file(tensors, aside)


def read_maps(path: Path, rows: slice) -> Float[Tensor, "B T D"]:
    """The maps of some rows of a part, zero on padding.

    Raises:
        RunError: if the file is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            lengths = file.get_tensor("lengths")
            ends = lengths.cumsum(0).tolist()
            first, last, _ = rows.indices(len(ends))
            start = ends[first - 1] if first else 0
            flat = file.get_slice("maps")[start : ends[last - 1]]
            peak = file.get_tensor("peak")[rows]
    except (OSError, SafetensorError) as fault:
        raise RunError(f"{path} cannot be read ({fault}); delete it and run again") from fault
    parts: Sequence[Tensor] = flat.split(lengths[rows].tolist())
    return _restore(torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True), peak)


def read_costs(path: Path, rows: slice) -> Mapping[str, Tensor]:
    """What the maps of some rows of a part cost: `forwards`, `backwards`, `seconds`."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name)[rows] for name in COSTS}
