"""An attack of another library as one of ours: under the budget, counted and audited."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.attacks.active_set import ActiveSet
from sigma_ser.attacks.base import SparseAttack
from sigma_ser.attacks.limits import Limits, Meter, SearchEnded
from sigma_ser.attacks.minimum_norm import cut_to_largest
from sigma_ser.core.errors import AttackError, SigmaError

from .masked_victim import Cut, MaskedVictim
from .peer import Peer


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ExternalAttack(SparseAttack):
    """An attack of another library, inside a mask or free.

    It attacks images `z` in [0, 1], from `z = 0.5`, of the victim `f(x + m (2 z - 1) epsilon
    scale)`, so that its own box keeps our ball and mask. What it gives back is cut to the `k` units
    that moved most, and checked again by one forward pass; that is the result, fooling or not. All
    its passes are booked to the utterance that they were made for; `steps` is 1.

    Args:
        peer: the attack, with its own settings.
        together: attack all utterances of one length in one call: faster, but what an attack
            draws or stops at then depends on the neighbours, and attacks that drop or reorder
            rows cannot be used. `False` attacks one utterance a call, from its own seed.
        cut: `inside` shows the victim only the `k` units that moved most already during the
            attack, so that a dense attack looks for a sparse perturbation; see `MaskedVictim`.

    An attack that reaches `max_passes` or `max_seconds` is stopped, and its last query counts.
    """

    peer: Peer
    together: bool = False
    cut: Cut = "after"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cut not in {"after", "inside"}:
            raise AttackError(f"cut must be 'after' or 'inside', got {self.cut!r}")

    def search(self, active: ActiveSet) -> None:
        delta = active.zeros()
        try:
            for rows in _groups(active.lengths, self.together):
                frames = int(active.lengths[rows[0]])
                delta[rows, :frames] = self._found(active, rows)
        except KeyboardInterrupt:
            with contextlib.suppress(SearchEnded):
                self._check(active, delta)
            raise
        self._check(active, delta)

    @staticmethod
    def _check(active: ActiveSet, delta: Float[Tensor, "A T D"]) -> None:
        # What was found is looked at, also where the attack has used up its limits.
        active.meter = Meter(Limits())
        active.observe(cut_to_largest(active, delta))

    def _found(self, active: ActiveSet, rows: Int[Tensor, "R"]) -> Float[Tensor, "R T D"]:
        """What the other library finds for utterances of one length."""
        most = self.max_passes
        # One pass is left for the check.
        limits = Limits(most if most is None else max(1, most - 1), self.max_seconds)
        model = MaskedVictim(active, rows, self.cut, limits)
        target = None if active.target is None else active.target[rows]
        # Of the whole task: a budget may hold a count for each of its utterances.
        k = active.budget.elements(active.task.batch.lengths, active.x.shape[2])
        elements = int(k[active.rows[rows[0]]])
        seed = active.noise.generators[int(rows[0])].initial_seed()
        try:
            with _quiet(), _seeded(seed), torch.enable_grad():
                found = self.peer(model, model.start, active.labels[rows], target, elements)
        except SearchEnded:
            found = model.start if model.last is None else model.last
        except SigmaError:
            raise
        except Exception as fault:
            raise AttackError(
                f"{self.peer!r} failed on features of shape {tuple(model.start.shape)} "
                f"({type(fault).__name__}: {fault}); see its own documentation"
            ) from fault
        found = found.detach().to(model.start).nan_to_num(0.5).clamp(0.0, 1.0)
        return model.delta(found).detach()


def _groups(lengths: Int[Tensor, "A"], together: bool) -> Iterator[Int[Tensor, "R"]]:
    """Utterances that are attacked in one call."""
    if not together:
        yield from torch.arange(len(lengths), device=lengths.device)[:, None]
        return
    for length in sorted(set(lengths.tolist())):
        yield (lengths == length).nonzero()[:, 0]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Global generators, which other libraries draw from, at a seed; as they were afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Other libraries print and warn about images, devices and their own dependencies."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
