"""`certify`: a lower bound on the margins of a victim, by the method that suits it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sigma_ser.core import registry
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import CertificateError
from sigma_ser.core.features import FeatureBatch

from .allowed import checked_task
from .certificate import Certificate, CertificateMethod


def certify(  # noqa: PLR0917 - the public signature
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    mask: Bool[Tensor, "B T D"] | None = None,
    method: str | CertificateMethod | None = None,
    **settings: Any,
) -> Certificate:
    """Bound from below what any attack under a budget can make of the margins of a victim.

    Args:
        victim: the classifier.
        batch: clean features `(B, T, D)`.
        labels: true class indices `(B,)`.
        budget: the number of units that may change, and by how much.
        mask: bool `(B, T, D)`, the elements that may change, such as a mask of SIGMA; `None`: all.
        method: one of `registry.names("certificate")`, or a method object. `None` takes the
            proven method with the largest margins among those that suit the victim; if there is
            none, the victim is tested for being affine, which proves nothing. `frame-ablation`
            certifies another model, the smoothed victim, and has to be named.
        **settings: settings of a method that is given by name.

    Returns:
        The certificate. Without a suitable method its margins are `-inf`.

    Raises:
        UnknownNameError: if there is no such method.
        CertificateError: if the method that is named does not suit the victim, or a setting is
            not valid.
        AttackError: if labels or mask do not fit the batch.
        BudgetError: if the budget cannot be met.

    >>> import torch, sigma_ser as ss
    >>> victim = ss.wrap(ss.heads.Linear(8, 3).eval())
    >>> batch = ss.FeatureBatch(torch.randn(4, 5, 8), torch.full((4,), 5))
    >>> labels = victim(batch.x, batch.lengths).argmax(1)
    >>> bound = ss.certify(victim, batch, labels, ss.Budget(count=2, epsilon=1e-4))
    >>> bound.method, bound.proven, bound.certified.tolist()
    ('affine', True, [True, True, True, True])
    """
    if method is not None:
        made = _made(method, settings)
        if not made.suits(victim):
            raise CertificateError(
                f"the certificate {made.name!r} does not suit {victim!r}; "
                "ss.certify(..., method=None) chooses one that does, where there is one"
            )
        return made(victim, batch, labels, budget, mask=mask)
    if settings:
        raise CertificateError(
            f"settings ({', '.join(settings)}) need the name of their method: certify(..., method=)"
        )
    return _tightest(victim, batch, labels, budget, mask)


def _made(method: str | CertificateMethod, settings: dict[str, Any]) -> CertificateMethod:
    if isinstance(method, str):
        made: CertificateMethod = registry.make("certificate", method, settings)
        return made
    if settings or not isinstance(method, CertificateMethod):
        raise CertificateError(
            "a method is given by name with its settings, or as an object without settings, "
            f"got {method!r} with {settings}"
        )
    return method


def _tightest(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    mask: Bool[Tensor, "B T D"] | None,
) -> Certificate:
    kinds = [registry.get("certificate", name) for name in registry.names("certificate")]
    known = [kind() for kind in kinds if not kind.smoothed]
    suitable = [one for one in known if one.suits(victim)]
    proven = [one(victim, batch, labels, budget, mask=mask) for one in suitable if one.proven]
    if proven:
        best: Certificate = max(proven, key=lambda found: float(found.margin.sum()))
        return best
    for one in suitable:
        found: Certificate = one(victim, batch, labels, budget, mask=mask)
        if bool((found.margin > -torch.inf).any()):
            return found
    checked_task(victim, batch, labels, mask)
    unknown = torch.full((len(batch),), -torch.inf, dtype=torch.float64)
    return Certificate(unknown, "none", False, torch.zeros_like(unknown))
