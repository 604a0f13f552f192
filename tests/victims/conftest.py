"""A feature store with separable classes, made without an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from sigma_ser.encoders.store import FeatureStore

CLASSES = ("angry", "neutral", "sad")
CHANNELS = 10


class SmallStore(FeatureStore):
    """A `FeatureStore` in memory: in utterances of class `c` channel `c` has a larger mean."""

    class_names = CLASSES
    card: ClassVar[dict[str, Any]] = {
        "corpus": {"name": "small", "key": "k"},
        "encoder": {"name": "none", "weights": "w", "layer": 2},
        "encoder_key": "e",
        "dtype": "float32",
        "format": 1,
    }

    def __init__(self, per_class: int = 30) -> None:
        rng = torch.Generator().manual_seed(1)
        self._x: dict[str, torch.Tensor] = {}
        self._label: dict[str, int] = {}
        for label, name in enumerate(CLASSES):
            for number in range(per_class):
                frames = int(torch.randint(4, 12, (), generator=rng))
                x = 5 + 3 * torch.randn(frames, CHANNELS, generator=rng)
                x[:, label] += 3
                self._x[f"{name}-{number}"] = x
                self._label[f"{name}-{number}"] = label

    @property
    def ids(self) -> list[str]:
        return list(self._x)

    def batch(self, ids):
        from sigma_ser.core.features import pad

        return pad([self._x[name] for name in ids], ids)

    def labels(self, ids):
        return torch.tensor([self._label[name] for name in ids])

    def lengths(self, ids):
        return torch.tensor([len(self._x[name]) for name in ids])

    def statistics(self, ids):
        from types import SimpleNamespace

        frames = torch.cat([self._x[name] for name in ids])
        return SimpleNamespace(mean=frames.mean(0), std=frames.std(0))


@pytest.fixture(scope="session")
def store() -> SmallStore:
    return SmallStore()


@pytest.fixture(scope="session")
def fold(store: SmallStore):
    from sigma_ser.corpora.folds import Fold

    parts: list[list[str]] = [[], [], []]
    for name in store.ids:
        number = int(name.rsplit("-", 1)[1])
        parts[0 if number < 20 else 1 if number < 25 else 2].append(name)
    return Fold("small", *(tuple(part) for part in parts))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "victim"
