"""Random numbers for each utterance that do not depend on the rest of its batch or its order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

# Not the default type of torch, which a user may change: the same seeds give the same numbers.
_DTYPE = torch.float32


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from the text of `parts`; the same on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def utterance_seeds(ids: Iterable[str], *parts: object) -> Int[Tensor, "B"]:
    """One seed for each utterance, from its id and `parts` (a run seed, an attack's name ...)."""
    return torch.tensor([derive_seed(*parts, name) for name in ids], dtype=torch.long)


class UtteranceNoise:
    """Draws noise for each utterance from its own generator, at its own `(T_i, D)`.

    Args:
        seeds: `(B,)`, one for each utterance.
        lengths: `(B,)`, valid frames.

    The generators are on the CPU, so that the numbers are the same for every device.
    """

    def __init__(self, seeds: Int[Tensor, "B"], lengths: Int[Tensor, "B"]) -> None:
        self.lengths: list[int] = lengths.tolist()
        self.generators = [Generator().manual_seed(seed) for seed in seeds.tolist()]

    def select(self, keep: Sequence[int]) -> UtteranceNoise:
        """The generators of some of the utterances, in their current state."""
        chosen = object.__new__(UtteranceNoise)
        chosen.lengths = [self.lengths[row] for row in keep]
        chosen.generators = [self.generators[row] for row in keep]
        return chosen

    def normal(self, like: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Standard normal noise, zero on padding."""
        return self._fill(like, lambda shape, rng: torch.randn(shape, generator=rng, dtype=_DTYPE))

    def uniform(self, like: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Uniform noise in [-1, 1], zero on padding."""
        return self._fill(
            like, lambda shape, rng: torch.rand(shape, generator=rng, dtype=_DTYPE) * 2 - 1
        )

    def signs(self, like: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """-1 or 1 with equal probability, zero on padding."""

        def draw(shape: tuple[int, ...], rng: Generator) -> Tensor:
            return torch.randint(2, shape, generator=rng).float() * 2 - 1

        return self._fill(like, draw)

    def accept(self, probability: float) -> Bool[Tensor, "B"]:
        """One draw for each utterance that is True with `probability`."""
        draws = [torch.rand((), generator=rng, dtype=_DTYPE) for rng in self.generators]
        return torch.tensor([bool(draw < probability) for draw in draws])

    def _fill(self, like: Tensor, draw: Callable[[tuple[int, ...], Generator], Tensor]) -> Tensor:
        out = torch.zeros(like.shape, dtype=_DTYPE)
        for row, (length, rng) in enumerate(zip(self.lengths, self.generators, strict=True)):
            out[row, :length] = draw((length, *like.shape[2:]), rng)
        return out.to(like.device, like.dtype)
