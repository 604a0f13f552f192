"""The device on which the tasks of a study compute."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from sigma_ser.core.errors import ConfigError

CPU = torch.device("cpu")


def ready(name: str) -> torch.device:
    """A device, with kernels that compute in full float32 and repeat their results.

    On CUDA, convolutions would otherwise round their factors to 10 bits (TF32), and the choice of a
    kernel would depend on timings. A worker sees the one device that its executor gave it.

    Args:
        name: `cpu` or `cuda`.

    Raises:
        ConfigError: if there is no CUDA device.
    """
    if name == "cpu":
        return CPU
    if not torch.cuda.is_available():
        raise ConfigError(
            "evaluation.device is cuda, but this process sees no CUDA device; use cpu, or see what "
            "sigma-ser doctor lists"
        )
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda", torch.cuda.current_device())


def executor_settings(device: str, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of an executor; on CUDA one worker process for each device, unless they say more.

    Args:
        device: `cpu` or `cuda`.
        name: of the executor.
        settings: as the study gives them.
    """
    if device == "cpu" or name != "processes" or {"workers", "devices"} & set(settings):
        return dict(settings)
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = named.split(",") if named else [str(one) for one in range(torch.cuda.device_count())]
    return dict(settings) | ({"devices": visible} if visible else {"workers": 1})


def moved(victim: Any, device: torch.device) -> Any:
    """A victim on a device; on the CPU the victim itself.

    Raises:
        ConfigError: if a victim of foreign code has no method `to`.
    """
    if device == CPU:
        return victim
    if not hasattr(victim, "to"):
        raise ConfigError(
            f"{type(victim).__name__} has no method to(device), so it cannot be moved to {device}; "
            'give it one, or use evaluation.device = "cpu"'
        )
    return victim.to(device)
