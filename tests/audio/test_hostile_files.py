"""Recordings as bad as people have them: each must get exactly the verdict that is written here.

A verdict is a law between `inspect_audio`, `read_audio` and the quarantine of a corpus: what one
refuses, all refuse, for the same reason; and nothing crashes, hangs or fills the memory.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

import sigma_ser as ss
from sigma_ser.audio.faults import REASONS
from sigma_ser.audio.reading import inspect_audio, read_audio, stream_audio
from sigma_ser.audio.recording import MIN_SAMPLES
from sigma_ser.core.errors import AudioError, CorpusError

RATE = 16_000


@dataclass(frozen=True)
class Case:
    """A file name, what makes it, and the verdict: a reason, or the warnings of a good one."""

    name: str
    make: Callable[[Path], None]
    reason: str = ""
    warnings: tuple[str, ...] = ()


def tone(seconds: float = 0.5, rate: int = RATE, channels: int = 1, level: float = 0.3):
    """A tone with a little noise, float32 `(samples,)` or `(samples, channels)`."""
    time = np.arange(round(seconds * rate)) / rate
    wave = level * np.sin(2 * np.pi * min(220, rate / 5) * time)
    wave += 0.01 * np.random.default_rng(0).standard_normal(len(wave))
    wave = wave.astype(np.float32)
    return wave if channels == 1 else np.repeat(wave[:, None], channels, axis=1)


def encoded(wave, rate: int = RATE, container: str = "WAV", subtype: str | None = None) -> bytes:
    """The bytes of a file."""
    out = io.BytesIO()
    soundfile.write(out, wave, rate, format=container, subtype=subtype)
    return out.getvalue()


def raw(content: bytes) -> Callable[[Path], None]:
    """A maker of a file with this content."""
    return lambda path: path.write_bytes(content) and None


def sound(wave, rate: int = RATE, container: str = "WAV", subtype: str | None = None):
    """A maker of an ordinary file."""
    return raw(encoded(wave, rate, container, subtype))


def cut(container: str, keep: float, subtype: str | None = None) -> Callable[[Path], None]:
    """A maker of a file that lost its end."""
    content = encoded(tone(2.0), container=container, subtype=subtype)
    return raw(content[: int(len(content) * keep)])


def patched(content: bytes, place: int, new: bytes) -> bytes:
    """`content` with other bytes at `place`."""
    return content[:place] + new + content[place + len(new) :]


def _spoiled(value: float, place: int) -> Callable[[Path], None]:
    wave = tone()
    wave[place] = value
    return sound(wave, subtype="FLOAT")


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def _hour_of_silence(path: Path) -> None:
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        minute = np.zeros(60 * RATE, np.float32)
        for _ in range(60):
            file.write(minute)


_WAV = encoded(tone())
# The length in STREAMINFO is 0, which means unknown, and no frame follows.
_FLAC_WITHOUT_FRAMES = (
    b"fLaC\x80\0\0\x22" + encoded(tone(), container="FLAC")[8:21] + b"\x70" + bytes(20)
)
_STEREO = np.stack([tone(), -tone()], axis=1)
_HALF_CANCELLED = np.stack([tone(), -0.9 * tone()], axis=1)
_ONE_STEP = np.sign(tone()) / 32768

CASES: tuple[Case, ...] = (
    # What everybody has.
    Case("plain.wav", sound(tone())),
    Case("plain.flac", sound(tone(), container="FLAC")),
    Case("plain.ogg", sound(tone(), container="OGG")),
    Case("plain.mp3", sound(tone(), container="MP3")),
    Case("8-bit.wav", sound(tone(), subtype="PCM_U8")),
    Case("24-bit.wav", sound(tone(), subtype="PCM_24")),
    Case("32-bit.wav", sound(tone(), subtype="PCM_32")),
    Case("float64.wav", sound(tone(), subtype="DOUBLE")),
    Case("mu-law.wav", sound(tone(), subtype="ULAW")),
    Case("3-channels.wav", sound(tone(channels=3))),
    Case("rf64.wav", sound(tone(), container="RF64")),
    Case("24414-Hz.wav", sound(tone(rate=24414), 24414)),
    Case("192-kHz.wav", sound(tone(rate=192_000), 192_000)),
    Case("400-samples.wav", sound(tone(0.025))),
    # Usable, but worth a word.
    Case("100-Hz.wav", sound(tone(2.0, rate=100), 100), warnings=("low-rate",)),
    Case("aiff.wav", sound(tone(), container="AIFF"), warnings=("other-container",)),
    Case("flac.wav", sound(tone(), container="FLAC"), warnings=("other-container",)),
    Case("mp3.wav", sound(tone(), container="MP3"), warnings=("other-container",)),
    Case("half-cancelled.wav", sound(_HALF_CANCELLED), warnings=("channels-cancel",)),
    Case("int16-as-float.wav", sound(tone() * 32768, subtype="FLOAT"),
         warnings=("over-full-scale",)),
    Case("size-unknown.wav", raw(patched(_WAV, 40, b"\xff\xff\xff\xff"))),
    Case("trailing-garbage.wav", raw(_WAV + b"LIST" + bytes(range(200)))),
    # Nothing there, or not sound.
    Case("empty.wav", raw(b""), "empty"),
    Case("header-only.wav", sound(np.zeros(0, np.float32)), "zero-frames"),
    Case("header-only.flac", raw(_FLAC_WITHOUT_FRAMES), "zero-frames"),
    Case("page.wav", raw(b"\n<!DOCTYPE html>\n<html><body>404</body></html>"), "text"),
    Case("pointer.wav", raw(b"version https://git-lfs.github.com/spec/v1\noid sha"), "text"),
    Case("error.wav", raw(b'{"error": "not found"}'), "text"),
    Case("note.wav", raw("Die Datei fehlt: Größe 0".encode()), "text"),
    Case("noise.wav", raw(np.random.default_rng(1).bytes(4000)), "unreadable"),
    Case("zip.wav", raw(b"PK\x03\x04" + bytes(500)), "unreadable"),
    Case("wrong-format-tag.wav", raw(patched(_WAV, 20, b"\x7f\x7f")), "unreadable"),
    # Less than there was.
    Case("truncated.wav", cut("WAV", 0.6), "truncated"),
    Case("one-sample-less.wav", raw(_WAV[:-2]), "truncated"),
    Case("header-cut.wav", raw(_WAV[:30]), "unreadable"),
    Case("truncated.rf64.wav", cut("RF64", 0.6), "truncated"),
    Case("truncated.aiff", cut("AIFF", 0.6), "truncated"),
    Case("truncated.au", cut("AU", 0.6), "truncated"),
    Case("truncated.w64", cut("W64", 0.6), "truncated"),
    Case("truncated.caf", cut("CAF", 0.6), "unreadable"),
    Case("truncated.flac", cut("FLAC", 0.6), "damaged"),
    Case("truncated.ogg", cut("OGG", 0.6), "truncated"),
    Case("truncated.mp3", cut("MP3", 0.6), "truncated"),
    Case("two.flac", raw(2 * encoded(tone(), container="FLAC")), "concatenated"),
    # Samples that cannot be used.
    Case("nan.wav", _spoiled(np.nan, 100), "non-finite"),
    Case("infinity.wav", _spoiled(np.inf, 7999), "non-finite"),
    Case("minus-infinity.wav", _spoiled(-np.inf, 0), "non-finite"),
    Case("cancelling-stereo.wav", sound(_STEREO), "channels-cancel"),
    Case("silent.wav", sound(np.zeros(RATE, np.float32)), "silent"),
    Case("offset.wav", sound(np.full(RATE, 0.4, np.float32)), "silent"),
    Case("one-step.wav", sound(_ONE_STEP), "silent"),
    Case("10-samples.wav", sound(tone(10 / RATE)), "too-short"),
    Case("399-samples.wav", sound(tone(399 / RATE)), "too-short"),
    Case("10-samples-at-100-Hz.wav", sound(tone(0.02, rate=100), 100), "too-short"),
    Case("an-hour-of-silence.flac", _hour_of_silence, "over-long"),
    # What the file system has in store.
    Case("link.wav", _link("plain.wav")),
    Case("link-loop.wav", _link("link-loop.wav"), "link-loop"),
    Case("link-pair.wav", _link("link-pair-2.wav"), "link-loop"),
    Case("link-pair-2.wav", _link("link-pair.wav"), "link-loop"),
    Case("dangling.wav", _link("nowhere.wav"), "missing"),
    Case("pipe.wav", os.mkfifo, "not-a-file"),
    # Names.
    Case("two  spaces .wav", sound(tone(0.3))),
    Case("quotes'\"`$(id).wav", sound(tone(0.31))),
    Case("new\nline.wav", sound(tone(0.32))),
    Case("tab\tand\rreturn.wav", sound(tone(0.33))),
    Case("Zürich 感情 😀.wav", sound(tone(0.34))),
    Case("..wav..wav", sound(tone(0.35))),
    Case("-rf.wav", sound(tone(0.36))),
    Case("%2e%2e%2fetc.wav", sound(tone(0.37))),
    Case("A.wav", sound(tone(0.38))),
    Case("a.wav", sound(tone(0.39))),
    Case("cafe\u0301.wav", sound(tone(0.4))),
    Case("caf\u00e9.wav", sound(tone(0.41))),
    Case(f"{'long' * 50}.wav", sound(tone(0.42))),
    Case(os.fsdecode(b"latin-1-\xe9.wav"), sound(tone(0.43))),
    Case("CON.wav", sound(tone(0.44))),
    Case("UPPER.WAV", sound(tone(0.45))),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One class folder with all of them in it."""
    folder = tmp_path_factory.mktemp("hostile") / "sad"
    folder.mkdir()
    for case in CASES:
        case.make(folder / case.name)
    return folder


def test_there_are_enough_and_every_reason_of_a_file_occurs() -> None:
    assert len(CASES) >= 40
    # One needs another user, see below; the other needs a segment.
    elsewhere = {"no-permission", "outside"}
    assert {case.reason for case in CASES} - {""} == set(REASONS) - elsewhere


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case.name))
def test_each_file_gets_its_verdict_and_reading_agrees(case: Case, folder: Path) -> None:
    path = folder / case.name
    if case.reason:
        for read in (inspect_audio, read_audio):
            with pytest.raises(AudioError) as caught:
                read(path)
            assert caught.value.reason == case.reason, str(caught.value)
            # One line that names the file, whatever its name is.
            assert str(caught.value).isprintable()
            assert ascii(case.name)[1:8] in ascii(str(caught.value))
        return
    facts = inspect_audio(path)
    assert facts.warnings == case.warnings
    wave = read_audio(path)
    assert wave.dtype == np.float32
    assert wave.ndim == 1
    assert np.isfinite(wave).all()
    assert len(wave) >= MIN_SAMPLES
    assert abs(len(wave) - facts.seconds * RATE) <= 1


def test_a_corpus_of_them_quarantines_exactly_the_bad_ones(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGMA_SER_CACHE", str(tmp_path))
    (folder / "again").symlink_to(folder)  # a loop of folders
    try:
        corpus = ss.load_corpus("folders", folder.parent)
        with pytest.raises(CorpusError, match="cannot be used"):
            ss.load_corpus("folders", folder.parent, strict=True)
    finally:
        (folder / "again").unlink()
    assert {bad.path.name: bad.reason for bad in corpus.quarantine} == {
        case.name: case.reason for case in CASES if case.reason
    }
    assert {one.path.name for one in corpus} == {case.name for case in CASES if not case.reason}
    for bad in corpus.quarantine:
        # Path.exists() raises on loops.
        assert bad.size == (bad.path.stat().st_size if os.path.exists(bad.path) else -1)
    # Ids can be file names anywhere, and no two would be the same file.
    names = [one.id for one in corpus]
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        assert name.isascii()
        assert not set(name) & set('/\\:*?"<>| \n')
        assert name[0] not in "-."
        assert len(name) <= 120
    # What was remembered gives the same corpus, names that are no UTF-8 included.
    again = ss.load_corpus("folders", folder.parent)
    assert again.key == corpus.key
    assert [bad.reason for bad in again.quarantine] == [bad.reason for bad in corpus.quarantine]


@contextlib.contextmanager
def _as_nobody() -> Iterator[None]:
    """The administrator may read everything, so take another user for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    # The folders of pytest are closed to other users.
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        root = Path(made)
        monkeypatch.setenv("SIGMA_SER_CACHE", str(root / "cache"))
        root.chmod(0o755)
        for name, mode in (("sad/good.wav", 0o644), ("sad/closed.wav", 0), ("angry/in.wav", 0o644)):
            (root / name).parent.mkdir(exist_ok=True)
            CASES[0].make(root / name)
            (root / name).chmod(mode)
        (root / "angry").chmod(0)
        with _as_nobody():
            corpus = ss.load_corpus("folders", root, remember=False)
        (root / "angry").chmod(0o755)
    assert [one.id for one in corpus] == ["sad-good"]
    assert {bad.path.name: bad.reason for bad in corpus.quarantine} == {
        "closed.wav": "no-permission",
        "angry": "no-permission",
    }


def test_an_hour_is_checked_in_bounded_memory(folder: Path) -> None:
    path = folder / "an-hour-of-silence.flac"
    tracemalloc.start()
    try:
        with pytest.raises(AudioError) as caught:
            inspect_audio(path, max_seconds=4000.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.reason == "silent"
    assert peak < 24e6  # the hour itself is 230 MB of float32


def test_streaming_is_bounded_and_gives_the_same_samples(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    sound(tone(60.0, rate=44_100), 44_100)(path)
    whole = read_audio(path)
    tracemalloc.start()
    try:
        place = 0
        for block in stream_audio(path):
            assert np.array_equal(block, whole[place : place + len(block)])
            place += len(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert place == len(whole) == 60 * RATE
    assert peak < 16e6  # two blocks of 4 MB and one resampled
