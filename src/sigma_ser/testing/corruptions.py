"""The laws of corruptions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.audio.corruptions import Corruption
from sigma_ser.audio.quality import snr
from sigma_ser.core import registry
from sigma_ser.core.errors import SigmaError
from sigma_ser.core.features import FeatureBatch, pad

from .examples import companies
from .laws import inputs_unchanged, require, require_close, require_configuration

# A shortest wave of encoders, and two of about half a second.
_SAMPLES = (9_600, 400, 8_001)
_RATIO_TOLERANCE = 0.01

Call = Callable[..., Tensor]


def check_corruption(corruption: str | Corruption, *, batch: FeatureBatch | None = None) -> None:
    """Check the laws of a corruption.

    The result is finite float32 `(B, S, 1)`, zero on padding, and differs from the recording; it is
    the same for an utterance alone, in another order and behind more padding; seeds fix it; a
    setting `snr` is the signal-to-noise ratio to 0.01 dB; silence has a result; features of several
    channels are refused; the arguments and the global random numbers stay unchanged; `repr` shows
    the settings.

    Args:
        corruption: a registered name, or a corruption.
        batch: waves `(B, S, 1)` of at least two utterances, 16 kHz, full scale at 1, none of them
            silent; by default tones in noise.

    Raises:
        ConformanceError: names the first law that is broken.

    >>> from sigma_ser.testing import check_corruption
    >>> check_corruption("white-noise")
    """
    if isinstance(corruption, str):
        made: Corruption = registry.make("corruption", corruption)
        check_corruption(made, batch=batch)
        return
    batch = example_waves() if batch is None else batch
    require(callable(corruption), corruption, "is not callable")
    require_configuration(corruption)
    together = _run(corruption, batch)
    valid = batch.valid
    require(
        not torch.equal(together[valid], batch.x[valid]), corruption, "changes no recording at all"
    )
    ratio = getattr(corruption, "snr", None)
    if ratio is not None:
        found = snr(batch.x, together, batch.lengths)
        off = float((found - float(ratio)).abs().max())
        require(
            off <= _RATIO_TOLERANCE,
            corruption,
            f"misses its signal-to-noise ratio of {ratio} dB by up to {off:.3g} dB",
        )
    _check_company(corruption, batch, together)
    seeds = torch.arange(len(batch)) + 5
    require(
        torch.equal(_run(corruption, batch, seeds), _run(corruption, batch, seeds)),
        corruption,
        "returns another result when it is called again with the same seeds",
    )
    _run(corruption, pad([torch.zeros(4_000, 1)], ["silence"]))
    _check_refusal(corruption)


def example_waves() -> FeatureBatch:
    """Three tones in noise of 25 to 600 ms, the same at every call."""
    rng = np.random.default_rng(0)
    waves = [
        0.2 * np.sin(np.arange(samples) * (0.05 + 0.01 * row)) + 0.02 * rng.standard_normal(samples)
        for row, samples in enumerate(_SAMPLES)
    ]
    return pad([torch.from_numpy(wave)[:, None].float() for wave in waves], ["a", "b", "c"])


def _run(
    corruption: Call, batch: FeatureBatch, seeds: Int[Tensor, "B"] | None = None
) -> Float[Tensor, "B S 1"]:
    """One call, with everything that holds for a single result."""
    given = {"batch": batch} | ({} if seeds is None else {"seeds": seeds})
    with inputs_unchanged(corruption, **given):
        found = corruption(batch, seeds=seeds)
    require(
        found.dtype == torch.float32 and found.shape == batch.x.shape and not found.requires_grad,
        corruption,
        f"does not return detached float32 waves {tuple(batch.x.shape)}, but {found.dtype} "
        f"{tuple(found.shape)}",
    )
    require(bool(torch.isfinite(found).all()), corruption, "returns samples that are not finite")
    require(not bool(found[~batch.valid].any()), corruption, "changes padding")
    return found


def _check_company(corruption: Call, batch: FeatureBatch, together: Float[Tensor, "B S 1"]) -> None:
    for where, other, rows in companies(batch):
        samples = min(other.x.shape[1], batch.x.shape[1])
        valid = batch.valid[rows, :samples, None]
        require_close(
            _run(corruption, other)[:, :samples] * valid,
            together[rows, :samples] * valid,
            corruption,
            f"returns another result for an utterance {where}",
            atol=1e-5,
            rtol=0.0,
        )


def _check_refusal(corruption: Call) -> None:
    try:
        corruption(FeatureBatch(torch.ones(1, 500, 2), torch.tensor([500])))
    except SigmaError:
        return
    require(False, corruption, "takes features of 2 channels for waves; raise a ShapeError")
