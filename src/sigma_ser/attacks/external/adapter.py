"""The adapter that runs an attack of another library under the budget, counted and audited."""

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
    """An attack of another library, with or without a mask.

    The attack receives the model `z -> f(x + m (2 z - 1) epsilon scale)` on images `z` in [0, 1]
    and starts at `z = 0.5`, so the image box enforces the Linf ball and the mask. Its output is
    projected to the `k` units of largest `|delta| / epsilon` and evaluated by one more forward
    pass; that is the result, also without a success. Passes are counted per utterance; `steps` is
    1. An attack that reaches `max_passes` or `max_seconds` is stopped, and its last query is used.

    Args:
        peer: the attack of the other library, with its settings.
        together: attack all utterances of equal length in one call. This is faster, but random
            numbers and stopping rules then depend on the other utterances of the batch, and
            attacks that drop or reorder rows are not supported. If false, each utterance is
            attacked in its own call with its own seed.
        cut: `after` projects the output only; `inside` also projects during the attack, so a
            dense attack optimises a sparse perturbation (see `MaskedVictim`).
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
        # The output is evaluated even if the attack has exhausted its limits.
        active.meter = Meter(Limits())
        active.observe(cut_to_largest(active, delta))

    def _found(self, active: ActiveSet, rows: Int[Tensor, "R"]) -> Float[Tensor, "R T D"]:
        """The perturbations of the other library for utterances of equal length."""
        most = self.max_passes
        # One pass is reserved for the final evaluation.
        limits = Limits(most if most is None else max(1, most - 1), self.max_seconds)
        model = MaskedVictim(active, rows, self.cut, limits)
        target = None if active.target is None else active.target[rows]
        # For the complete batch, because a budget may hold one count per utterance.
        k = active.budget.elements(active.problem.batch.lengths, active.x.shape[2])
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
                f"({type(fault).__name__}: {fault}); see the documentation of that library"
            ) from fault
        found = found.detach().to(model.start).nan_to_num(0.5).clamp(0.0, 1.0)
        return model.delta(found).detach()


def _groups(lengths: Int[Tensor, "A"], together: bool) -> Iterator[Int[Tensor, "R"]]:
    """The groups of utterances that are attacked in one call."""
    if not together:
        yield from torch.arange(len(lengths), device=lengths.device)[:, None]
        return
    for length in sorted(set(lengths.tolist())):
        yield (lengths == length).nonzero()[:, 0]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random generators, which other libraries use; restore them afterwards."""
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
    """Suppress what other libraries print and warn about images, devices and dependencies."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
