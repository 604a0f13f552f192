"""The mask of a cell: from one map, from the mean of several, from a universal one, or abroad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.errors import StoreError
from sigma_ser.explainers.relative_time import unfold
from sigma_ser.masks.combine import consensus
from sigma_ser.masks.topk import topk_mask
from sigma_ser.runs.files import read_tensors

from .artifacts import RunPaths
from .config import CONSENSUS
from .steps import MaskStep, UniversalStep

if TYPE_CHECKING:
    from .batches import Piece


def make_mask(piece: Piece, mask: MaskStep, budget: Budget, scope: int) -> Bool[Tensor, "B T D"]:
    """The elements that an attack on the piece's victim may change.

    Args:
        piece: one batch of a part.
        mask: whose maps count.
        budget: what is allowed.
        scope: how many budgets the mask holds.
    """
    batch = piece.batch
    if mask.universal is not None:
        told = unfold(read_universal(piece.task.paths, mask.universal), batch.lengths)
        return topk_mask(told, batch.lengths, budget, scope)
    setting = piece.task.step.victim.setting
    if mask.source == CONSENSUS:
        maps = []
        for step in mask.maps:
            seen = piece.seen_by(step.victim)
            maps.append(seen.bank(step).scores(seen.batch, seen.labels))
        return topk_mask(consensus(maps, batch.lengths), batch.lengths, budget, scope)
    (step,) = mask.maps
    seen = piece.seen_by(step.victim)
    if step.victim.setting == setting:
        return seen.bank(step).mask(seen.batch, seen.labels, budget, scope)
    # Of another encoder only the frames count, which may be one more or one fewer here.
    scores = seen.bank(step).scores(seen.batch, seen.labels).sum(2)
    fitted = _fitted(scores, seen.batch.lengths, batch.lengths)
    return topk_mask(fitted[:, :, None].expand(batch.x.shape), batch.lengths, budget, scope)


def read_universal(paths: RunPaths, step: UniversalStep) -> Float[Tensor, "bins D"]:
    """The universal map of a victim."""
    return read_tensors(paths.universal(step))["map"]


def _fitted(
    scores: Float[Tensor, "B S"], theirs: Int[Tensor, "B"], ours: Int[Tensor, "B"]
) -> Float[Tensor, "B T"]:
    """Frame scores at our lengths: those beyond ours are cut, those that lack rank last."""
    if bool(((theirs - ours).abs() > 2).any()):
        raise StoreError(
            "the same utterance has more than two frames fewer or more under the other encoder; "
            "masks carry over only between encoders that frame alike"
        )
    fitted = scores.new_zeros(len(scores), int(ours.max()))
    for row, length in enumerate(ours.tolist()):
        shared = min(length, int(theirs[row]))
        fitted[row, :shared] = scores[row, :shared]
    return fitted
