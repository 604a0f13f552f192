"""One way to 16 kHz mono float32: references and laws; faults are in `test_hostile_files`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sigma_ser.audio import recording
from sigma_ser.audio.container import missing_bytes
from sigma_ser.audio.faults import REASONS
from sigma_ser.audio.reading import inspect_audio, read_audio, stream_audio
from sigma_ser.core.errors import AudioError

RATE = 16_000


def _noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    wave = 0.1 * np.random.default_rng(seed).standard_normal((samples, channels))
    return wave.astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 22_050, 24_414, 44_100, 48_000, 96_000])
def test_resampling_is_soxr_vhq_of_the_mean_of_the_channels(tmp_path: Path, rate: int) -> None:
    wave = _noise(rate, channels=2)
    path = tmp_path / "two.wav"
    soundfile.write(path, wave, rate, subtype="FLOAT")
    expected = soxr.resample(wave.mean(1), rate, RATE, quality="VHQ")
    assert np.array_equal(read_audio(path), expected)


def test_a_file_at_16_khz_comes_back_as_it_is(tmp_path: Path) -> None:
    wave = _noise(5000)
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    assert np.array_equal(read_audio(tmp_path / "a.wav"), wave[:, 0])


def test_a_tone_keeps_its_pitch_level_and_length(tmp_path: Path) -> None:
    # The odd rate of TESS: 24414 to 16000 is 12207 to 8000.
    rate, seconds = 24_414, 2.0
    time = np.arange(int(rate * seconds)) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * time), rate)
    wave = read_audio(tmp_path / "a.wav")
    assert len(wave) == RATE * seconds
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    assert np.argmax(spectrum) * RATE / len(wave) == pytest.approx(1000, abs=0.5)
    assert np.abs(wave[1000:-1000]).max() == pytest.approx(0.5, abs=0.005)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    samples=st.integers(3000, 20_000),
    channels=st.integers(1, 4),
    rate=st.sampled_from([8000, 16_000, 24_414, 48_000]),
    block=st.integers(64, 9000),
)
def test_the_size_of_blocks_changes_nothing(  # noqa: PLR0917 - hypothesis gives the rest
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    samples: int,
    channels: int,
    rate: int,
    block: int,
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, _noise(samples, channels, seed=samples), rate)
    whole, facts = read_audio(path), inspect_audio(path)
    with monkeypatch.context() as patch:
        patch.setattr(recording, "_BLOCK_VALUES", block)
        blocks = list(stream_audio(path))
        assert np.array_equal(np.concatenate(blocks), whole)
        assert inspect_audio(path) == facts
    assert facts.num_samples == samples
    assert facts.channels == channels


def test_content_is_that_of_the_samples_not_of_the_file(tmp_path: Path) -> None:
    wave = (_noise(4000)[:, 0] * 32767).astype(np.int16)
    for name in ("a.wav", "a.flac", "a.aiff"):
        soundfile.write(tmp_path / name, wave, RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "other-rate.wav", wave, 2 * RATE)
    changed = wave.copy()
    changed[-1] ^= 1
    soundfile.write(tmp_path / "one-bit.wav", changed, RATE)
    contents = {path.name: inspect_audio(path).content for path in tmp_path.iterdir()}
    assert contents["a.wav"] == contents["a.flac"] == contents["a.aiff"]
    assert len(set(contents.values())) == 3


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    container=st.sampled_from(["WAV", "FLAC", "AIFF", "AU", "W64", "RF64", "CAF", "OGG"]),
    edits=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=20),
    keep=st.floats(0, 1),
    header_only=st.booleans(),
)
def test_damage_never_gives_anything_but_samples_or_an_audio_error(
    tmp_path: Path, container: str, edits: list[tuple[float, int]], keep: float, header_only: bool
) -> None:
    path = tmp_path / f"a.{container.lower()}"
    soundfile.write(path, _noise(3000), RATE, format=container)
    content = bytearray(path.read_bytes())
    reach = min(len(content), 200) if header_only else len(content)
    for place, value in edits:
        content[int(place * (reach - 1))] = value
    path.write_bytes(content[: int(keep * len(content))])
    outcomes = []
    for read in (read_audio, inspect_audio):
        try:
            result = read(path)
            outcomes.append("")
            assert not isinstance(result, np.ndarray) or np.isfinite(result).all()
        except AudioError as error:
            outcomes.append(error.reason)
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] in {"", *REASONS}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    container=st.sampled_from(["WAV", "AIFF", "AU", "W64", "RF64"]),
    cut=st.integers(1, 5000),
)
def test_every_missing_byte_of_sound_is_counted(tmp_path: Path, container: str, cut: int) -> None:
    path = tmp_path / f"a.{container.lower()}"
    soundfile.write(path, _noise(4000), RATE, format=container, subtype="PCM_16")
    content = path.read_bytes()
    assert missing_bytes(path) == 0
    path.write_bytes(content[:-cut])
    # Some writers end the file with a chunk of their own (peak, padding).
    assert cut - 64 <= missing_bytes(path) <= cut


def test_the_limit_holds_where_the_header_lies_about_the_length(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, _noise(RATE), RATE)
    with pytest.raises(AudioError) as caught:
        read_audio(path, max_seconds=0.5)
    assert caught.value.reason == "over-long"
    assert "max_seconds" in str(caught.value)
    assert len(read_audio(path, max_seconds=1.0)) == RATE


@pytest.mark.real
def test_the_odd_files_of_tess(real_data: Path) -> None:
    """The one at 96 kHz, the misspelt one, and two that were AIFF under a wav name."""
    tess = real_data / "tess"
    facts = inspect_audio(tess / "OAF_fear" / "OAF_food_fear.flac")
    assert (facts.sample_rate, facts.num_samples) == (96_000, 145_172)
    assert len(read_audio(tess / "OAF_fear" / "OAF_food_fear.flac")) == 24_195
    facts = inspect_audio(tess / "OAF_neutral" / "OA_bite_neutral.flac")
    assert (facts.sample_rate, facts.channels) == (24_414, 1)
    for name in ("YAF_angry/YAF_germ_angry.flac", "YAF_fear/YAF_neat_fear.flac"):
        assert np.abs(read_audio(tess / name)).max() > 0.05
