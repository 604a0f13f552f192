"""Sounds of the page: 16-bit samples, a stated gain, one time axis, and only where permitted."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from sigma_ser.audio.writing import quantised
from sigma_ser.core.errors import ShapeError
from sigma_ser.core.registry import get, names
from sigma_ser.report.exemplar import Exemplar
from sigma_ser.report.explorer import utterance_views
from sigma_ser.report.inputs import ReportInputs, load_inputs
from sigma_ser.report.page import render_page
from sigma_ser.report.sounds import difference, flac_uri

Exemplars = Callable[..., Exemplar]
Inputs = Callable[..., ReportInputs]


def samples_of(uri: str) -> np.ndarray:
    """The 16-bit samples of a data URI."""
    head, body = uri.split(",")
    assert head == "data:audio/flac;base64"
    with soundfile.SoundFile(io.BytesIO(base64.b64decode(body))) as file:
        assert (file.samplerate, file.channels, file.subtype) == (16_000, 1, "PCM_16")
        return file.read(dtype="int16")


@pytest.fixture(scope="module")
def rows(make_rows: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    return make_rows(utterances=7, victims=("bilstm",), sparsities=(0.01,), epsilons=(0.5,))


def test_a_page_plays_original_perturbed_and_difference(
    rows: pl.DataFrame, make_inputs: Inputs, make_wave_exemplar: Exemplars
) -> None:
    exemplar = make_wave_exemplar()
    page = render_page(make_inputs(rows, exemplars=[exemplar]))
    sounds = re.findall(r'<audio controls[^>]* src="([^"]+)" aria-label="(\w+): sound of', page)
    assert [name for _, name in sounds] == ["Original", "Perturbed", "Difference"]
    original, perturbed, delta = (samples_of(uri) for uri, _ in sounds)
    assert original.tolist() == np.rint(exemplar.waveform.astype(float) * 32_768).tolist()
    assert perturbed.tolist() == exemplar.perturbed.tolist()
    # Exactly the difference of these two, louder by the gain that the page states.
    (gain,) = set(re.findall(r"amplified by ([\d.]+) dB", page))
    expected = (perturbed.astype(float) - original) * 10 ** (float(gain) / 20)
    assert np.abs(delta - expected).max() <= 0.5 + 1e-6
    assert 0.25 < np.abs(expected).max() / 32_768 <= 0.5


@pytest.mark.parametrize("peak", [1, 7, 66, 1000, 16_384, 32_767])
def test_a_difference_is_audible_and_not_clipped(peak: int) -> None:
    original, perturbed = np.zeros(4), np.array([0, peak, -peak, 0], dtype=np.int16)
    found = difference(original, perturbed)
    loudest = int(np.abs(found.samples.astype(int)).max())
    assert loudest == round(peak * 10 ** (found.gain / 20))
    # At most 1 dB below half of full scale, or 60 dB louder than it was.
    assert loudest <= 16_384
    assert loudest >= 16_384 * 10 ** (-1 / 20) - 1 or found.gain == 60


def test_without_a_difference_there_is_no_gain() -> None:
    wave = np.linspace(-0.5, 0.5, 9)
    found = difference(wave, quantised(wave))
    assert (found.gain, found.samples.any()) == (0, False)
    # The largest one, from the lowest to the highest sample, is made less loud.
    found = difference(np.full(3, -1.0), np.full(3, 32_767, dtype=np.int16))
    assert found.gain == -13
    assert np.abs(found.samples).max() < 16_384


def test_extreme_samples_survive_the_encoding() -> None:
    samples = np.array([-32_768, 32_767, 0, 1, -1] * 20, dtype=np.int16)
    assert samples_of(flac_uri(samples)).tolist() == samples.tolist()


@pytest.mark.parametrize("samples", [1, 400, 19_200])
def test_a_sound_has_a_seek_table(samples: int) -> None:
    # Players fail to seek in short files without one.
    rng = np.random.default_rng(0)
    wave = rng.integers(-2000, 2000, samples).astype(np.int16)
    uri = flac_uri(wave)
    assert samples_of(uri).tolist() == wave.tolist()
    file = base64.b64decode(uri.split(",")[1])
    blocks, at = [], 4
    while not blocks or not blocks[-1][0] & 0x80:
        size = int.from_bytes(file[at + 1 : at + 4], "big")
        blocks.append((file[at], file[at + 4 : at + 4 + size]))
        at += 4 + size
    assert [kind & 0x7F for kind, _ in blocks][:2] == [0, 3]
    point = blocks[1][1]
    assert (len(point), point[:16]) == (18, bytes(16))
    assert file[at : at + 2] in (b"\xff\xf8", b"\xff\xf9"), "the first frame follows"


def test_pictures_of_one_utterance_share_the_time_axis(
    make_wave_exemplar: Exemplars, make_exemplar: Exemplars
) -> None:
    (view,) = utterance_views([make_wave_exemplar(), make_exemplar()])
    assert view.seconds == pytest.approx(1.2)
    on_waveform, on_features = view.attempts
    assert [strip.title for strip in on_waveform.strips] == [
        "Perturbed", "Difference", "Mask", "Explanation before", "Explanation after",
    ]  # fmt: skip
    assert [strip.title for strip in on_features.strips if strip.path] == [
        "Over time, before", "Over time, after",
    ]  # fmt: skip
    for strip in (*view.strips, *on_waveform.strips, *on_features.strips):
        assert strip.width == pytest.approx(100), strip.title
        assert bool(strip.uri) != bool(strip.path), strip.title
    # A longer attempt stretches the axis for all.
    (view,) = utterance_views([make_wave_exemplar(), make_exemplar(frame_seconds=0.04)])
    assert view.seconds == pytest.approx(2.4)
    for strip in (*view.strips, *view.attempts[0].strips):
        assert strip.width == pytest.approx(50), strip.title


def test_the_page_states_what_an_attack_on_the_waveform_did(
    rows: pl.DataFrame, make_inputs: Inputs, make_wave_exemplar: Exemplars
) -> None:
    page = render_page(make_inputs(rows, exemplars=[make_wave_exemplar()])).replace("\u202f", " ")
    assert "changes 9 600 of 19 200 samples of the recording, each by at most 0.2 % of full" in page
    assert "signal-to-noise ratio 31.2 dB (budget: 30 dB), PESQ 3.50, STOI 0.987." in page
    assert "bilstm, 50 %, 30 dB, waveform" in page
    assert "Channels have no natural order" not in page
    bare = make_wave_exemplar(snr=None, pesq=None, stoi=None, budget_snr=None, epsilon=0.002)
    page = render_page(make_inputs(rows, exemplars=[bare])).replace("\u202f", " ")
    assert "before it was classified." in page
    assert "bilstm, 50 %, ε 0.002, waveform" in page


def test_names_beside_sounds_are_escaped(
    rows: pl.DataFrame, make_inputs: Inputs, make_wave_exemplar: Exemplars
) -> None:
    bad = "<img src=x onerror=alert(1)>\"'"
    exemplar = make_wave_exemplar(bad, attack=bad, text=bad)
    cards = {"name": bad, "licence": bad, "redistributable": True}
    page = render_page(make_inputs(rows, exemplars=[exemplar], corpus_card=cards))
    assert page.count("<audio") == 3
    assert "<img src=x" not in page


def test_native_attacks_and_missing_maps_are_described(make_wave_exemplar: Exemplars) -> None:
    zero = np.zeros_like(make_wave_exemplar().delta)
    bare = make_wave_exemplar(
        explainer=None, mask_source=None, scope=None, saliency_before=zero, saliency_after=zero
    )
    ((attempt,),) = (view.attempts for view in utterance_views([bare]))
    assert [strip.title for strip in attempt.strips] == ["Perturbed", "Difference", "Mask"]
    assert "were changed" in attempt.strips[-1].note
    equal = make_wave_exemplar(perturbed=quantised(bare.waveform), delta=zero)
    ((attempt,),) = (view.attempts for view in utterance_views([equal]))
    assert attempt.strips[1].note == "none at 16 bits"


@pytest.mark.parametrize(
    ("permitted", "wanted", "asked", "embedded"),
    [
        (True, None, None, True),
        (False, None, None, False),
        (None, None, None, False),
        ("True, False", None, None, False),  # two corpora
        (False, True, None, True),
        (True, False, None, False),
        (True, None, False, False),
        (False, None, True, True),
        (False, False, True, True),
    ],
)
def test_sounds_need_a_licence_or_a_decision(
    rows: pl.DataFrame,
    make_inputs: Inputs,
    make_wave_exemplar: Exemplars,
    *,
    permitted: Any,
    wanted: bool | None,
    asked: bool | None,
    embedded: bool,
) -> None:
    card = {"name": "one", "licence": "its terms", "redistributable": permitted}
    inputs = make_inputs(
        rows, exemplars=[make_wave_exemplar()], corpus_card=card, exemplar_sounds=wanted
    )
    page = render_page(inputs, audio=asked)
    assert page.count("data:audio/flac") == 3 * embedded
    assert ("This page contains no sounds" in page) != embedded
    assert ("Do not pass this page on." in page) == (embedded and permitted is not True)
    assert ("(its terms)" in page) == (embedded or permitted is not True)


@pytest.mark.parametrize("wanted", [True, False, None])
def test_the_study_decides_about_sounds(
    rows: pl.DataFrame,
    make_inputs: Inputs,
    make_run: Callable[[Path, ReportInputs], Path],
    tmp_path: Path,
    wanted: bool | None,
) -> None:
    folder = make_run(tmp_path, make_inputs(rows, exemplar_sounds=wanted))
    assert load_inputs(folder).exemplar_sounds is wanted


def test_an_exemplar_of_the_waveform_is_read_as_it_was_written(
    make_wave_exemplar: Exemplars, make_exemplar: Exemplars, tmp_path: Path
) -> None:
    for number, one in enumerate((make_wave_exemplar(), make_exemplar())):
        path = tmp_path / f"{number}.safetensors"
        one.save(path)
        again = Exemplar.load(path)
        for name, value in vars(one).items():
            real = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            expected = value.astype(np.float32) if real else value
            assert np.array_equal(getattr(again, name), expected), name
    assert again.perturbed is None


@pytest.mark.parametrize(
    "changes",
    [
        {"perturbed": None},
        {"perturbed": np.zeros(7, dtype=np.int16)},
        {"surface": "features"},
        {"waveform": np.zeros(7, dtype=np.float32)},
    ],
    ids=["no recording", "another length", "another surface", "another original"],
)
def test_recordings_that_do_not_fit_are_refused(
    make_wave_exemplar: Exemplars, changes: dict[str, Any]
) -> None:
    with pytest.raises(ShapeError, match="one value for each sample"):
        make_wave_exemplar(**changes)


def test_only_readers_whose_licence_permits_it_say_so() -> None:
    readers = {name: get("corpus", name) for name in names("corpus")}
    permitting = [name for name, reader in readers.items() if reader.card.redistributable]
    assert permitting == ["demo"]
