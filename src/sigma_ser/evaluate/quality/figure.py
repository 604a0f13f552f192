"""Figure of one utterance: waveform, spectrogram, and map, mask and profile of each explainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from sigma_ser.core.files import whole_file

_RATE = 16_000


def draw(
    path: Path,
    maps: Mapping[str, Float[Tensor, "T D"]],
    masks: Mapping[str, Bool[Tensor, "T D"]],
    *,
    frame_seconds: float,
    waveform: Float[np.ndarray, "N"] | None = None,
    title: str = "",
) -> None:
    """Draw the maps of one utterance below each other on a common time axis.

    Args:
        path: the `.png`, `.svg` or `.pdf` file to write.
        maps: signed saliency `(T, D)` of each explainer, by name.
        masks: the mask `(T, D)` of each explainer, by the same names.
        frame_seconds: time from one frame to the next.
        waveform: `(N,)` mono audio at 16 kHz; `None` omits waveform and spectrogram.
        title: title of the figure.
    """
    # A figure with its own canvas requires no display and leaves the state of pyplot unchanged.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 2 * (waveform is not None) + 2 * len(maps)
    figure = Figure(figsize=(8, 1.2 + 1.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(rows, 1, squeeze=False, sharex=True)[:, 0])
    figure.suptitle(title)
    if waveform is not None:
        seconds = np.arange(len(waveform)) / _RATE
        axes[0].plot(seconds, waveform, linewidth=0.4, color="0.2")
        axes[0].set_ylabel("waveform")
        # A noise floor avoids the logarithm of zero in digital silence.
        noise = 1e-5 * np.random.default_rng(0).standard_normal(len(waveform))
        axes[1].specgram(waveform + noise, NFFT=400, Fs=_RATE, noverlap=240, cmap="magma")
        axes[1].set_ylabel("Hz")
        axes = axes[2:]
    for (name, saliency), image, profile in zip(maps.items(), axes[::2], axes[1::2], strict=True):
        values = saliency.detach().cpu().numpy()
        largest = float(np.quantile(np.abs(values), 0.999)) or 1.0
        extent = (0.0, len(values) * frame_seconds, 0.0, float(values.shape[1]))
        image.imshow(
            values.T, aspect="auto", origin="lower", extent=extent, cmap="RdBu_r",
            vmin=-largest, vmax=largest, interpolation="nearest",
        )  # fmt: skip
        frames, channels = masks[name].cpu().numpy().nonzero()
        image.scatter(
            (frames + 0.5) * frame_seconds, channels + 0.5, s=3, color="black", marker="."
        )
        image.set_ylabel(f"{name}\nchannel", fontsize=7)
        middle = (np.arange(len(values)) + 0.5) * frame_seconds
        profile.fill_between(middle, np.abs(values).sum(1), step="mid", color="0.6")
        profile.set_ylabel("sum of |A|", fontsize=7)
    axes[-1].set_xlabel("seconds; dots mark the mask")
    with whole_file(path) as aside:
        figure.savefig(aside, dpi=130)
