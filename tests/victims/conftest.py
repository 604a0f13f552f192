"""A feature store with separable classes, made without an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from sigma_ser.encoders.family import Encoder
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


class LinearFrames(Encoder):
    """Frames of four samples times a matrix: the whole model is linear."""

    family = "linear-frames"
    layer: Any = 3
    layers = 3
    width = 6

    def __init__(self) -> None:
        self.device, self.context = torch.device("cpu"), None
        rng = torch.Generator().manual_seed(4)
        self.matrix = torch.randn(4, self.dim, generator=rng)

    model = torch.nn.Identity().eval()

    @property
    def card(self) -> dict[str, Any]:
        return {"layer": self.layer, "dim": self.dim}

    def trace(self, waves: Any) -> list[torch.Tensor]:
        return [wave[: len(wave) // 4 * 4].view(-1, 4) @ self.matrix for wave in waves]

    def build(self) -> Any: ...
    def stack(self, model: Any) -> Any: ...
    def prepare(self, wave: Any) -> Any: ...
    def frames(self, samples: int) -> int:
        return samples // 4

    def run(self, inputs: Any, lengths: Any) -> Any: ...
    def steps(self, size: int) -> int:
        return size // 4


@pytest.fixture(scope="session")
def linear_frames() -> type[LinearFrames]:
    """The class of a linear encoder, whose realisations are known."""
    return LinearFrames
