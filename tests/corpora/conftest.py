"""Small recordings for corpora, and a memory that no other run shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import soundfile

MakeSound = Callable[..., Path]


@pytest.fixture(autouse=True)
def own_memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was checked is remembered in a folder of this test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SIGMA_SER_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def make_sound() -> MakeSound:
    """Write 40 ms of noise that belongs to the name of the file (or to `voice`)."""

    def make(
        path: Path,
        voice: str = "",
        rate: int = 16_000,
        container: str | None = None,
        seconds: float = 0.04,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(crc32((voice or path.name).encode()))
        # Whole numbers, because libsndfile rounds fractions in its own way for each container.
        wave = np.round(3000 * rng.standard_normal(round(seconds * rate))).astype(np.int16)
        lossy = path.suffix in {".mp3", ".ogg", ".opus"}
        soundfile.write(path, wave, rate, format=container, subtype=None if lossy else "PCM_16")
        return path

    return make
