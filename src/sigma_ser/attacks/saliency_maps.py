"""Saliency maps with their computation graph, for objectives that contain an explanation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from sigma_ser.core.errors import AttackError
from sigma_ser.core.passes import input_gradient

from .active_set import ActiveSet

DifferentiableMap = Literal["gradient", "input-x-gradient", "integrated-gradients"]


def check_saliency(attack: object, kind: str) -> None:
    """Check the setting `saliency` of an attack.

    Raises:
        AttackError: if it is not a `DifferentiableMap`.
    """
    kinds = get_args(DifferentiableMap)
    if kind not in kinds:
        name = type(attack).__name__
        raise AttackError(f"saliency of {name} must be one of {', '.join(kinds)}, got {kind!r}")


def saliency_map(
    active: ActiveSet,
    x: Float[Tensor, "A T D"],
    logits: Float[Tensor, "A C"],
    kind: DifferentiableMap,
    path: int,
    *,
    classes: Int[Tensor, "A"] | None = None,
) -> Float[Tensor, "A T D"]:
    """`|A(x)|` for one class, zero on padding, with its computation graph.

    Args:
        active: the utterances.
        x: perturbed features of which `logits` are those.
        logits: of the victim.
        kind: of the map.
        path: number of points on the path of `integrated-gradients`.
        classes: `(A,)` explained classes; `None`: the true ones.
    """
    classes = active.labels if classes is None else classes
    active.meter.spend(2 * path if kind == "integrated-gradients" else 1)
    mean = active.victim.mean
    if kind == "integrated-gradients":
        shares = (torch.arange(path, device=x.device, dtype=x.dtype) + 0.5) / path
        points = (mean + shares[:, None, None, None] * (x - mean)).flatten(0, 1)
        logits = active.victim(points, active.lengths.repeat(path), active.owner.repeat(path))
        logits = logits * active.spread_factor.repeat(path)[:, None]
        score = logits.gather(1, classes.repeat(path)[:, None]).sum()
        slope = input_gradient(score / path, points, create_graph=True)
        slope = slope.view(path, *x.shape).sum(0)
    else:
        score = active.normalised(logits).gather(1, classes[:, None]).sum()
        slope = input_gradient(score, x, create_graph=True)
    attribution = slope if kind == "gradient" else slope * (x - mean)
    valid = torch.arange(x.shape[1], device=x.device)[None, :] < active.lengths[:, None]
    return attribution.abs() * valid[:, :, None]


@contextlib.contextmanager
def twice_differentiable() -> Iterator[None]:
    """Disable kernels without a second derivative: fused attention and cuDNN recurrent layers."""
    with (
        sdpa_kernel(SDPBackend.MATH),
        torch.backends.cudnn.flags(enabled=False),
    ):
        yield


class SmoothReLU(TorchFunctionMode):
    """Compute softplus in place of ReLU; `used` says whether there was one.

    A mode reaches modules and functions alike, and changes nothing of the victim.
    """

    _RELU = frozenset({
        functional.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu_,
    })  # fmt: skip

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta, self.used = beta, False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in self._RELU:
            self.used = True
            return functional.softplus(args[0], beta=self.beta)
        return func(*args, **(kwargs or {}))
