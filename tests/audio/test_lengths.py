"""Files of unknown or wrong length are read to the last sample, or refused with what is there."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from sigma_ser.audio.reading import inspect_audio, read_audio
from sigma_ser.audio.streams import has_frame_count, ogg_links
from sigma_ser.core.errors import AudioError

RATE = 16_000
# Kilobits per second of layer III, by their number in the header: MPEG-1, and MPEG-2 with 2.5.
_BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)


def _wave(samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples)


def _encoded(wave: np.ndarray, rate: int = RATE, **options: object) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, wave, rate, **options)
    return out.getvalue()


def _fault(path: Path) -> AudioError:
    errors = []
    for read in (inspect_audio, read_audio):
        with pytest.raises(AudioError) as caught:
            read(path)
        errors.append(caught.value)
    assert str(errors[0]) == str(errors[1])
    return errors[0]


def _without_count(mp3: bytes, rate: int) -> bytes:
    """MPEG audio of layer III without its first frame, which holds the Xing or Info header."""
    one = mp3[1] >> 3 & 3 == 3
    kilobits = _BITRATES[0 if one else 1][mp3[2] >> 4]
    return mp3[(144 if one else 72) * kilobits * 1000 // rate + (mp3[2] >> 1 & 1) :]


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mpeg_audio_without_a_frame_count_is_read_to_its_end(
    tmp_path: Path, mode: str, rate: int
) -> None:
    # A loud beginning misleads an estimate that is made of the first frame.
    wave = np.concatenate([_wave(rate), 0.001 * _wave(2 * rate, seed=1)])
    mp3 = _encoded(wave, rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    bare = _without_count(mp3, rate)
    path = tmp_path / "a.mp3"
    tag = b"TAG" + bytes(125)
    title = b"ID3\x03\0\0\0\0\x07\x68" + bytes(1000)
    decoded = []
    for content in (bare, title + bare, bare + tag):
        path.write_bytes(content)
        assert not has_frame_count(path)
        facts = inspect_audio(path)
        decoded.append(facts.content)
        frame = 1152 if rate == 44_100 else 576
        # The encoder adds up to four frames, which only the removed header would take off.
        assert facts.num_samples % frame == 0
        assert 0 <= facts.num_samples - len(wave) < 5 * frame
    assert len(set(decoded)) == 1
    part = soundfile.read(path, dtype="float32")[0]
    path.write_bytes(mp3)
    assert has_frame_count(path)
    assert inspect_audio(path).num_samples == len(wave)
    if rate == RATE:
        path.write_bytes(bare)
        assert np.array_equal(read_audio(path)[: len(part)], part[: facts.num_samples])
    path.write_bytes(bare[: len(bare) // 2 - 7])
    assert _fault(path).reason == "truncated"


def test_mpeg_audio_behind_the_declared_end_is_not_left_out_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    mp3 = _encoded(_wave(2 * RATE), format="MP3")
    path.write_bytes(mp3 + mp3)
    error = _fault(path)
    assert error.reason == "concatenated"
    assert "behind the 32000 samples that its header declares" in str(error)
    for behind in (b"TAG" + bytes(125), b"APETAGEX" + bytes(300)):
        path.write_bytes(mp3 + behind)
        assert inspect_audio(path).num_samples == 2 * RATE


def test_two_flac_streams_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    one = _encoded(_wave(8000), format="FLAC")
    path.write_bytes(one + one)
    assert _fault(path).reason == "concatenated"
    # A tag that some programs append is not audio.
    path.write_bytes(one + b"TAG" + bytes(125))
    assert inspect_audio(path).num_samples == 8000


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_chained_ogg_streams_are_one_recording(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.ogg"
    links = [
        _encoded(_wave(samples, seed=samples), format="OGG", subtype=subtype)
        for samples in (8000, 40_000, 6000)
    ]
    path.write_bytes(b"".join(links))
    assert [end - start for start, end in ogg_links(path)] == [len(link) for link in links]
    parts = [soundfile.read(io.BytesIO(link), dtype="float32")[0] for link in links]
    assert np.array_equal(read_audio(path), np.concatenate(parts))
    path.write_bytes(links[0] + _encoded(_wave(8000), 8000, format="OGG", subtype=subtype))
    if subtype == "VORBIS":
        assert _fault(path).reason == "concatenated"
    # The last page has the flag of the last page, but not all of its bytes.
    path.write_bytes(links[0] + links[1][:-40])
    assert _fault(path).reason == "truncated"


def test_an_ogg_file_without_its_last_page_is_described(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    ogg = bytearray(_encoded(_wave(2 * RATE), format="OGG"))
    path.write_bytes(ogg[: ogg.rfind(b"OggS")])
    error = _fault(path)
    assert error.reason == "truncated"
    seconds = len(soundfile.read(path)[0]) / RATE
    assert f"has {seconds:.6g} s of audio but no page that ends the stream" in str(error)


def _riff(size: int, audio: bytes) -> bytes:
    format_chunk = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    head = b"RIFF" + struct.pack("<I", size + 36 & 0xFFFFFFFF) + b"WAVE" + format_chunk
    return head + struct.pack("<4sI", b"data", size) + audio


def _au(size: int, audio: bytes) -> bytes:
    return struct.pack("<4s5I", b"dns.", 24, size, 3, RATE, 1) + audio


def _aiff(size: int, audio: bytes) -> bytes:
    rate = bytes.fromhex("400cfa00000000000000")  # 16000 as an 80-bit float
    common = struct.pack(">4sIhIh", b"COMM", 18, 1, size // 2, 16) + rate
    sound = struct.pack(">4sIII", b"SSND", size + 8, 0, 0) + audio
    return struct.pack(">4sI", b"FORM", size + 46) + b"AIFF" + common + sound


@pytest.mark.parametrize(
    ("suffix", "make", "size"),
    [
        *(("wav", _riff, size) for size in
          (0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFF - 36)),
        ("au", _au, 0xFFFFFFFF),
        ("aiff", _aiff, 0x7F000000),
    ],
)  # fmt: skip
def test_sizes_of_writers_that_cannot_seek_back_promise_nothing(
    tmp_path: Path, suffix: str, make: object, size: int
) -> None:
    samples = (3000 * _wave(4000)).astype("<i2" if suffix != "aiff" else ">i2")
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(make(size, samples.tobytes()))
    assert np.array_equal(read_audio(path), samples.astype(np.float32) / 32768)


def test_a_wav_that_declares_no_audio_but_has_some_is_described(tmp_path: Path) -> None:
    audio = (3000 * _wave(4000)).astype("<i2").tobytes()
    path = tmp_path / "a.wav"
    path.write_bytes(_riff(0, audio))
    error = _fault(path)
    assert error.reason == "zero-frames"
    assert "declares 0 bytes of audio, but 8000 bytes follow its header" in str(error)
    path.write_bytes(_riff(0, b"LIST" + struct.pack("<I", 4) + b"INFO"))
    assert "has a header but no audio" in str(_fault(path))


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    wave = _wave(20_000)
    flac = bytearray(_encoded(wave, format="FLAC"))
    path = tmp_path / "a.flac"
    path.write_bytes(flac)
    whole = read_audio(path)
    # The number of samples in STREAMINFO: 36 bits, of which 0 means unknown.
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    path.write_bytes(flac)
    assert np.array_equal(read_audio(path), whole)


# Containers with a subtype that has its own length rule: sizes, blocks, counts, frames, pages.
_SAMPLE = (
    ("WAV", "PCM_16"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"),
    ("WAVEX", "ULAW"), ("RF64", "FLOAT"), ("W64", "PCM_24"), ("AIFF", "IMA_ADPCM"),
    ("AIFF", "PCM_S8"), ("AU", "DOUBLE"), ("CAF", "ALAC_16"), ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("NIST", "PCM_16"),
    ("VOC", "ALAW"), ("SVX", "PCM_16"), ("MAT5", "FLOAT"), ("PAF", "PCM_24"),
)  # fmt: skip


@pytest.mark.parametrize(("container", "subtype"), _SAMPLE)
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_every_container_is_read_as_soundfile_and_soxr_read_it(
    tmp_path: Path, container: str, subtype: str, rate: int
) -> None:
    path = tmp_path / "a.bin"
    soundfile.write(path, _wave(rate // 2), rate, format=container, subtype=subtype)
    wave, found = soundfile.read(path, dtype="float32")
    expected = wave if found == RATE else soxr.resample(wave, found, RATE, quality="VHQ")
    assert np.array_equal(read_audio(path), expected)
