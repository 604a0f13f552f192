"""The inputs of an attack as values that can be copied and compared."""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from typing import Any

import torch
from torch import Tensor, nn

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.features import FeatureBatch

# Integer types of the widths of floating-point numbers, for comparisons of bits.
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def autograd_usable() -> contextlib.AbstractContextManager[None]:
    """Leave `torch.inference_mode` of the caller, under which autograd records nothing."""
    if torch.is_inference_mode_enabled():
        return torch.inference_mode(False)
    return contextlib.nullcontext()


def copied(value: Any) -> Any:
    """A copy that shares no memory with a tensor, batch or budget; other values are returned."""
    if isinstance(value, Tensor):
        with torch.inference_mode(False):
            return value.detach().clone()
    if isinstance(value, FeatureBatch):
        return FeatureBatch(copied(value.x), copied(value.lengths), value.ids)
    if isinstance(value, Budget):
        return dataclasses.replace(value, count=copied(value.count), epsilon=copied(value.epsilon))
    return value


def same(first: Any, second: Any) -> bool:
    """Whether two values are equal, tensors bit for bit, so that NaN equals NaN."""
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        alike = first.dtype == second.dtype and first.shape == second.shape
        return alike and torch.equal(_bits(first), _bits(second))
    if isinstance(first, FeatureBatch | Budget) and type(first) is type(second):
        fields = dataclasses.fields(first)
        return all(same(getattr(first, one.name), getattr(second, one.name)) for one in fields)
    return type(first) is type(second) and bool(first == second)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.view(_BITS[tensor.element_size()]) if tensor.is_floating_point() else tensor


def weights_of(victim: Any) -> list[Tensor]:
    """The floating-point weights of a victim's modules, and its mean and scale."""
    found: list[Any] = [getattr(victim, "mean", None), getattr(victim, "scale", None)]
    for part in (victim, *getattr(victim, "__dict__", {}).values()):
        if isinstance(part, nn.Module):
            found += part.state_dict(keep_vars=True).values()
        elif part is not victim and isinstance(part, Victim):  # a victim around another one
            found += weights_of(part)
    return [one for one in found if isinstance(one, Tensor) and one.is_floating_point()]


def versions(tensors: list[Tensor]) -> list[tuple[int, int]]:
    """Address and version counter of tensors: changes in place that autograd notices, at no cost.

    Tensors made under `torch.inference_mode` have no counter.
    """
    return [(one.data_ptr(), -1 if one.is_inference() else one._version) for one in tensors]


def checksums(tensors: list[Tensor]) -> list[int]:
    """A checksum of the bytes of each tensor."""
    return [
        zlib.crc32(one.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        for one in tensors
    ]
