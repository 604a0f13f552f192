"""The laws of certificates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.certificates.certificate import Certificate, CertificateMethod
from sigma_ser.core import registry
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.passes import per_channel

from .laws import inputs_unchanged, require, require_close, require_configuration

_MOST_ELEMENTS = 10
_ROUNDING = 1e-4


def check_certificate(
    method: str | CertificateMethod,
    victim: Victim,
    batch: FeatureBatch,
    *,
    mask: Bool[Tensor, "B T D"] | None = None,
) -> None:
    """Check the laws of a method of certification on one small victim.

    No margin is larger than what brute force over all corners of the allowed changes reaches; the
    margin of an utterance is the same alone, in company and behind more padding; it does not grow
    with the budget; the arguments stay unchanged; `repr` shows the settings.

    Args:
        method: a registered name, or a method object, that certifies the victim itself.
        victim: a victim that the method suits.
        batch: utterances of at most ten elements each, since brute force visits every corner.
        mask: bool `(B, T, D)`; `None` allows all elements.

    Raises:
        ConformanceError: names the first law that is broken.

    >>> import torch, sigma_ser as ss
    >>> from sigma_ser.testing import check_certificate
    >>> victim = ss.wrap(ss.heads.Linear(2, 3).eval())
    >>> batch = ss.FeatureBatch(torch.randn(2, 4, 2), torch.tensor([4, 3]))
    >>> check_certificate("affine", victim, batch)
    """
    if isinstance(method, str):
        method = registry.make("certificate", method)
    require(isinstance(method, CertificateMethod), method, "is not a method of certification")
    assert isinstance(method, CertificateMethod)
    require_configuration(method)
    require(method.suits(victim), method, "does not suit the victim that it is checked on")
    require(not method.smoothed, method, "certifies another model, which this check cannot do")
    with torch.no_grad():
        labels = victim(batch.x, batch.lengths).argmax(1)
    for budget in _budgets():
        with inputs_unchanged(method, batch=batch, labels=labels, victim=victim):
            bound = method(victim, batch, labels, budget, mask=mask)
        _check_fields(method, bound, batch)
        truth = smallest_corner_margin(victim, batch, labels, budget, mask)
        excess = float((bound.margin - truth).max())
        require(
            excess <= 0,
            method,
            f"states a margin that is {excess:.3g} larger than the smallest one that is allowed "
            f"({budget})",
        )
        last = torch.tensor([len(batch) - 1])
        inside = None if mask is None else mask[last, : int(batch.lengths[-1])]
        alone = method(victim, batch.select(last), labels[last], budget, mask=inside)
        law = "returns another margin for an utterance alone than in company"
        require_close(alone.margin, bound.margin[last], method, law, atol=_ROUNDING, rtol=_ROUNDING)
    _check_order(method, victim, batch, labels, mask)


def smallest_corner_margin(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    mask: Bool[Tensor, "B T D"] | None = None,
) -> Float[Tensor, "B"]:
    """The smallest `z_y - max_j z_j` over all corners of the changes that the audit accepts.

    Args:
        victim: the victim.
        batch: utterances of at most ten elements each.
        labels: true classes `(B,)`.
        budget: the number of units that may change, and by how much.
        mask: the elements that may change; `None`: all.

    Returns:
        float64 `(B,)`.
    """
    channels = batch.x.shape[2]
    units = budget.units(batch.lengths, channels).tolist()
    bound = budget.bound(per_channel(victim.scale, batch.x))
    found = []
    for row, length in enumerate(batch.lengths.tolist()):
        size = length * channels
        require(size <= _MOST_ELEMENTS, victim, f"has an utterance of more than {_MOST_ELEMENTS}")
        signs = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=size)))
        radius = bound if bound.ndim == 1 else bound[row, 0]
        delta = signs.view(-1, length, channels) * radius
        lengths = batch.lengths[row].expand(len(delta))
        allowed = budget.touched(delta != 0, lengths) <= units[row]
        if mask is not None:
            allowed &= ~((delta != 0) & ~mask[row, :length]).flatten(1).any(1)
        with torch.no_grad():
            logits = victim((batch.x[row, :length] + delta)[allowed], lengths[allowed])
        own = logits[:, labels[row]].clone()
        logits[:, labels[row]] = -torch.inf
        found.append(float((own - logits.amax(1)).min()))
    return torch.tensor(found, dtype=torch.float64)


def _budgets() -> Iterator[Budget]:
    for epsilon in (0.1, 1.0):
        yield Budget(sparsity=0.3, epsilon=epsilon)
        yield Budget(sparsity=0.5, epsilon=epsilon, granularity="frame")
        yield Budget(sparsity=0.5, epsilon=epsilon, granularity="channel")
        yield Budget(sparsity=0.5, epsilon=epsilon, granularity="segment", segment_frames=2)


def _check_fields(method: CertificateMethod, bound: Certificate, batch: FeatureBatch) -> None:
    require(isinstance(bound, Certificate), method, "does not return a Certificate")
    shapes = {tuple(bound.margin.shape), tuple(bound.allowance.shape)}
    require(shapes == {(len(batch),)}, method, "does not return one margin for each utterance")
    require(bool((bound.allowance >= 0).all()), method, "returns a negative allowance")
    same = bound.method == method.name and bound.proven == method.proven
    require(same, method, "returns a certificate under the name of another method")


def _check_order(
    method: CertificateMethod,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    mask: Bool[Tensor, "B T D"] | None,
) -> None:
    ordered = [
        method(victim, batch, labels, Budget(sparsity=sparsity, epsilon=epsilon), mask=mask).margin
        for sparsity, epsilon in ((0.2, 0.2), (0.2, 0.6), (0.8, 0.6))
    ]
    for smaller, larger in itertools.pairwise(ordered):
        grown = bool((larger > smaller + _ROUNDING).any())
        require(not grown, method, "states a larger margin for a larger budget")
