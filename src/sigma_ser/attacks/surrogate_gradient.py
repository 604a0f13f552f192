"""Attacks on victims whose gradient is of no use: surrogate gradients and finite differences."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from sigma_ser.core.passes import CountedVictim

from .active_set import ActiveSet
from .base import SparseAttack, check_positive
from .dual_averaging import DualAveraging

# Piecewise constant functions, and `detach`, whose gradient is zero by definition.
_CONSTANT: frozenset[Callable[..., Any]] = frozenset(
    getattr(home, name)
    for home in (torch, Tensor)
    for name in ("round", "floor", "ceil", "trunc", "fix", "sign", "detach")
)
# Monotone functions that saturate; they are replaced on outputs of the shape of the logits only.
_SATURATING: frozenset[Callable[..., Any]] = frozenset(
    {
        torch.softmax, Tensor.softmax, functional.softmax, torch.sigmoid, Tensor.sigmoid,
        functional.sigmoid, torch.tanh, Tensor.tanh, functional.tanh, torch.clamp, Tensor.clamp,
        torch.clip, Tensor.clip, functional.hardtanh,
    }
)  # fmt: skip


class _Identity(torch.autograd.Function):
    """Returns the output that was computed; its gradient is that of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor) -> Tensor:
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class StraightThrough(TorchFunctionMode):
    """Inside this context, functions without a useful gradient have that of the identity.

    BPDA with the identity (Athalye, Carlini & Wagner 2018, section 4.1) for rounding and `detach`,
    and for `softmax`, `sigmoid`, `tanh` and `clamp` on outputs of shape `(rows, classes)`. Blocks
    under `no_grad` record gradients. Values do not change.

    Args:
        rows: number of rows of the call.
        classes: number of classes of the victim.
    """

    def __init__(self, rows: int, classes: int) -> None:
        super().__init__()
        self._shape = (rows, classes)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function, and replace its gradient where it is one of those above."""
        if func is torch._C._set_grad_enabled:
            return None
        output = func(*args, **(kwargs or {}))
        source = args[0] if args else None
        if not (isinstance(source, Tensor) and source.requires_grad):
            return output
        replaced = func in _CONSTANT or (func in _SATURATING and output.shape == self._shape)
        return _Identity.apply(source, output) if replaced else output  # type: ignore[no-untyped-call]


class _SurrogateVictim:
    """A counted victim whose calls run inside `StraightThrough`."""

    def __init__(self, victim: CountedVictim, classes: int) -> None:
        self._victim, self._classes = victim, classes

    def __call__(self, x: Tensor, lengths: Tensor, owner: Tensor | None = None) -> Tensor:
        if not x.requires_grad:
            return self._victim(x, lengths, owner)
        with StraightThrough(len(x), self._classes):
            return self._victim(x, lengths, owner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._victim, name)


@contextlib.contextmanager
def surrogate_gradients(active: ActiveSet) -> Iterator[None]:
    """Inside this context, the gradients of an active set are surrogate gradients."""
    victim = active.victim
    classes = active.problem.clean_logits.shape[1]
    active.victim = _SurrogateVictim(victim, classes)  # type: ignore[assignment]
    try:
        yield
    finally:
        active.victim = victim


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SurrogateGradient(SparseAttack):
    """Dual averaging on the gradient of a victim whose rounding is replaced by the identity.

    Args:
        steps: gradient steps per run, at least 1.
    """

    steps: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps")

    def search(self, active: ActiveSet) -> None:
        with surrogate_gradients(active):
            DualAveraging(steps=self.steps, losses=("margin",), all_targets=True).search(active)


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class SmoothedGradient(SparseAttack):
    """Dual averaging on finite differences over random directions; uses no gradient.

    The gradient of the margin, averaged over a neighbourhood of the size of the budget's bound,
    is estimated as `mean_i (m(x + sigma u_i) - m(x - sigma u_i)) u_i` with random signs `u_i`
    (antithetic evolution strategies: Salimans et al. 2017; Ilyas et al. 2018). Steps in the margin
    that rounding makes are averaged out.

    Args:
        steps: steps, at least 1.
        directions: random directions per step, at least 1; each costs two forward passes.
        sigma: length of a difference as a fraction of `epsilon * scale`, above 0.
    """

    steps: int = 10
    directions: int = 10
    sigma: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "steps", "directions", "sigma")

    def search(self, active: ActiveSet) -> None:
        delta, total = active.zeros(), active.zeros()
        for step in range(self.steps):
            total.add_(self._estimate(active, delta), alpha=float(step + 1))
            delta, total = active.observe(active.corner(total), active.corner(total), total)

    def _estimate(self, active: ActiveSet, delta: Tensor) -> Float[Tensor, "A T D"]:
        estimate = active.zeros()
        for _ in range(self.directions):
            signs = active.noise.signs(active.x)
            move = torch.where(active.allowed, signs * self.sigma * active.bound, 0.0)
            ahead = active.observed_margin(active.logits(delta + move))
            behind = active.observed_margin(active.logits(delta - move))
            estimate.add_(torch.where(active.allowed, signs, 0.0) * (ahead - behind)[:, None, None])
        # A difference along `bound * signs` estimates `bound * gradient`.
        return estimate.div_(active.bound.clamp(min=1e-30))


def are_probabilities(logits: Float[Tensor, "B C"]) -> Tensor:
    """`(B,)`: whether a row lies in [0, 1] and sums to 1, as the output of a softmax does."""
    within = ((logits >= 0) & (logits <= 1)).all(1)
    return within & ((logits.sum(1) - 1).abs() < 1e-4)


def is_flat(
    gradient: Float[Tensor, "B T D"],
    bound: Float[Tensor, "*B D"],
    units: Int[Tensor, "B"],
    largest_logit: Float[Tensor, "B"],
) -> Tensor:
    """`(B,)`: whether `k` changes of the bound's size move a loss by less than float32 resolves."""
    reach = (gradient.abs() * bound).flatten(1).amax(1) * units
    return reach < torch.finfo(torch.float32).eps * largest_logit
