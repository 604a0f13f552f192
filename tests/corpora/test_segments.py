"""Segments of recordings: read, checked, cached, stored and extracted as parts of their files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import soxr
from typer.testing import CliRunner

import sigma_ser as ss
from sigma_ser.audio import recording
from sigma_ser.audio.reading import inspect_audio, read_audio, read_utterance
from sigma_ser.cli.corpus import app
from sigma_ser.core.errors import AudioError, CorpusError
from sigma_ser.core.records import Records
from sigma_ser.core.utterance import Utterance
from sigma_ser.corpora import checking
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.corpora.folds import Fold
from sigma_ser.corpora.leakage import leakage_report
from sigma_ser.corpora.manifest import save_manifest
from sigma_ser.corpora.reader import Card

MakeSound = Callable[..., Path]
_TABLE = """file,begin,end,emotion
a.wav,0.1,0.2,angry
a.wav,0.3,0.4,sad
a.wav,0.9,,angry
b.wav,,,sad
b.wav,,0.5,sad
"""


@pytest.fixture
def table(tmp_path: Path, make_sound: MakeSound) -> Path:
    """Three segments of one file of a second; another file as a whole, and its first half."""
    for name in ("a.wav", "b.wav"):
        make_sound(tmp_path / name, seconds=1.0)
    (tmp_path / "list.csv").write_text(_TABLE)
    return tmp_path / "list.csv"


@pytest.mark.parametrize("block", [1000, 1 << 20])
@pytest.mark.parametrize(
    ("container", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
                               ("WAV", "IMA_ADPCM"), ("MP3", None)],
)  # fmt: skip
def test_a_segment_is_cut_at_the_rate_of_the_file_and_then_resampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, container: str, subtype: str | None, block: int
) -> None:
    monkeypatch.setattr(recording, "_BLOCK_VALUES", block)
    rate, path = 22_050, tmp_path / "a.bin"
    wave = 0.1 * np.random.default_rng(0).standard_normal((rate, 2))
    soundfile.write(path, wave, rate, format=container, subtype=subtype)
    whole = soundfile.read(path, dtype="float32")[0].mean(1, dtype=np.float32)
    for start, end in ((0.25, 0.5), (None, 0.1), (0.8, None), (0.9, len(whole) / rate + 0.04)):
        part = whole[round((start or 0) * rate) : None if end is None else round(end * rate)]
        expected = soxr.resample(part, rate, 16_000, quality="VHQ")
        # The resampler's rounding depends on the sizes of its blocks, not on the samples.
        assert np.allclose(read_audio(path, start=start, end=end), expected, atol=1e-6)
        assert inspect_audio(path, start=start, end=end).num_samples == len(part)


@pytest.mark.parametrize(
    ("start", "end"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, np.inf), (np.nan, 1.0),
                       (1.5, None), (0.5, 1.2), (2.0, 3.0)],
)  # fmt: skip
def test_a_segment_outside_its_recording_is_refused(
    tmp_path: Path, make_sound: MakeSound, start: float, end: float | None
) -> None:
    path = make_sound(tmp_path / "a.wav", seconds=1.0)
    with pytest.raises(AudioError) as caught:
        read_audio(path, start=start, end=end)
    assert caught.value.reason == "outside"


def test_the_limit_is_that_of_the_segment(tmp_path: Path, make_sound: MakeSound) -> None:
    path = make_sound(tmp_path / "a.wav", seconds=3.0)
    assert len(read_audio(path, start=1.0, end=2.0, max_seconds=1.5)) == 16_000
    with pytest.raises(AudioError) as caught:
        read_audio(path, start=1.0, max_seconds=1.5)
    assert caught.value.reason == "over-long"


def test_segments_of_a_table_are_utterances_of_their_own(table: Path) -> None:
    corpus = ss.load_corpus("manifest", table)
    assert [(one.id, one.start, one.end, one.num_samples) for one in corpus] == [
        ("a_0.1-0.2", 0.1, 0.2, 1600),
        ("a_0.3-0.4", 0.3, 0.4, 1600),
        ("a_0.9-end", 0.9, None, 1600),
        ("b", None, None, 16_000),
        ("b_0-0.5", None, 0.5, 8000),
    ]
    one = corpus["a_0.3-0.4"]
    assert np.array_equal(read_utterance(one), read_audio(one.path)[4800:6400])
    assert len({corpus.facts[one.id].content for one in corpus}) == 5
    assert corpus.notes == ()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_times_may_be_durations(tmp_path: Path, make_sound: MakeSound, suffix: str) -> None:
    make_sound(tmp_path / "a.wav", seconds=1.0)
    path = tmp_path / f"list.{suffix}"
    if suffix == "csv":
        path.write_text("path,label,start,end\na.wav,sad,0 days 00:00:00.250000,NaT\n")
    elif suffix == "jsonl":
        path.write_text('{"path": "a.wav", "label": "sad", "start": "0:00:00.25", "end": NaN}')
    else:
        start = pa.array([250_000_000], pa.duration("ns")).cast(pa.duration("us"))
        rows = {"path": ["a.wav"], "label": ["sad"], "start": start, "end": pa.array([None])}
        pq.write_table(pa.table(rows), path)
    (one,) = ss.load_corpus("manifest", path)
    assert (one.start, one.end, one.num_samples) == (0.25, None, 12_000)


def test_columns_of_times_are_checked_and_can_be_ignored(table: Path) -> None:
    table.write_text("file,start,emotion\na.wav,2020-01-01,sad\nb.wav,2020-01-02,sad\n")
    with pytest.raises(CorpusError, match=r"row 1 of list\.csv: start must be seconds"):
        ss.load_corpus("manifest", table)
    assert len(ss.load_corpus("manifest", table, columns={"start": "", "end": ""})) == 2


def test_ids_of_the_table_are_unique_for_each_segment(table: Path) -> None:
    table.write_text("id,file,start,end,emotion\nx,a.wav,0,0.1,sad\nx,a.wav,0.1,0.2,sad\n"
                     "y,b.wav,0,0.1,sad\n")  # fmt: skip
    assert [one.id for one in ss.load_corpus("manifest", table)] == ["x_0-0.1", "x_0.1-0.2", "y"]


def test_a_segment_is_checked_once_and_its_fault_names_it(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.write_text(f"{_TABLE}a.wav,0.95,1.5,sad\n")
    inspect, seen = checking.inspect_audio, []

    def counted(path: Path, **more: float) -> object:
        seen.append(path)
        return inspect(path, **more)

    monkeypatch.setattr(checking, "inspect_audio", counted)
    corpus = ss.load_corpus("manifest", table)
    assert len(seen) == 6
    (bad,) = corpus.quarantine
    assert bad.reason == "outside"
    assert "a.wav (0.95 s to 1.5 s) is not inside the recording, which lasts 1 s" in bad.message
    assert ss.load_corpus("manifest", table).key == corpus.key
    save_manifest(corpus, tmp_path / "saved.parquet")
    saved = ss.load_corpus("manifest", tmp_path / "saved.parquet", remember=False)
    assert saved.utterances == corpus.utterances
    assert (saved.key, saved.facts) == (corpus.key, corpus.facts)
    assert len(seen) == 6


def test_columns_keep_segments_and_whole_files() -> None:
    utterances = [Utterance("a", Path("/a"), "sad", start=start, end=end)
                  for start, end in ((None, None), (0.0, 1.5), (2.0, None))]  # fmt: skip
    records = Records.of(Utterance, utterances)
    assert list(records) == utterances
    stored = {name: records.column(name).array for name in ("id", "path", "label", "speaker",
              "session", "text_id", "sample_rate", "num_samples")}  # fmt: skip
    times = {"start": pa.array([None, 0.0, 2.0]), "end": pa.array([None, 1.5, None])}
    assert Records.of_table(Utterance, pa.table({**stored, **times})) == utterances


def test_features_of_segments_are_those_of_their_samples(table: Path, tmp_path: Path) -> None:
    corpus = ss.load_corpus("manifest", table)
    encoder = ss.load_encoder("demo")
    store = ss.extract(corpus, encoder, tmp_path / "store", "float32")
    whole = read_audio(table.parent / "a.wav")
    # The same samples as files of their own give the same key and the same features.
    for one in corpus:
        soundfile.write(tmp_path / f"{one.id}.wav", read_utterance(one), 16_000, subtype="FLOAT")
    lines = [f"{one.id},{one.id}.wav,{one.label}" for one in corpus]
    (tmp_path / "cut.csv").write_text("\n".join(["id,path,label", *lines]))
    cut = ss.load_corpus("manifest", tmp_path / "cut.csv")
    assert cut.key == corpus.key
    other = ss.extract(cut, encoder, tmp_path / "other", "float32")
    assert other.key == store.key
    assert np.array_equal(store.batch(store.ids).x, other.batch(store.ids).x)
    expected = encoder.encode([whole[1600:3200]])[0]
    assert np.allclose(store.batch(["a_0.1-0.2"]).x[0], expected, atol=1e-5)


def test_parts_of_a_recording_on_both_sides_are_leakage(table: Path) -> None:
    corpus = ss.load_corpus("manifest", table)
    fold = Fold("f", ["a_0.1-0.2", "b"], ["a_0.3-0.4"], ["a_0.9-end", "b_0-0.5"])
    shared = {(one.first, one.second): one for one in leakage_report(corpus, [fold]).shared}
    assert shared["train", "validation"].recordings == 1
    assert shared["train", "test"].recordings == 2
    assert shared["train", "test"].identical_audio == 0


def test_the_key_of_whole_files_is_that_of_their_fields_and_samples() -> None:
    utterances = [Utterance("a", Path("/a"), "sad", "s", "1", "t", 16_000, 400)]
    assert Corpus("c", utterances, ("sad",), Card("c")).key == "12ced15034f238d9"


def test_the_command_takes_columns_and_counts_segments(table: Path) -> None:
    table.write_text(_TABLE.replace("file", "clip").replace("emotion", "mood"))
    options = ["--column", "path=clip", "--column", "label=mood", "--json"]
    result = CliRunner().invoke(app, ["check", "manifest", str(table), *options])
    summary = json.loads(result.stdout)
    assert (summary["utterances"], summary["segments"]) == (5, 4)
    result = CliRunner().invoke(app, ["check", "manifest", str(table), "--column", "path"])
    assert "--column must be FIELD=COLUMN" in str(result.exception)
