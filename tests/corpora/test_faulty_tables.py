"""Tables and folders with faults: an error that names the line, or a note and the quarantine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sigma_ser as ss
from sigma_ser.core.errors import CorpusError

MakeSound = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, make_sound: MakeSound) -> Path:
    """Four recordings."""
    for number in range(4):
        make_sound(tmp_path / f"{number}.wav")
    return tmp_path


def _load(folder: Path, text: str, suffix: str = "csv", **options: object) -> ss.Corpus:
    path = folder / f"list.{suffix}"
    path.write_text(text)
    return ss.load_corpus("manifest", path, remember=False, **options)


@pytest.mark.parametrize(
    ("suffix", "text", "says"),
    [
        # An unquoted comma, in the first row and in a later one.
        ("csv", "path,text,label\n0.wav,Stop, now,sad\n", r"line 2: the row has 4 cells"),
        ("csv", "path,label\n0.wav,sad\n\n1.wav,sad,7\n", r"line 4: the row has 3 cells"),
        ("csv", "path,label,speaker\n0.wav,sad\n", r"line 2: the row has 2 cells and the header 3"),
        ("csv", "path;label\n0.wav;sad;\n", r"line 2: .* put cells that contain ';' in quotes"),
        ("csv", "path,label\n", r"list.csv lists no recording"),
        # Two columns of one name, which a dictionary would make one.
        ("csv", "path,label,label\n0.wav,sad,1\n", r"line 1: 2 columns have the name 'label'"),
        ("csv", "path,label,Label\n0.wav,sad,1\n", r"several columns for the label"),
        # A quote that is opened by chance and closed in a later row.
        ("tsv", 'path\ttext\tlabel\n0.wav\t"Oh\tsad\n1.wav\tno"\tsad\n',
         r"line 2: a quote that is opened here is closed in line 3"),
        ("csv", 'path,text,label\n0.wav,ok,sad\n1.wav,"Oh,sad\n2.wav,a,sad\n3.wav,no",sad\n',
         r"line 3: a quote that is opened here is closed in line 5"),
        ("csv", 'path,label\n0.wav,sad\n1.wav,"sad"x\n', r"line 3: "),
        ("csv", 'path,label\n0.wav,"sad\n', r"line 2: unexpected end of data"),
        ("jsonl", '{"path": "0.wav", "label": "sad"}\n{"path": \n', r"line 2: "),
        ("jsonl", '{"path": "0.wav", "label": "sad"}\n7\n', r"line 2: each line must be a JSON"),
        ("json", '[{"path": "0.wav", "label": "sad"}, 7]', r"row 2: each row must be a JSON"),
        ("json", "7", r"neither a list of rows nor an object with a row for each id"),
        ("json", '{"path": ["0.wav"], "label": []}', r"its columns differ in length"),
        ("json", "[" * 100_000, r"cannot be read"),
    ],
)  # fmt: skip
def test_a_row_that_does_not_fit_is_an_error_that_names_its_place(
    folder: Path, suffix: str, text: str, says: str
) -> None:
    with pytest.raises(CorpusError, match=says) as caught:
        _load(folder, text, suffix)
    assert "\n" not in str(caught.value)


def test_quotes_that_fit_are_read(folder: Path) -> None:
    text = 'path,text,label\n0.wav,"Stop, now",sad\n1.wav,"one\ntwo",sad\n2.wav,say "ah",sad\n'
    assert [one.text_id for one in _load(folder, text)] == ["Stop, now", "one\ntwo", 'say "ah"']


@pytest.mark.parametrize("marker", ["NaN", "nan", "None", "N/A", "NA", "<NA>", "null"])
def test_markers_of_missing_values_are_no_class_and_no_speaker(folder: Path, marker: str) -> None:
    text = f"path,label,speaker,text\n0.wav,{marker},a,x\n1.wav,sad,{marker},{marker}\n"
    corpus = _load(folder, text)
    # A text may be such a word.
    assert [(one.id, one.label, one.speaker, one.text_id) for one in corpus] == [
        ("1", "sad", "", marker)
    ]
    (bad,) = corpus.quarantine
    assert (bad.path, bad.reason, bad.size > 0) == (folder / "0.wav", "no-label", True)
    assert "has no label in row 1 of list.csv" in bad.message
    for field in ("label", "speaker"):
        line = f"1 rows of list.csv have {marker!r} as {field}, which was read as missing"
        assert line in corpus.notes


def test_nan_of_json_and_parquet_is_missing(folder: Path) -> None:
    line = '{"path": "0.wav", "label": NaN, "text": NaN}\n{"path": "1.wav", "label": "sad"}\n'
    corpus = _load(folder, line, "jsonl")
    assert [(one.id, one.text_id) for one in corpus] == [("1", "")]
    columns = {"path": ["0.wav", "1.wav"], "label": [1.0, float("nan")]}
    pq.write_table(pa.table(columns), folder / "list.parquet")
    corpus = ss.load_corpus("manifest", folder / "list.parquet", remember=False)
    assert [(one.id, one.label) for one in corpus] == [("0", "1.0")]
    assert [bad.reason for bad in corpus.quarantine] == ["no-label"]


def test_a_column_that_is_guessed_for_ids_must_identify_recordings(folder: Path) -> None:
    corpus = _load(folder, "path,Utterance,label\n0.wav,What?,joy\n1.wav,What?,anger\n")
    assert [(one.id, one.text_id) for one in corpus] == [("0", "What?"), ("1", "What?")]
    assert corpus.quarantine == ()
    assert "column 'Utterance' was not used for ids, because different" in corpus.notes[0]
    corpus = _load(folder, "path,name,text,label\n0.wav,Go on,t,joy\n1.wav,No,t,anger\n")
    assert [(one.id, one.text_id) for one in corpus] == [("0", "t"), ("1", "t")]
    corpus = _load(folder, "path,name,label\n0.wav,u7,joy\n1.wav,u8,anger\n")
    assert [one.id for one in corpus] == ["u7", "u8"]
    assert corpus.notes == ()


_ROWS = {"a": {"wav": "0.wav", "emo": "sad"}, "b": {"wav": "1.wav", "emo": "angry"}}


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (_ROWS, ["a", "b"]),
        ({"0": _ROWS["a"], "1": _ROWS["b"]}, ["0", "1"]),
        ({"wav": {"0": "0.wav", "1": "1.wav"}, "emo": {"0": "sad", "1": "angry"}}, ["0", "1"]),
        ({"wav": ["0.wav", "1.wav"], "emo": ["sad", "angry"]}, ["0", "1"]),
        ({"data": list(_ROWS.values())}, ["0", "1"]),
        (list(_ROWS.values()), ["0", "1"]),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_of_any_usual_form_is_a_table(
    folder: Path, content: object, ids: list[str], indent: int | None
) -> None:
    text = json.dumps(content, indent=indent)
    corpus = _load(folder, text, "json", columns={"label": "emo"})
    assert [(one.id, one.label) for one in corpus] == list(zip(ids, ["sad", "angry"], strict=True))


def test_a_shard_of_a_data_set_is_one_sentence(folder: Path) -> None:
    sound = {"bytes": bytes(100_000), "path": "0.wav"}
    table = pa.Table.from_pylist([{"audio": sound, "label": 1}])
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    with pytest.raises(CorpusError, match=r"inside its column 'audio'.* `huggingface`") as one:
        ss.load_corpus("manifest", folder / "train-00000-of-00001.parquet")
    assert len(str(one.value)) < 400


def test_the_lossless_one_of_two_copies_is_used(tmp_path: Path, make_sound: MakeSound) -> None:
    stem = "1001_DFA_ANG_XX"
    for name in (f"AudioMP3/{stem}.mp3", f"AudioWAV/{stem}.wav", f"More/{stem}.flac"):
        make_sound(tmp_path / name, voice=stem, seconds=0.5)
    corpus = ss.load_corpus("crema-d", tmp_path, remember=False)
    assert [one.path.name for one in corpus] == [f"{stem}.wav"]
    assert corpus.facts[stem].subtype == "PCM_16"
    assert corpus.quarantine == ()
    assert [note.partition(" and ")[0] for note in corpus.notes] == [
        "1 files are copies of other utterances",
        "1 files are lossy copies of other utterances",
    ]
    # Another length is another recording.
    make_sound(tmp_path / f"AudioMP3/{stem}.mp3", voice=stem, seconds=1.0)
    corpus = ss.load_corpus("crema-d", tmp_path, remember=False)
    assert [one.path.name for one in corpus] == [f"{stem}.wav"]
    assert [(bad.path.name, bad.reason) for bad in corpus.quarantine] == [
        (f"{stem}.mp3", "conflicting-copy")
    ]
    # A lossless copy that cannot be used does not replace one that can.
    (tmp_path / f"AudioWAV/{stem}.wav").write_bytes(b"")
    (tmp_path / f"More/{stem}.flac").unlink()
    corpus = ss.load_corpus("crema-d", tmp_path, remember=False)
    assert [one.path.name for one in corpus] == [f"{stem}.mp3"]


def test_no_recording_in_a_class_folder_disappears(tmp_path: Path, make_sound: MakeSound) -> None:
    for name in ("a.wave", "b.mp3", "c.ogg", "d.opus", "e.BWF"):
        kind = "OGG" if name == "d.opus" else "WAV" if name[0] in "ae" else None
        make_sound(tmp_path / "sad" / name, container=kind, seconds=0.2)
    for name in ("f.m4a", "g.WMA", "h.m4a"):
        (tmp_path / "sad" / name).write_bytes(bytes(100))
    corpus = ss.load_corpus("folders", tmp_path, remember=False)
    assert [one.id for one in corpus] == [f"sad-{letter}" for letter in "abcde"]
    assert [(bad.path.name, bad.reason) for bad in corpus.quarantine] == [
        (name, "unreadable") for name in ("f.m4a", "g.WMA", "h.m4a")
    ]
    assert "convert it to FLAC or WAV" in corpus.quarantine[0].message
    (note,) = corpus.notes
    assert note.startswith("3 files have formats that libsndfile does not read (.m4a 2, .wma 1)")


def test_a_folder_of_unreadable_formats_says_so(tmp_path: Path) -> None:
    (tmp_path / "sad").mkdir()
    (tmp_path / "sad" / "a.m4a").write_bytes(bytes(100))
    with pytest.raises(CorpusError, match=r"a\.m4a has the suffix \.m4a, whose format"):
        ss.load_corpus("folders", tmp_path)
