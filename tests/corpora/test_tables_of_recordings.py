"""Manifests of any kind, class folders, and the manifest that spares the scan."""

from __future__ import annotations

import json
import os
import sqlite3
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import sigma_ser as ss
from sigma_ser.core.errors import ConfigError, CorpusError
from sigma_ser.core.utterance import Utterance
from sigma_ser.corpora import checking
from sigma_ser.corpora.finding import safe_id, unique_ids
from sigma_ser.corpora.manifest import save_manifest
from sigma_ser.corpora.reader import Card, Entry, Listing
from sigma_ser.corpora.table_files import read_rows
from sigma_ser.corpora.tables import listing_of_rows

MakeSound = Callable[..., Path]


@pytest.fixture
def recordings(tmp_path: Path, make_sound: MakeSound) -> Path:
    """Six recordings in two folders with the same file names."""
    for folder in ("x", "y"):
        for name in ("1.wav", "2.wav", "3.wav"):
            make_sound(tmp_path / "data" / folder / name, voice=f"{folder}{name}")
    return tmp_path / "data"


_ROWS = [
    {"file": f"{folder}/{number}.wav", "emotion": emotion, "speaker": f"s{number}", "take": "7"}
    for folder, emotion in (("x", "Anger"), ("y", "sadness"))
    for number in (1, 2, 3)
]


def _write(rows: list[dict[str, str]], path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(rows[0])
    match path.suffix:
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
        case ".json":
            path.write_text(json.dumps(rows))
        case ".tsv":
            lines = ["\t".join(names), *("\t".join(row.values()) for row in rows)]
            path.write_text("\n".join(lines))
        case _:
            # What spreadsheets write: a byte-order mark, semicolons, CRLF.
            lines = [";".join(names), *(";".join(row.values()) for row in rows)]
            path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_kind_of_table_gives_the_same_corpus(recordings: Path, suffix: str) -> None:
    path = _write(_ROWS, recordings / f"list{suffix}")
    corpus = ss.load_corpus("manifest", path)
    assert corpus.name == "list"
    assert [one.id for one in corpus] == ["x-1", "x-2", "x-3", "y-1", "y-2", "y-3"]
    assert corpus.class_names == ("angry", "sad")
    assert corpus["y-2"].speaker == "s2"
    assert corpus["y-2"].path == recordings / "y" / "2.wav"
    assert corpus.columns["take"]["x-1"] == "7"
    assert corpus.quarantine == ()


def test_rows_of_json_need_not_have_the_same_keys(recordings: Path) -> None:
    rows = [{key: row[key] for key in ("file", "emotion")} for row in _ROWS[:2]] + _ROWS[2:]
    corpus = ss.load_corpus("manifest", _write(rows, recordings / "list.jsonl"))
    assert [one.speaker for one in corpus] == ["", "", "s3", "s1", "s2", "s3"]


def test_columns_may_have_any_name(recordings: Path, tmp_path: Path) -> None:
    rows = [{"Clip": row["file"], "y": row["emotion"], "who": row["speaker"]} for row in _ROWS]
    path = _write(rows, tmp_path / "list.csv")
    columns = {"path": "Clip", "label": "y", "speaker": "who"}
    corpus = ss.load_corpus("manifest", path, columns=columns, folder=str(recordings))
    assert {one.speaker for one in corpus} == {"s1", "s2", "s3"}
    with pytest.raises(CorpusError, match=r"no column for the path \(columns: Clip, y, who\)"):
        ss.load_corpus("manifest", path)
    with pytest.raises(CorpusError, match=r"columns=.'lable': 'y'. does not fit"):
        ss.load_corpus("manifest", path, columns={"lable": "y"})


def test_no_row_disappears_in_silence(recordings: Path) -> None:
    rows = [
        *_ROWS,
        {**_ROWS[0], "emotion": ""},
        {**_ROWS[0], "file": ""},
        {**_ROWS[0], "file": "x/9.wav"},
        {**_ROWS[0], "file": "x\\1.wav"},  # noted on Windows; the same recording again
        _ROWS[1],
    ]
    corpus = ss.load_corpus("manifest", _write(rows, recordings / "list.csv"))
    assert len(corpus) == 6
    assert "2 rows of list.csv have no path or no label and were left out" in corpus.notes
    assert any(note.startswith("2 files are copies of other utterances") for note in corpus.notes)
    assert [(bad.path.name, bad.reason) for bad in corpus.quarantine] == [
        ("1.wav", "no-label"),
        ("9.wav", "missing"),
    ]


def test_ids_of_a_table_are_made_safe_and_never_shared(recordings: Path) -> None:
    rows = [{"id": f"../{row['speaker']}", **row} for row in _ROWS]
    corpus = ss.load_corpus("manifest", _write(rows, recordings / "list.jsonl"))
    assert [one.id for one in corpus] == ["%2E.-s1", "%2E.-s2", "%2E.-s3"]
    assert [bad.reason for bad in corpus.quarantine] == ["conflicting-copy"] * 3


def test_absolute_paths_give_the_same_ids_wherever_they_lie(
    recordings: Path, tmp_path: Path
) -> None:
    rows = [{**row, "file": str(recordings / row["file"])} for row in _ROWS]
    corpus = ss.load_corpus("manifest", _write(rows, tmp_path / "list.csv"))
    assert [one.id for one in corpus] == [f"data-{name}-{n}" for name in "xy" for n in (1, 2, 3)]
    recordings.rename(tmp_path / "moved")
    rows = [{**row, "file": str(tmp_path / "moved" / row["file"])} for row in _ROWS]
    (tmp_path / "far").mkdir()
    moved = ss.load_corpus("manifest", _write(rows, tmp_path / "far" / "list.csv"))
    assert [one.id for one in moved] == [
        f"{name}-{number}" for name in "xy" for number in (1, 2, 3)
    ]


def test_different_spellings_of_a_class_become_one_and_that_is_said(recordings: Path) -> None:
    rows = [{**row, "emotion": word}
            for row, word in zip(_ROWS, ("anger", "angry", "Angry", "joy", "joy", "happy"),
                                 strict=True)]  # fmt: skip
    corpus = ss.load_corpus("manifest", _write(rows, recordings / "list.csv"))
    assert corpus.class_names == ("angry", "happy", "joy")
    assert "'Angry' and 'anger' and 'angry' were read as one class, 'angry'" in corpus.notes


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "", "no recording"),
        ("a.csv", 'path,label\n"x', "cannot be read"),
        ("a.jsonl", '{"path": 1', "cannot be read"),
        ("a.jsonl", "[1, 2]", "JSON object"),
        ("a.parquet", "PAR1 nothing", "not a Parquet file"),
        ("a.xlsx", "", "suffix '.xlsx'"),
        ("a.csv", "path,label\n", "no recording"),
        ("a.csv", "path,mood\nx.wav,sad\n", "no column for the label"),
    ],
)
def test_a_damaged_table_is_one_sentence(
    tmp_path: Path, name: str, content: str, says: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CorpusError, match=says) as caught:
        ss.load_corpus("manifest", tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_saved_manifest_loads_without_reading_a_recording(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (recordings / "x" / "2.wav").write_bytes(b"")
    corpus = ss.load_corpus("manifest", _write(_ROWS, recordings / "list.csv"))
    save_manifest(corpus, tmp_path / "saved.parquet")
    read: list[Path] = []
    inspect = checking.inspect_audio
    monkeypatch.setattr(
        checking,
        "inspect_audio",
        lambda path, **more: (read.append(path), inspect(path, **more))[1],
    )
    again = ss.load_corpus("manifest", tmp_path / "saved.parquet", remember=False)
    assert read == []
    for field in ("name", "utterances", "class_names", "card", "quarantine", "differences", "notes",
                  "facts", "columns", "key"):  # fmt: skip
        assert getattr(again, field) == getattr(corpus, field), field
    # What changed since is read again.
    os.utime(recordings / "y" / "1.wav", ns=(1, 1))
    ss.load_corpus("manifest", tmp_path / "saved.parquet", remember=False)
    assert read == [recordings / "y" / "1.wav"]


def test_what_was_checked_is_remembered_until_it_changes(
    recordings: Path, own_memory: Path, make_sound: MakeSound, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    inspect = checking.inspect_audio
    monkeypatch.setattr(
        checking,
        "inspect_audio",
        lambda path, **more: (read.append(path), inspect(path, **more))[1],
    )
    (recordings / "x" / "1.wav").write_bytes(b"")
    (recordings / "x" / "4.wav").symlink_to("5.wav")

    def load(**options: object) -> ss.Corpus:
        read.clear()
        return ss.load_corpus("folders", recordings, **options)

    first = load()
    assert len(read) == 7
    assert [bad.reason for bad in first.quarantine] == ["empty", "missing"]
    # Nothing but the link is looked at again: it may lead somewhere by now.
    assert load().key == first.key
    assert read == [recordings / "x" / "4.wav"]
    make_sound(recordings / "x" / "1.wav", voice="x1.wav")
    assert len(load()) == 6
    assert sorted(path.name for path in read) == ["1.wav", "4.wav"]
    # Another limit is another question; `again` and a damaged memory read all.
    load(max_seconds=60.0)
    assert len(read) == 7
    load(again=True)
    assert len(read) == 7
    (memory,) = (own_memory / "checked").iterdir()
    memory.write_text("{")
    assert load().key == load(remember=False).key
    assert len(read) == 7
    # Damaged inside, too; and then it is whole again.
    for damage in (_scribble, _forget_a_field):
        damage(memory)
        load()
        assert len(read) > 1
        load()
        assert read == [recordings / "x" / "4.wav"]


def _scribble(memory: Path) -> None:
    data = bytearray(memory.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 100] = b"\xff" * 100
    memory.write_bytes(data)


def _forget_a_field(memory: Path) -> None:
    opened = sqlite3.connect(memory)
    with opened as transaction:
        transaction.execute("UPDATE checked SET facts = '{}' WHERE facts IS NOT NULL")
    opened.close()


def test_what_was_read_before_an_interruption_is_not_read_again(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    inspect = checking.inspect_audio

    def interrupted(path: Path, **more: float) -> object:
        if len(read) == 4:
            raise KeyboardInterrupt
        read.append(path)
        return inspect(path, **more)

    monkeypatch.setattr(checking, "inspect_audio", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ss.load_corpus("folders", recordings, workers=1)
    first, read = read, []
    assert len(ss.load_corpus("folders", recordings, workers=1)) == 6
    assert len(first) == 4
    assert len(read) == 2
    assert not set(first) & set(read)


def test_a_memory_of_another_version_is_made_anew(
    recordings: Path, own_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ss.load_corpus("folders", recordings)
    (file,) = (own_memory / "checked").iterdir()
    opened = sqlite3.connect(file)
    with opened as transaction:
        transaction.execute("DROP TABLE checked")
        transaction.execute("CREATE TABLE checked (path BLOB)")
        transaction.execute("PRAGMA user_version = 1")
    opened.close()
    read: list[Path] = []
    inspect = checking.inspect_audio
    monkeypatch.setattr(
        checking,
        "inspect_audio",
        lambda path, **more: (read.append(path), inspect(path, **more))[1],
    )
    for _ in range(2):
        assert len(ss.load_corpus("folders", recordings)) == 6
    assert len(read) == 6


@pytest.mark.slow
def test_a_row_of_a_long_table_weighs_little(tmp_path: Path) -> None:
    lines = [f"speaker_{n % 7}/{n:05d}.wav,happy,speaker_{n % 7}" for n in range(2000)]
    table = tmp_path / "long.csv"
    table.write_text("file,emotion,speaker\n" + "\n".join(lines))
    listing_of_rows(read_rows(table), tmp_path, {}, table)  # what is made once and stays
    weights = []
    most = 60 + 2 * len(str(tmp_path)) + 60  # bytes; objects took 1500
    # Python's table of interned strings, which holds parts of paths, grows now and then, in a long
    # test run by 16 MB. So the smallest of several measurements counts, and the first that is small
    # enough ends them: tracing makes each of them slow.
    for _ in range(4):
        arrow = pa.total_allocated_bytes()
        tracemalloc.start()
        listing = listing_of_rows(read_rows(table), tmp_path, {}, table)
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(listing.entries) == 2000
        arrow = pa.total_allocated_bytes() - arrow
        weights.append((kept + arrow, peak + arrow))
        del listing
        kept, peak = (min(sizes) / 2000 for sizes in zip(*weights, strict=True))
        if kept < most and peak < 1500:
            break
    assert kept < most
    assert peak < 1500


def test_a_memory_that_cannot_be_written_does_not_stop_the_work(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SIGMA_SER_CACHE", str(tmp_path / "file"))
    assert len(ss.load_corpus("folders", recordings)) == 6


def test_a_third_party_reader_gets_an_error_for_what_is_not_text(recordings: Path) -> None:
    listing, path = Listing(), recordings / "x" / "1.wav"
    entry: Any = Entry(Utterance("a", path, "sad"))
    object.__setattr__(entry, "columns", {"age": 23, "mood": None})
    listing.entries += [entry]
    assert listing.entries == [Entry(Utterance("a", path, "sad"), {"age": "23", "mood": ""})]
    one: Any = Utterance("a", path, "sad")
    object.__setattr__(one, "speaker", 7)
    with pytest.raises(CorpusError, match="correct the reader"):
        listing.entries.append(Entry(one))


def test_one_file_under_many_ids_is_read_once(
    recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    inspect = checking.inspect_audio
    monkeypatch.setattr(
        checking,
        "inspect_audio",
        lambda path, **more: (read.append(path), inspect(path, **more))[1],
    )
    table = recordings / "many.csv"
    table.write_text("id,file,emotion\n" + "".join(f"u{n},x/1.wav,sad\n" for n in range(9)))
    reported: list[tuple[int, int]] = []
    load = partial(ss.load_corpus, "manifest", table, progress=lambda *at: reported.append(at))
    assert len(load()) == 9
    assert len(read) == 1
    assert reported == [(0, 9), (9, 9)]
    reported.clear()
    load()
    assert reported == [(9, 9)]


def test_a_third_party_reader_may_return_a_plain_list(recordings: Path) -> None:
    class Mine:
        card, official, default_root = Card("mine"), None, None

        def list(self, root: Path) -> Listing:
            found = sorted((root / "x").glob("*.wav"))
            listing = Listing()
            listing.entries = [
                Entry(Utterance(f"u{path.stem}", path, "happy"), {"take": "7"}) for path in found
            ]
            return listing

    corpus = ss.load_corpus(Mine(), recordings)
    assert [one.id for one in corpus] == ["u1", "u2", "u3"]
    assert corpus.columns == {"take": {"u1": "7", "u2": "7", "u3": "7"}}


def test_class_folders_name_the_classes(tmp_path: Path, make_sound: MakeSound) -> None:
    for name in ("Happy/spk1/a.wav", "Happy/spk2/a.wav", "ANGRY/spk1_a.flac", "stray.wav"):
        make_sound(tmp_path / "c" / name, voice=name)
    corpus = ss.load_corpus("folders", tmp_path / "c", pattern=r"(?P<speaker>spk\d)")
    assert corpus.name == "c"
    assert [(one.id, one.label, one.speaker) for one in corpus] == [
        ("ANGRY-spk1_a", "angry", "spk1"),
        ("Happy-spk1-a", "happy", "spk1"),
        ("Happy-spk2-a", "happy", "spk2"),
    ]
    assert [(bad.path.name, bad.reason) for bad in corpus.quarantine] == [("stray.wav", "no-label")]
    with pytest.raises(ConfigError, match="not a regular expression"):
        ss.load_corpus("folders", tmp_path / "c", pattern="(")


def test_split_folders_above_the_classes_are_a_predefined_split(
    tmp_path: Path, make_sound: MakeSound
) -> None:
    for split in ("train", "val", "test"):
        for label in ("happy", "sad"):
            make_sound(tmp_path / split / label / "1.wav", voice=split + label)
    corpus = ss.load_corpus("folders", tmp_path)
    assert corpus.class_names == ("happy", "sad")
    (fold,) = ss.make_folds(corpus, "predefined")
    assert fold.test == ("test-happy-1", "test-sad-1")
    assert fold.validation == ("val-happy-1", "val-sad-1")


def test_a_bad_memory_of_names_cannot_collide() -> None:
    paths = ["a/b.wav", "a-b.wav", "A-B.wav", "a/b.flac", "a b.wav", "a_b.wav", "c.wav"]
    ids = unique_ids(paths)
    assert len({name.casefold() for name in ids}) == len(paths)
    assert ids[-1] == "c"
    assert unique_ids(paths[::-1]) == ids[::-1]
    assert len(safe_id("ü" * 300)) <= 120
    assert safe_id("ü" * 300) != safe_id("ü" * 299)
