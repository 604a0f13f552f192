"""The error of a broken law, and conditions that several checks share."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sigma_ser.core.errors import SigmaError
from sigma_ser.core.features import FeatureBatch


class ConformanceError(SigmaError, AssertionError):
    """A member that breaks a law of its kind; the message names the law and how it was broken."""


def require(condition: bool, member: object, law: str) -> None:
    """Raise `ConformanceError` unless the condition holds."""
    if not condition:
        raise ConformanceError(f"{name_of(member)} {law}")


def name_of(member: object) -> str:
    """The name of a member in messages: that of its class or function."""
    return str(getattr(member, "__name__", type(member).__name__))


def require_close(
    found: Tensor, expected: Tensor, member: object, law: str, *, atol: float, rtol: float
) -> None:
    """Raise unless two tensors of one shape agree within `atol + rtol * |expected|`."""
    require(found.shape == expected.shape, member, f"{law}: the shapes differ")
    if found.numel() and not torch.allclose(found, expected, rtol, atol):
        difference = float((found - expected).abs().max())
        raise ConformanceError(f"{name_of(member)} {law}: values differ by up to {difference:.3g}")


@contextlib.contextmanager
def inputs_unchanged(member: object, **inputs: Any) -> Iterator[None]:
    """Raise if a call changes its arguments, the weights of a module, or global random numbers.

    Args:
        member: what is called.
        inputs: tensors, batches, or objects with a torch `module`, by the name of the argument.
    """
    numbers = _global_numbers()
    before = {name: _snapshot(value) for name, value in inputs.items()}
    yield
    for name, value in inputs.items():
        require(
            _same(before[name], _snapshot(value)), member, f"changes its argument {name} in place"
        )
    for library, state in _global_numbers().items():
        require(
            _same(numbers[library], state),
            member,
            f"draws from the global random number generator of {library}; draw from the seeds",
        )


def _global_numbers() -> dict[str, Any]:
    """The states of the global random number generators; type checkers draw from that of Python."""
    return {
        "torch": torch.random.get_rng_state(),
        "numpy": str(np.random.get_state(legacy=False)["state"]),  # noqa: NPY002
    }


def _snapshot(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, FeatureBatch):
        return value.x.clone(), value.lengths.clone()
    module = getattr(value, "module", value)
    if isinstance(module, torch.nn.Module):
        hooks = [len(part._forward_hooks) + len(part._backward_hooks) for part in module.modules()]
        gradients = [parameter.grad is not None for parameter in module.parameters()]
        modes = [part.training for part in module.modules()]
        return [one.clone() for one in module.state_dict().values()], hooks, gradients, modes
    return copy.copy(value)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    return bool(first == second)


def require_configuration(member: object, hidden: frozenset[str] = frozenset()) -> None:
    """Raise unless `repr` of a dataclass names each of its settings with its value.

    Args:
        member: an attack or explainer; one that is not a dataclass needs a `repr` of its own.
        hidden: settings that may be left out while they are `None`.
    """
    shown = repr(member)
    require(not shown.startswith("<"), member, f"has no repr that shows its settings, but {shown}")
    if not dataclasses.is_dataclass(member):
        return
    for field in dataclasses.fields(member):
        value = getattr(member, field.name)
        if field.repr and not (value is None and field.name in hidden):
            require(
                f"{field.name}={value!r}" in shown,
                member,
                f"does not show its setting {field.name} in its repr",
            )
