"""What may matter to who repeats a run."""

from __future__ import annotations

import os
import platform
from typing import Any


def environment() -> dict[str, Any]:
    """Python, machine, cores, and the versions of what computes."""
    from importlib.metadata import PackageNotFoundError, version

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "absent"

    packages = ("sigma-ser", "torch", "transformers", "captum", "numpy", "polars", "soxr")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        **{name: installed(name) for name in packages},
    }
