"""Pictures of maps decode to the colours and opacities that their values ask for."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from sigma_ser.report.pictures import (
    area_path,
    magnitude_picture,
    over_time,
    signed_picture,
    spectrogram,
    spectrogram_picture,
    wave_path,
)


def decoded(uri: str) -> np.ndarray:
    head, body = uri.split(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(body)))
    assert (image.format, image.mode) == ("PNG", "P")
    return np.asarray(image.convert("RGBA"))


def test_a_magnitude_is_an_opacity():
    pixels = decoded(magnitude_picture(np.array([[0.0, 1.0, 2.0, 4.0]]), 2.0))
    assert pixels[..., :3].tolist() == [[[222, 96, 32]] * 4]
    assert pixels[0, :, 3].tolist() == [0, int(255 * 0.5**0.7), 255, 255]


def test_signs_have_colours_and_zero_is_transparent():
    pixels = decoded(signed_picture(np.array([[-2.0, 0.0], [0.0, 2.0]])))
    assert pixels[0, 0].tolist() == [38, 120, 190, 253]
    assert pixels[1, 1].tolist() == [222, 96, 32, 254]
    assert pixels[0, 1, 3] == pixels[1, 0, 3] == 0


def test_a_tone_is_one_line_of_the_spectrogram():
    seconds = np.arange(16_000) / 16_000
    levels = spectrogram(np.sin(2 * np.pi * 2000 * seconds))
    pixels = decoded(spectrogram_picture(levels, levels.max()))
    opacity = pixels[..., 3].astype(float).mean(1)
    # Row 0 is 8 kHz, the last row 0 Hz.
    assert abs(opacity.argmax() / len(opacity) - 0.75) < 0.02
    assert opacity.max() > 5 * np.median(opacity)


def test_the_scale_of_a_spectrogram_is_that_of_its_top():
    levels = spectrogram(np.random.default_rng(0).normal(size=4000))
    full, lower = (decoded(spectrogram_picture(levels, levels.max() + d))[..., 3] for d in (0, 35))
    assert full.max() == 255
    assert lower.max() == 127
    # Ten times the amplitude is 20 dB more.
    louder = spectrogram(10 * np.random.default_rng(0).normal(size=4000))
    np.testing.assert_allclose(louder - levels, 20, atol=1e-6)


@pytest.mark.parametrize("samples", [1600, 16_000, 19_217, 160_001])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.93])
def test_all_pictures_show_a_click_at_its_time(samples: int, share: float):
    wave = np.zeros(samples)
    at = int(share * samples)
    wave[at] = 1.0
    levels = spectrogram(wave)
    drawn = -(-samples // 160) * 160 / samples  # the last column may be longer
    place = (levels.max(0).argmax() + 0.5) / levels.shape[1] * drawn
    assert abs(place - share) <= max(160 / samples, 1 / 480)
    outline = [part.split(",") for part in wave_path(wave)[1:-1].split("L")]
    peak = min(outline, key=lambda point: float(point[1]))
    assert abs(float(peak[0]) / 480 - share) <= 1 / 480
    parts = over_time(np.abs(wave)[:, None])
    steps = re.findall(r"V([\d.]+)H([\d.]+)", area_path(parts / parts.max()))
    end = next(float(x) for y, x in steps if float(y) < 100)
    assert abs(end / 480 - share) <= 2 / 480
