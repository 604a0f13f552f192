"""Ensembles: one attack after the other, each on the survivors of those before."""

from __future__ import annotations

import dataclasses

from sigma_ser.core.errors import AttackError
from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import SparseAttack
from .dual_averaging import DualAveraging
from .reselect import Reselect
from .sparse_rs import SparseRS
from .spgd import SparsePGD


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Ensemble(SparseAttack):
    """Members in order; whoever is fooled leaves, the best iterate of all is kept.

    Args:
        members: attacks of this room that work on k-sparse budgets; their own limits are not
            used, those of the ensemble are.
    """

    members: tuple[SparseAttack, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.members:
            raise AttackError(f"{type(self).__name__} needs at least one member")
        if any(getattr(member, "feedback", "logits") != "logits" for member in self.members):
            raise AttackError(
                "an ensemble sees the logits; run an attack on decisions alone by itself"
            )

    def search(self, active: ActiveSet) -> None:
        for member in self.members:
            member.search(active)


@register("attack", "sparse-autoattack")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SparseAutoAttack(Ensemble):
    """Sparse-AutoAttack (Zhong, Huang & Liu 2024, section 4.4).

    Sparse-PGD with the unprojected gradient, then with the projected one, then Sparse-RS. The
    margin loss that the paper adds against gradient masking is an option of `spgd`.
    """

    members: tuple[SparseAttack, ...] = (
        SparsePGD(),
        SparsePGD(projected=True),
        SparseRS(),
    )


@register("attack", "sigma-autoattack")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SigmaAutoAttack(Ensemble):
    """The strongest worst case for its time: the cheapest of the strong attacks go first.

    Dual averaging on both losses in short runs, towards every class and in long runs, reselection
    with restarts, Sparse-PGD, and at last a random search, which needs no gradients.
    """

    members: tuple[SparseAttack, ...] = (
        DualAveraging(all_targets=True),
        DualAveraging(steps=50),
        Reselect(),
        SparsePGD(),
        SparseRS(queries=200),
    )
