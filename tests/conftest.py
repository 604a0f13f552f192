"""Fixtures for all tests: where the real recordings and weights lie, and one thread a process."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# Two processes with two OpenMP threads each run recurrent heads 27 times slower than with one.
torch.set_num_threads(1)

# No timings in assertions; the same examples in every run, so that a failure can be repeated.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")

# What is remembered of checked recordings stays out of the user's own cache.
os.environ.setdefault("SIGMA_SER_CACHE", str(Path(tempfile.gettempdir()) / "sigma-ser-tests"))

DATA = Path(
    os.environ.get("SIGMA_SER_DATA", Path(__file__).parents[2] / "shared" / "data")
).absolute()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real corpora (`tess`, `ravdess-4class`); the test is skipped without it."""
    if not DATA.is_dir():
        pytest.skip(f"no real recordings in {DATA}; set SIGMA_SER_DATA to their folder")
    return DATA


@pytest.fixture(scope="session")
def whisper_folder() -> Path:
    """Folder of the real pretrained Whisper encoder; the test is skipped without it."""
    folder = DATA.parent / "weights" / "whisper-tiny-en-encoder"
    if not folder.is_dir():
        pytest.skip(f"no Whisper encoder in {folder}; set SIGMA_SER_DATA beside it")
    return folder
