"""The one-pixel attack for k elements: differential evolution over positions and values."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.registry import register

from .active_set import ActiveSet
from .base import check_positive
from .black_box import BlackBoxAttack


@register("attack", "onepixel")
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class OnePixel(BlackBoxAttack):
    """One-pixel attack with `k` elements, black box (Su, Vargas & Sakurai 2019, section III).

    A candidate consists of `k` positions and `k` values in units of epsilon, added to the
    features. Each generation creates one child per candidate, `x_1 + F (x_2 - x_3)` from three
    random candidates (differential evolution without crossover, as in the paper); it replaces its
    parent if its margin is at least as large. The evolution is implemented here because scipy
    minimises one function at a time, without shared forward passes or early stopping per
    utterance.

    Args:
        candidates: size of the population, at least 4 (paper: 400).
        generations: number of generations, at least 1 (paper: 100).
        weight: differential weight `F`, above 0 (paper: 0.5).
    """

    granularities = ("element",)

    candidates: int = 40
    generations: int = 24
    weight: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "generations", "weight")
        check_positive(self, "candidates", above=3)

    def search(self, active: ActiveSet) -> None:
        elements = allowed_elements(active)
        width = int(active.units.max())
        places, values = self._first_population(active, width)
        fitness = places.new_full((len(active), self.candidates), -torch.inf)
        children = (places, values)
        for generation in range(1 + self.generations):
            if generation:
                children = self._children(active, places, values)
            for number in range(self.candidates):
                own = slice(number * width, (number + 1) * width)
                delta = placed(active, elements, children[0][:, own], children[1][:, own])
                elements, places, values, fitness, *rest = active.observe(
                    delta, elements, places, values, fitness, *children
                )
                children = (rest[0], rest[1])
                better = active.margins >= fitness[:, number]
                fitness[:, number] = torch.where(better, active.margins, fitness[:, number])
                for kept, child in zip((places, values), children, strict=True):
                    kept[:, own] = torch.where(better[:, None], child[:, own], kept[:, own])

    def _first_population(
        self, active: ActiveSet, width: int
    ) -> tuple[Float[Tensor, "A G"], Float[Tensor, "A G"]]:
        """The first population per utterance: positions in [0, 1), values in [-1, 1]."""
        dtype = active.x.dtype
        places = torch.zeros(len(active), self.candidates, width, dtype=dtype)
        values = torch.zeros_like(places)
        for row, (rng, k) in enumerate(
            zip(active.noise.generators, active.units.tolist(), strict=True)
        ):
            size = (self.candidates, k)
            places[row, :, :k] = torch.rand(size, generator=rng, dtype=dtype)
            values[row, :, :k] = 2 * torch.rand(size, generator=rng, dtype=dtype) - 1
        device = active.x.device
        return places.flatten(1).to(device), values.flatten(1).to(device)

    def _children(
        self, active: ActiveSet, places: Float[Tensor, "A G"], values: Float[Tensor, "A G"]
    ) -> tuple[Float[Tensor, "A G"], Float[Tensor, "A G"]]:
        parents = torch.stack([
            torch.rand(self.candidates, self.candidates, generator=rng, dtype=places.dtype)
            .topk(3, dim=1)
            .indices
            for rng in active.noise.generators
        ]).to(places.device)  # fmt: skip

        def mutated(genes: Tensor) -> Tensor:
            genes = genes.view(len(genes), self.candidates, -1)
            first, second, third = (
                genes.gather(1, parents[:, :, place, None].expand_as(genes)) for place in range(3)
            )
            return (first + self.weight * (second - third)).flatten(1)

        # Positions are periodic; values are clipped to the bound.
        return mutated(places).remainder(1.0), mutated(values).clamp(-1.0, 1.0)


def allowed_elements(active: ActiveSet) -> Int[Tensor, "A N"]:
    """Number and flat indices `t D + d` of the elements that may change, padded with the last."""
    rows = [row.nonzero()[:, 0] for row in active.allowed.flatten(1)]
    most = max(len(row) for row in rows)
    padded = torch.stack([torch.cat([row, row[-1:].expand(most - len(row))]) for row in rows])
    counts = torch.tensor([len(row) for row in rows], device=padded.device)
    return torch.cat([counts[:, None], padded], 1)


def placed(
    active: ActiveSet,
    elements: Int[Tensor, "A N"],
    places: Float[Tensor, "A K"],
    values: Float[Tensor, "A K"],
) -> Float[Tensor, "A T D"]:
    """The perturbation of one candidate per utterance; values at the same position are added."""
    counts = elements[:, :1]
    index = (places * counts).long().minimum(counts - 1)
    within = torch.arange(places.shape[1], device=places.device)[None, :] < active.units[:, None]
    position = elements.gather(1, 1 + index)
    flat = active.zeros().flatten(1)
    flat.scatter_add_(1, position, values * within)
    return active.clip(flat.clamp(-1.0, 1.0).view_as(active.x) * active.bound)
