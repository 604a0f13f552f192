"""Ensembles: attacks in sequence, each on the utterances that withstood the previous ones."""

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
    """Attacks in sequence; an utterance leaves at its first success.

    Without a success, the perturbation with the largest margin over all members is the result.

    Args:
        members: attacks of this package, at least one. Their own limits are ignored; the limits
            of the ensemble apply.
    """

    members: tuple[SparseAttack, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.members:
            raise AttackError(f"{type(self).__name__} needs at least one member")
        if any(getattr(member, "feedback", "logits") != "logits" for member in self.members):
            raise AttackError(
                "members of an ensemble observe logits; run attacks with feedback='decision' alone"
            )

    def search(self, active: ActiveSet) -> None:
        for member in self.members:
            member.search(active)


@register("attack", "sparse-autoattack")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SparseAutoAttack(Ensemble):
    """Sparse-AutoAttack (Zhong, Huang & Liu 2024, section 4.4).

    Sparse-PGD with the unprojected gradient, then with the projected gradient, then Sparse-RS.
    The margin loss that the paper adds against gradient masking is a setting of `spgd`.

    Args:
        members: the attacks in their order.
    """

    members: tuple[SparseAttack, ...] = (
        SparsePGD(),
        SparsePGD(projected=True),
        SparseRS(),
    )


@register("attack", "sigma-autoattack")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SigmaAutoAttack(Ensemble):
    """Worst case over this project's strongest attacks, in ascending order of cost.

    Dual averaging on both losses in short runs, with targeted runs for every class, and in long
    runs; support reselection with restarts; Sparse-PGD; and Sparse-RS, which uses no gradient.

    Args:
        members: the attacks in their order.
    """

    members: tuple[SparseAttack, ...] = (
        DualAveraging(all_targets=True),
        DualAveraging(steps=50),
        Reselect(),
        SparsePGD(),
        SparseRS(queries=200),
    )
