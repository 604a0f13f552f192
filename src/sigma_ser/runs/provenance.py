"""The environment that is recorded with each run, for reproducibility."""

from __future__ import annotations

import platform
from typing import Any

from sigma_ser.core.cores import usable_cores


def environment() -> dict[str, Any]:
    """Python, machine, number of cores, and the versions of the packages that compute."""
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
        "cores": usable_cores(),
        **{name: installed(name) for name in packages},
    }
