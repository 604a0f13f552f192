"""The allowance for the rounding errors of a victim's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import CertificateError

from .allowed import Allowed

# Rounding errors of sums are close to normally distributed, and the largest of about fifty lies
# above two standard deviations; four times that is far beyond what a change can reach.
_FACTOR = 4.0
_POINTS = 8
_RESOLUTION = 2 * torch.finfo(torch.float32).eps
# Differences above this share of the logits are no rounding errors.
_STRUCTURE = 1e-2


def rounding_allowance(
    victim: Victim, exact_logits: Callable[[Float[Tensor, "N T D"]], Tensor], allowed: Allowed
) -> float:
    """Measure how far the margins of a victim are from those of exact arithmetic.

    The victim is called on the clean utterance and at corners of the allowed changes, its logits
    are compared with those of float64, and the largest difference of a margin is multiplied by
    four. The errors of float64 itself are about 10^8 times smaller.

    Args:
        victim: the victim, which computes in float32.
        exact_logits: the same function in float64.
        allowed: the utterance.

    Returns:
        The allowance in logits.

    Raises:
        CertificateError: if the difference is too large for rounding.
    """
    points = corner_points(allowed)
    device = getattr(victim.scale, "device", torch.device("cpu"))
    frames = torch.full((len(points),), points.shape[1], device=device)
    with torch.no_grad():
        found = victim(points.to(device), frames).double().cpu()
    expected = exact_logits(points.double())
    difference = found - expected
    difference = difference - difference[:, allowed.label : allowed.label + 1]
    error, largest = float(difference.abs().max()), float(expected.abs().max())
    if not error <= _STRUCTURE * max(largest, 1.0):
        raise CertificateError(
            f"the logits of {victim!r} differ from those of its own weights by {error:.3g}; "
            "something else than its layers computes them, so it cannot be certified"
        )
    return _FACTOR * error + _RESOLUTION * largest


def corner_points(allowed: Allowed) -> Float[Tensor, "N T D"]:
    """The clean utterance and corners of its allowed changes, float32, the same at every call.

    Half of the corners change every element, the other half a tenth of them.
    """
    rng = torch.Generator().manual_seed(0)
    shape = (_POINTS - 1, *allowed.x.shape)
    signs = torch.randint(0, 2, shape, generator=rng) * 2.0 - 1.0
    few = torch.rand(shape, generator=rng) < 0.1
    few[: _POINTS // 2] = True
    moved = allowed.x + signs.double() * few * allowed.radius
    return torch.cat([allowed.x[None], moved]).float()
