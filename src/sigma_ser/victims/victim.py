"""Torch modules as victims, and the standardisation of trained victims."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.box import Box, checked_box
from sigma_ser.core.errors import SigmaError, VictimError
from sigma_ser.core.features import zero_padding
from sigma_ser.core.html_repr import html_table
from sigma_ser.core.passes import per_channel

from .one_by_one import one_by_one, uses_batch_statistics

# A constant channel in training would give a bound of zero and a division by zero.
_SMALLEST_SCALE = 1e-6
# Errors that modules raise for unsuitable features; the original error is kept as the cause.
_FAILURES = (
    RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError,
)  # fmt: skip


def usable_scale(deviation: Float[Tensor, "D"]) -> Float[Tensor, "D"]:
    """Bound standard deviations `(D,)` from below, so that constant channels have a scale."""
    return deviation.clamp(min=_SMALLEST_SCALE)


class Standardised(nn.Module):
    """A head behind the standardisation of its training features: `head((x - mean) / scale)`.

    Args:
        head: `(x (B, T, D), lengths (B,)) -> logits (B, C)`.
        mean: `(D,)` channel means of the training part.
        scale: `(D,)` channel standard deviations of the training part, above 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, head: nn.Module, mean: Float[Tensor, "D"], scale: Float[Tensor, "D"]
    ) -> None:
        super().__init__()
        self.head = head
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", scale.clone())

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Return the logits of the standardised features."""
        logits: Tensor = self.head((x - self.mean) / self.scale, lengths)
        return logits


class WrappedVictim:
    """A torch module as a victim, created by `wrap`; the module is not changed.

    Calls are checked: the module and all of its submodules must be in eval mode, must not change
    the features, and must return one tensor of logits `(B, C)`, which is converted to float32.
    Attacks and explainers check that the logits are finite. The module always receives zeros on
    padding, so a module that sums over all frames is exact too.

    Args:
        module: `(x (B, T, D), lengths (B,)) -> logits (B, C)`.
        class_names: class names in the order of the logits.
        mean: `(D,)` channel means of the training features.
        scale: `(D,)` channel standard deviations of the training features, above 0.
        box: smallest and largest value of a feature; `None`: unbounded.
    """

    clears_padding: ClassVar[bool] = True

    def __init__(
        self,
        module: nn.Module,
        class_names: Sequence[str] | None,
        mean: Tensor,
        scale: Tensor,
        box: Box | None = None,
    ) -> None:
        self.module = module
        self.box = box
        self._class_names = tuple(class_names) if class_names is not None else ()
        self.mean = mean
        self.scale = scale
        self._batch_statistics = uses_batch_statistics(module)
        # cuDNN has no backward pass for recurrent layers in eval mode.
        self._recurrent = any(isinstance(part, nn.RNNBase) for part in module.modules())

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the logits; empty if unknown."""
        return self._class_names

    def __call__(
        self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]
    ) -> Float[Tensor, "B C"]:
        """Compute logits.

        Args:
            x: features `(B, T, D)`; values on padding are ignored.
            lengths: valid frames `(B,)`.

        Returns:
            `(B, C)`, float32.

        Raises:
            VictimError: if the module is in training mode, fails, changes the features, or does
                not return logits `(B, C)`.
            ShapeError: if the number of channels differs from that of `scale`.
        """
        per_channel(self.scale, x)
        _check_eval(self.module)
        without_cudnn = (
            torch.backends.cudnn.flags(enabled=False)
            if self._recurrent and x.is_cuda
            else contextlib.nullcontext()
        )
        with without_cudnn:
            if self._batch_statistics and len(x):
                logits = one_by_one(self._call_module, x, lengths)
            else:
                logits = self._call_module(x, lengths)
        if logits.ndim != 2 or len(logits) != len(x):
            raise VictimError(
                f"the victim must return logits (B, C), here ({len(x)}, C), "
                f"but returned {tuple(logits.shape)}"
            )
        if self._class_names and logits.shape[1] != len(self._class_names):
            raise VictimError(
                f"the victim returned {logits.shape[1]} logits, but class_names has "
                f"{len(self._class_names)} names; give one name for each logit"
            )
        return logits.float()

    def _call_module(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Tensor:
        """Call the module; its errors become errors that name it.

        Raises:
            VictimError: if the module fails on the features, changes them, or does not return a
                tensor.
        """
        try:
            x = zero_padding(x, lengths)
            version = None if x.is_inference() else x._version
            output: Any = self.module(x, lengths)
        except (SigmaError, torch.OutOfMemoryError):
            raise
        except _FAILURES as fault:
            raise VictimError(
                f"{type(self.module).__name__} failed on features {tuple(x.shape)} "
                f"({type(fault).__name__}: {fault}); it must accept float32 x (B, T, D) with this "
                "number of channels and lengths (B,)"
            ) from fault
        if version is not None and x._version != version:
            raise VictimError(
                f"{type(self.module).__name__} changes the features in place, and so those of its "
                "caller; let its forward() use x.clone()"
            )
        if not isinstance(output, Tensor):
            raise VictimError(
                f"the victim must return logits (B, C) and nothing else, but returned "
                f"{type(output).__name__}; wrap a module whose forward() returns the logits only, "
                "such as `return self.model(x, lengths).logits`"
            )
        return output

    def to(self, device: torch.device | str) -> WrappedVictim:
        """A copy of the victim on another device, where batches must be as well.

        Args:
            device: such as `"cuda"`.
        """
        there = copy.copy(self)
        there.module = copy.deepcopy(self.module).to(device)
        there.mean, there.scale = self.mean.to(device), self.scale.to(device)
        return there

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({type(self.module).__name__}, class_names={self._class_names})"
        )

    def _repr_html_(self) -> str:
        return html_table("Victim", self._described())

    def _described(self) -> dict[str, object]:
        """What a notebook shows."""
        channels = self.scale.numel()
        return {
            "model": type(self.module).__name__,
            "classes": ", ".join(self._class_names or ()) or "not named",
            "channels": channels if channels > 1 else "any (one scale for all)",
            "parameters": f"{sum(one.numel() for one in self.module.parameters()):,}",
        }


def wrap(
    module: nn.Module,
    class_names: Sequence[str] | None = None,
    mean: float | Float[Tensor, "D"] = 0.0,
    scale: float | Float[Tensor, "D"] = 1.0,
    box: Box | None = None,
) -> WrappedVictim:
    """Wrap a torch module `(x (B, T, D), lengths (B,)) -> logits (B, C)` as a victim.

    Args:
        module: the model, in eval mode; it is not changed.
        class_names: class names in the order of the logits.
        mean: channel means `(D,)` of the training features, the baseline of explanations, or one
            number for all channels.
        scale: channel standard deviations `(D,)` of the training features, the unit of epsilon, or
            one number for all channels; above 0.
        box: smallest and largest value that a feature may have, such as `(-1, 1)` for audio;
            attacks stay inside. `None`: unbounded.

    Returns:
        A victim that calls the module.

    Raises:
        VictimError: if `module` is not a torch module or is in training mode, or if
            `class_names`, `mean`, `scale` or `box` is not valid.

    >>> import torch, sigma_ser as ss
    >>> class MeanPool(torch.nn.Linear):
    ...     def forward(self, x, lengths):
    ...         return super().forward(x.sum(1) / lengths[:, None])
    >>> victim = ss.wrap(MeanPool(8, 3).eval(), class_names=["angry", "happy", "sad"])
    >>> victim(torch.zeros(2, 5, 8), torch.tensor([5, 5])).shape
    torch.Size([2, 3])
    """
    if not isinstance(module, nn.Module):
        raise VictimError(
            f"wrap requires a torch.nn.Module in eval mode, got {type(module).__name__}; "
            "to use a function, call it in the forward() of a module"
        )
    if isinstance(class_names, str):
        raise VictimError(
            f"class_names must be a list of class names, got the string {class_names!r}"
        )
    if class_names is not None and not _are_names(class_names):
        raise VictimError(
            "class_names must be a list of different strings in the order of the logits, "
            f"got {class_names!r}"
        )
    _check_eval(module)
    mean, scale = _numbers("mean", mean), _numbers("scale", scale)
    if not bool((scale > 0).all()):
        raise VictimError("scale must be above 0 in every channel")
    return WrappedVictim(module, class_names, mean, scale, checked_box(box))


def _check_eval(module: nn.Module) -> None:
    """Raise an error if the module or any submodule is in training mode."""
    training = next((part for part in module.modules() if part.training), None)
    if training is not None:
        raise VictimError(
            f"the module {type(training).__name__} is in training mode, in which dropout and batch "
            "normalisation change its logits; call module.eval() first"
        )


def _are_names(class_names: Sequence[str]) -> bool:
    names = list(class_names)
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def _numbers(name: str, value: float | Float[Tensor, "D"]) -> Tensor:
    """Convert `mean` or `scale` to a tensor of finite numbers."""
    try:
        numbers = torch.as_tensor(value, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as fault:
        raise VictimError(
            f"{name} must be a number, or a number for each channel, got {type(value).__name__}"
        ) from fault
    if numbers.ndim > 1:
        raise VictimError(
            f"{name} must be a number, or a number for each channel (D,), "
            f"got shape {tuple(numbers.shape)}"
        )
    if not bool(torch.isfinite(numbers).all()):
        raise VictimError(f"{name} must be finite in every channel")
    return numbers
