"""Start the encoder's two convolutions as a mel-spaced filterbank instead of at random.

With transformers' own initialisation (zero biases, a layer norm after every convolution) the
seven-layer front end of wav2vec2 throws away nearly everything at first: a linear map from its
output explains 2 % of the variance of MFCC on unseen clips, and hours of training go into undoing
that. As in SincNet (Ravanelli & Bengio 2018, arXiv 1808.00158) and LEAF (Zeghidour et al. 2021,
arXiv 2101.08596) the filters start as band-pass filters, and training moves them.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import HubertModel

SAMPLE_RATE = 16_000
BANDS, PHASES, KNEES = 64, 4, 4
LEVELS = 16
CHANNELS = BANDS * PHASES + LEVELS


def centres() -> np.ndarray:
    """Centre frequencies: every 40 Hz up to 1300, where the harmonics are, then mel-spaced."""
    low = np.arange(60, 1300, 40.0)
    mel = np.linspace(
        2595 * np.log10(1 + 1340 / 700), 2595 * np.log10(1 + 7500 / 700), BANDS - len(low)
    )
    return np.concatenate([low, 700 * (10 ** (mel / 2595) - 1)])


def gabor_bank(kernel: int) -> np.ndarray:
    """``(BANDS * PHASES, kernel)``: Hann-windowed waves in four phases.

    Four phases, because the sum of their positive parts is an envelope that hardly depends on where
    in its cycle the wave is caught. The gain rises by 4 dB an octave above 500 Hz, about as much as
    speech falls. Bandwidths follow Glasberg & Moore (1990), as far as the window allows.
    """
    time = (np.arange(kernel) - kernel / 2) / SAMPLE_RATE
    rows = []
    for centre in centres():
        bandwidth = 24.7 * (4.37 * centre / 1000 + 1)
        width = float(np.clip(2.5 / bandwidth, 0.006, kernel / SAMPLE_RATE))
        window = np.where(np.abs(time) < width / 2, 0.5 + 0.5 * np.cos(2 * np.pi * time / width), 0)
        gain = (max(centre, 500.0) / 500.0) ** 0.67 * 2 / window.sum()
        for phase in range(PHASES):
            wave = window * np.cos(2 * np.pi * centre * time + phase * np.pi / 2)
            rows.append(gain * (wave - window * wave.sum() / window.sum()))  # no response to DC
    return np.stack(rows)


@torch.no_grad()
def start_as_filterbank(model: HubertModel, seed: int) -> None:
    """Overwrite the two convolutions, the projection and the mask embedding, in place.

    A layer norm over channels forgets how loud a frame is. ``LEVELS`` channels without a filter but
    with a constant bias keep it: after the norm they hold bias / level. The second convolution adds
    up the phases; each band comes out ``KNEES`` times with different gains and offsets before
    GELU, from which a linear map can build a compressive curve.
    """
    first, second = model.feature_extractor.conv_layers
    generator = torch.Generator().manual_seed(seed)
    filters = BANDS * PHASES
    first.conv.weight.zero_()
    bank = torch.from_numpy(gabor_bank(first.conv.kernel_size[0])).float()
    # the norm that follows cancels a common factor: 20 makes weights large against a step of Adam
    first.conv.weight[:filters, 0] = 20.0 * bank
    first.conv.bias.zero_()
    first.conv.bias[filters:] = 20.0 * torch.logspace(-2.2, -0.2, LEVELS)
    first.layer_norm.weight.fill_(6.0)  # far from GELU's bend, which would square what is small

    second.conv.weight.normal_(0.0, 0.002, generator=generator)
    second.conv.bias.zero_()
    for band in range(BANDS):
        rows = slice(band * PHASES, (band + 1) * PHASES)
        second.conv.weight[band * KNEES : (band + 1) * KNEES, rows, 0] += 0.25
    for i in range(LEVELS):
        second.conv.weight[filters + i, filters + i, 0] += 1.0
    gain = torch.tensor([1.0, 4.0, 4.0, 2.0])
    offset = torch.tensor([2.0, 2.0, 0.0, -1.0])
    second.layer_norm.weight[:filters] = gain.repeat(BANDS)
    second.layer_norm.bias[:filters] = offset.repeat(BANDS)
    projection = model.feature_projection.projection
    projection.weight.normal_(0.0, projection.in_features**-0.5, generator=generator)
    model.masked_spec_embed.normal_(0.0, 0.3, generator=generator)
