"""PESQ and STOI of one utterance, from the packages of the extra `sigma-ser[audio]`."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from sigma_ser.core.errors import AudioError

from .recording import SAMPLE_RATE

Pair = tuple[Float64[np.ndarray, "_"], Float64[np.ndarray, "_"]]
"""The clean and the perturbed wave of an utterance, of equal length."""

# The C code of pesq has room for 50 sections of speech and does not check their number. A section
# lasts at least 0.2 s, and so does the pause after it.
_LONGEST_PESQ = 20.0
# 30 frames of 256 samples with half overlap at 10 kHz (Taal et al. 2011, section II).
_SHORTEST_STOI = (256 + 29 * 128) / 10_000


class Undefined(Exception):
    """A score that is not defined for an utterance; the message is the reason."""


@dataclass(frozen=True, eq=False)
class Scores:
    """A score of each utterance, `values` `(B,)`, NaN where it is undefined for the `notes`."""

    values: Float64[Tensor, "B"]
    notes: tuple[str | None, ...]


def scores(score: Callable[[Pair], float], pairs: Sequence[Pair]) -> Scores:
    """Compute a score of each pair of waves.

    Args:
        score: `pesq_score`, `stoi_score` or `estoi_score`.
        pairs: clean and perturbed wave of each utterance.
    """
    values, notes = [], []
    for pair in pairs:
        value, note = np.nan, None
        try:
            _require_sound(pair)
            value = float(score(pair))
            if not np.isfinite(value):
                raise Undefined("the package returned no finite number")
        except Undefined as reason:
            value, note = np.nan, str(reason)
        values.append(value)
        notes.append(note)
    return Scores(torch.tensor(values, dtype=torch.float64), tuple(notes))


def pesq_score(pair: Pair) -> float:
    """Wide-band PESQ, from 1.04 to 4.64 (ITU-T P.862.2).

    Raises:
        Undefined: if the wave is shorter than 0.25 s or longer than 20 s, or has no speech.
        AudioError: if the package `pesq` is not installed.
    """
    package = _package("pesq")
    seconds = len(pair[0]) / SAMPLE_RATE
    if seconds > _LONGEST_PESQ:
        raise Undefined(f"longer than {_LONGEST_PESQ:g} s, for which the package is not safe")
    found = package.pesq(SAMPLE_RATE, *pair, "wb", package.PesqError.RETURN_VALUES)
    reasons = {
        package.PesqError.BUFFER_TOO_SHORT: "shorter than 0.25 s",
        package.PesqError.NO_UTTERANCES_DETECTED: "no speech was detected",
    }
    if found < 0:
        raise Undefined(reasons.get(found, f"the package returned the error {found}"))
    return float(found)


def stoi_score(pair: Pair) -> float:
    """Short-time objective intelligibility, up to 1.

    Raises:
        Undefined: if the wave has fewer than 30 frames of speech (0.4 s).
        AudioError: if the package `pystoi` is not installed.
    """
    return _stoi(pair, extended=False)


def estoi_score(pair: Pair) -> float:
    """Extended short-time objective intelligibility, up to 1.

    Raises:
        Undefined: if the wave has fewer than 30 frames of speech (0.4 s).
        AudioError: if the package `pystoi` is not installed.
    """
    return _stoi(pair, extended=True)


def _stoi(pair: Pair, *, extended: bool) -> float:
    package = _package("pystoi")
    too_short = Undefined("shorter than the 30 frames of speech (0.4 s) that it compares")
    if len(pair[0]) / SAMPLE_RATE < _SHORTEST_STOI:
        raise too_short
    with warnings.catch_warnings(), _fixed_noise():
        # The package warns and returns 1e-5 where too few frames are louder than silence.
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(package.stoi(*pair, SAMPLE_RATE, extended=extended))
        except RuntimeWarning as fault:
            raise too_short from fault


@contextlib.contextmanager
def _fixed_noise() -> Iterator[None]:
    """Numbers of numpy's global generator that are the same in each call; its state is restored.

    Extended STOI adds noise from it, which decides the score of bands without energy.
    """
    state = np.random.get_state()  # noqa: NPY002 - the package uses the global generator
    np.random.seed(0)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _require_sound(pair: Pair) -> None:
    for wave, name in zip(pair, ("clean", "perturbed"), strict=True):
        if not wave.any():
            raise Undefined(f"the {name} wave is silent")


def _package(name: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as fault:
        raise AudioError(
            f"PESQ and STOI need the packages pesq and pystoi ({fault}); "
            "run: pip install 'sigma-ser[audio]'",
            "missing",
        ) from fault
