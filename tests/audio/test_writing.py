"""Written files are read back sample for sample, and state how they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from jaxtyping import Float32

from sigma_ser.audio import read_audio
from sigma_ser.audio.writing import (
    NOTICE,
    Provenance,
    clipped_samples,
    quantised,
    read_provenance,
    write_flac,
)
from sigma_ser.core.errors import AudioError

MADE = Provenance(
    original="speaker-α/word_01",
    attack="DualAveraging(steps=20)",
    budget={"snr": 30.0, "sparsity": 0.1, "granularity": "segment"},
)


def wave(samples: int = 4_000) -> Float32[np.ndarray, "N"]:
    return 0.3 * np.random.default_rng(0).standard_normal(samples).astype(np.float32).clip(-3, 3)


def test_a_file_has_the_quantised_samples(tmp_path: Path) -> None:
    written = wave()
    assert write_flac(tmp_path / "folder" / "one.flac", written, MADE) == 0
    found = read_audio(tmp_path / "folder" / "one.flac")
    assert np.array_equal(found, quantised(written).astype(np.float32) / 32_768)
    assert np.abs(found - written).max() <= 0.5 / 32_768
    info = soundfile.info(tmp_path / "folder" / "one.flac")
    assert (info.format, info.subtype, info.samplerate) == ("FLAC", "PCM_16", 16_000)
    # A wave that was read from a 16-bit file is written without a change.
    write_flac(tmp_path / "two.flac", found, MADE)
    assert np.array_equal(read_audio(tmp_path / "two.flac"), found)


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path: Path) -> None:
    written = wave()
    written[:4] = (1.0, -1.0, 1.5, -3.0)
    # +1 is one step beyond the largest 16-bit sample, -1 is the smallest.
    assert write_flac(tmp_path / "loud.flac", written, MADE) == clipped_samples(written) == 3
    found = read_audio(tmp_path / "loud.flac")
    assert found[:4].tolist() == [32_767 / 32_768, -1.0, 32_767 / 32_768, -1.0]
    # Nothing else is scaled down.
    assert np.abs(found[4:] - written[4:]).max() <= 0.5 / 32_768


def test_the_tags_state_where_a_file_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "one.flac"
    write_flac(path, wave(), MADE)
    assert read_provenance(path) == MADE
    with soundfile.SoundFile(path) as file:
        assert file.title == MADE.original
        assert file.comment.startswith('{"original": ')
        assert NOTICE in file.comment
        assert file.software.startswith("sigma-ser")
    assert path.read_bytes() == (write_flac(path, wave(), MADE), path.read_bytes())[1]


@pytest.mark.parametrize("comment", ["recorded at home", '{"title": 1}', "[1]"])
def test_other_files_have_no_provenance(comment: str, tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "other.flac", "w", 16_000, 1) as file:
        file.comment = comment
        file.write(wave())
    assert read_provenance(tmp_path / "other.flac") is None


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    broken = wave()
    broken[7] = np.nan
    for path, samples, message in (
        ("one.flac", broken, "NaN or infinite"),
        ("one.flac", broken[:0], "is empty"),
        ("one.wav", wave(), "name the file one.flac"),
    ):
        with pytest.raises(AudioError, match=message):
            write_flac(tmp_path / path, samples, MADE)
    with pytest.raises(AudioError, match="cannot be opened as audio"):
        read_provenance(tmp_path / "missing.flac")
    assert not list(tmp_path.iterdir())
