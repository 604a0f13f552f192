"""Pictures of maps decode to the colours and opacities that their values ask for."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from sigma_ser.report.pictures import magnitude_picture, signed_picture, spectrogram_picture


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
    pixels = decoded(spectrogram_picture(np.sin(2 * np.pi * 2000 * seconds)))
    opacity = pixels[..., 3].astype(float).mean(1)
    # Row 0 is 8 kHz, the last row 0 Hz.
    assert abs(opacity.argmax() / len(opacity) - 0.75) < 0.02
    assert opacity.max() > 5 * np.median(opacity)
