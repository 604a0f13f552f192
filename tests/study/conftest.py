"""A study small enough to run whole in a few seconds, on real embedded speech."""

from __future__ import annotations

import copy
import csv
from pathlib import Path
from typing import Any

import pytest

import sigma_ser as ss
from sigma_ser.demo import corpus_path

SPEAKERS = ("f1", "m1", "f4")
LABELS = ("angry", "neutral", "sad")
WORDS = 3


@pytest.fixture(scope="session")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 27 embedded recordings: three voices, three emotions, three words."""
    with (corpus_path() / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    words = sorted({row["text_id"] for row in rows})[:WORDS]
    path = tmp_path_factory.mktemp("corpus") / "small.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "path", "label", "speaker", "text"])
        writer.writeheader()
        for row in rows:
            if row["speaker"] in SPEAKERS and row["label"] in LABELS and row["text_id"] in words:
                writer.writerow(
                    {
                        "id": row["id"],
                        "path": str((corpus_path() / row["path"]).resolve()),
                        "label": row["label"],
                        "speaker": row["speaker"],
                        "text": row["text_id"],
                    }
                )
    return path


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures but those of `finished`: to draw them takes half of the time of a small study."""
    monkeypatch.setattr("sigma_ser.report.writer.write_figures", lambda *given: None)


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
def finished(tmp_path_factory: pytest.TempPathFactory, study_values: dict[str, Any]) -> ss.Study:
    """One finished run; a test that changes it works on a copy of its folder."""
    return ss.run(study_values, out=tmp_path_factory.mktemp("run") / "small")
