"""A study small enough to run whole in a few seconds, on real embedded speech."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import sigma_ser as ss


@pytest.fixture(scope="module", autouse=True)
def short_studies(short_runs: None) -> None:
    """All studies here are short."""


@pytest.fixture
def small_study(study_values: dict[str, Any]) -> dict[str, Any]:
    """The values of the small study, for one test to change."""
    return copy.deepcopy(study_values)


@pytest.fixture(scope="session")
def study_values(small_corpus: Path) -> dict[str, Any]:
    """Two victims, one explainer, native and guided attacks, one budget, everything in process."""
    return {
        "name": "small",
        "corpus": {
            "name": "manifest",
            "root": str(small_corpus),
            "protocol": "speaker-kfold",
            "protocol_settings": {"folds": 3},
            "folds": [0],
        },
        "encoder": {"name": "demo"},
        "victims": [
            {"head": "linear", "epochs": 30, "learning_rate": 0.01},
            {"head": "mlp", "epochs": 10, "head_settings": {"hidden": 16}},
        ],
        "explainers": {"integrated-gradients": {"steps": 4}},
        "consistency": {"explainer": "gradient"},
        "attacks": [
            {
                "name": "dual-averaging",
                "steps": 3,
                "explainers": ["integrated-gradients"],
                "scopes": [4],
                "mask_sources": ["own", "linear"],
            },
            {
                "name": "pgd",
                "native": False,
                "explainers": ["random"],
                "mask_sources": ["own", "others"],
                "steps": 3,
            },
        ],
        "evaluation": {"batch_size": 4, "exemplars": 1},
        "executor": {"name": "inline"},
    }


@pytest.fixture(scope="session")
def finished(
    once: Callable[..., ss.Study],
    shortened: Callable[[], AbstractContextManager[None]],
    study_values: dict[str, Any],
) -> ss.Study:
    """One finished run; a test that changes it works on a copy of its folder."""

    def run(folder: Path) -> ss.Study:
        with shortened():
            return ss.run(study_values, out=folder / "small")

    return once("small-study", run)
