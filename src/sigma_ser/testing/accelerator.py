"""A stand-in for an accelerator, so that code for devices is tested where there is none.

Within `accelerator()`, the device `cuda` exists: its tensors are computed on the CPU, but state
that they are on `cuda:0`. An operation that mixes them with tensors of the CPU is an error, as on
a real device, and so is a conversion to NumPy. Values are those of the CPU; nothing is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("cuda", 0)
_CPU = torch.device("cpu")
# Only types and storage of tensors are read or exchanged, so both devices may occur.
_EXCHANGES = {"_has_compatible_shallow_copy_type", "set_", "copy_"}
_MOVES = {Tensor.to, Tensor.cpu, Tensor.cuda}


class _OnDevice(Tensor):
    """A tensor of the stand-in."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        with torch._C.DisableTorchFunction():
            copy = self.detach().clone().as_subclass(_OnDevice)
            copy.requires_grad_(self.requires_grad)
        if getattr(self, "_is_param", False):
            copy._is_param = True
        memo[id(self)] = copy
        return copy

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise _no_array()


@contextmanager
def accelerator() -> Iterator[torch.device]:
    """Make `cuda` a device for the block; yields the device."""
    future = torch.__future__
    before = future.get_overwrite_module_params_on_conversion()
    # The parameters of a module change their type when it moves.
    future.set_overwrite_module_params_on_conversion(True)
    try:
        with (
            patch("torch.cuda.is_available", lambda: True),
            patch("torch.cuda.current_device", lambda: DEVICE.index),
            _Rules(),
        ):
            yield DEVICE
    finally:
        future.set_overwrite_module_params_on_conversion(before)


class _Rules(TorchFunctionMode):
    """What happens to each call of torch within the block."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is Tensor.pin_memory:
            return args[0]
        if func in _MOVES:
            return _moved(func, args[0], list(args[1:]), given)
        if _OnDevice not in types and "device" not in given:
            with torch._C.DisableTorchFunction():
                return func(*args, **given)
        # Properties come here as the bound `__get__` of their descriptor.
        read = getattr(getattr(func, "__self__", None), "__name__", None)
        if read in ("device", "is_cuda"):
            there = isinstance(args[0], _OnDevice)
            return there if read == "is_cuda" else (DEVICE if there else _CPU)
        if func is Tensor.numpy and isinstance(args[0], _OnDevice):
            raise _no_array()
        wanted = _device(given.pop("device", None))
        if wanted == DEVICE and given.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        if wanted is None:
            _check(func, args, given)
        place = wanted or _place(func, args, given)
        with torch._C.DisableTorchFunction():
            result = func(*args, **given)
        return _all_placed(result, place)


def _device(given: Any) -> torch.device | None:
    if given is None:
        return None
    return DEVICE if torch.device(given).type == DEVICE.type else _CPU


def _place(func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> torch.device:
    """The device of the result."""
    of = args[:1] if func in (Tensor.__getitem__, Tensor.copy_) else (args, given)
    return DEVICE if any(isinstance(one, _OnDevice) for one in _leaves(of)) else _CPU


def _leaves(values: Any) -> Iterator[Any]:
    """All values, those within tuples, lists and mappings too."""
    for one in values.values() if isinstance(values, Mapping) else values:
        if isinstance(one, tuple | list | dict):
            yield from _leaves(one)
        else:
            yield one


def _all_placed(result: Any, place: torch.device) -> Any:
    if isinstance(result, Tensor):
        return _placed(result, place)
    if isinstance(result, torch.Size) or not isinstance(result, tuple | list):
        return result
    return tree_map(lambda one: _placed(one, place), result)


def _placed(value: Any, place: torch.device) -> Any:
    wanted = _OnDevice if place == DEVICE else Tensor
    if not isinstance(value, Tensor) or isinstance(value, _OnDevice) == (place == DEVICE):
        return value
    with torch._C.DisableTorchFunction():
        return value.as_subclass(wanted)


def _check(func: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> None:
    """Raise the error of torch where the tensors of a call are on different devices."""
    leaves = [one for one in _leaves((args, given)) if isinstance(one, Tensor)]
    there = [one for one in leaves if isinstance(one, _OnDevice)]
    name = getattr(func, "__name__", "")
    if not there or name in _EXCHANGES:
        return
    if func in (Tensor.__getitem__, Tensor.__setitem__):
        indices = [one for one in _leaves([args[1]]) if isinstance(one, _OnDevice)]
        if indices and not isinstance(args[0], _OnDevice):
            raise RuntimeError(
                "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
            )
        # An index on the CPU is allowed everywhere.
        leaves = [args[0], *args[2:]] if isinstance(args[0], _OnDevice) else []
    with torch._C.DisableTorchFunction():
        # A number from the CPU may take part in any operation.
        other = [
            one
            for one in leaves
            if isinstance(one, Tensor) and not isinstance(one, _OnDevice) and one.ndim
        ]
    if other:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"cuda:0 and cpu! ({name})"
        )


def _moved(func: Callable[..., Any], tensor: Tensor, rest: list[Any], given: Any) -> Tensor:
    """A tensor after `to`, `cpu` or `cuda`; the tensor itself where nothing changes."""
    place = DEVICE if isinstance(tensor, _OnDevice) else _CPU
    if func is Tensor.cpu:
        place, rest, given = _CPU, [], {}
    elif func is Tensor.cuda:
        place, rest, given = DEVICE, [], {}
    if "device" in given:
        place = _device(given.pop("device")) or place
    for number, value in enumerate(rest):
        if isinstance(value, str | torch.device):
            place = _device(value) or place
        elif isinstance(value, Tensor):
            place = DEVICE if isinstance(value, _OnDevice) else _CPU
        else:
            continue
        with torch._C.DisableTorchFunction():
            rest[number] = value.dtype if isinstance(value, Tensor) else "cpu"
    stays = isinstance(tensor, _OnDevice) == (place == DEVICE)
    with torch._C.DisableTorchFunction():
        result = Tensor.to(tensor, *rest, **given) if rest or given else tensor
        if stays and result is tensor:
            return tensor
        if not stays and result is tensor:
            result = tensor.clone()
        return result.as_subclass(_OnDevice if place == DEVICE else Tensor)


def _no_array() -> TypeError:
    return TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
