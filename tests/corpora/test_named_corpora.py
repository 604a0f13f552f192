"""Readers of named corpora: how each names its files, and how copies spoil them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import sigma_ser as ss
from sigma_ser.core.errors import ConfigError, CorpusError

MakeSound = Callable[..., Path]
_WORDS = ("back", "bite", "food")
_EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "ps", "sad")


@pytest.fixture
def tess(tmp_path: Path, make_sound: MakeSound) -> Path:
    """Three words of TESS as the copies that go round have it, with all that is odd in them."""
    root = tmp_path / "TESS Toronto emotional speech set data"
    for speaker, style in (("OAF", str.capitalize), ("YAF", str.lower)):
        for emotion in _EMOTIONS:
            spelt = {"ps": "pleasant_surprise" + ("" if speaker == "OAF" else "d")}
            folder = root / f"{speaker}_{style(spelt.get(emotion, emotion))}"
            for word in _WORDS:
                name = f"{speaker}_{word}_{emotion}.wav"
                # What libsndfile reads is reported by the content, not by the name.
                aiff = (speaker, word, emotion) == ("YAF", "back", "angry")
                rate = 96_000 if name == "OAF_food_fear.wav" else 24_414
                make_sound(folder / name, rate=rate, container="AIFF" if aiff else "WAV")
                (folder / f"._{name}").write_bytes(bytes(82))
    (root / "OAF_Neutral" / "OAF_bite_neutral.wav").rename(
        root / "OAF_Neutral" / "OA_bite_neutral.wav"
    )
    return root


def test_tess_is_read_whatever_its_folders_are_called(tess: Path) -> None:
    corpus = ss.load_corpus("tess", tess)
    assert len(corpus) == 2 * 3 * 7
    assert Counter(one.label for one in corpus)["surprise"] == 6
    assert {one.speaker for one in corpus} == {"OAF", "YAF"}
    assert {one.text_id for one in corpus} == set(_WORDS)
    assert corpus["OAF_bite_neutral"].path.name == "OA_bite_neutral.wav"
    assert corpus["OAF_food_fear"].sample_rate == 96_000
    assert corpus.facts["YAF_back_angry"].warnings == ("other-container",)
    assert corpus.quarantine == ()
    assert "42 macOS resource files (._*) were left out" in corpus.notes
    assert corpus.differences[0] == "42 utterances instead of the official 2800"
    assert not any(line.startswith("missing") for line in corpus.differences)


def test_two_missing_files_are_a_line_and_no_failure(tess: Path) -> None:
    (tess / "OAF_Angry" / "OAF_back_angry.wav").unlink()
    (tess / "YAF_sad" / "YAF_food_sad.wav").unlink()
    corpus = ss.load_corpus("tess", tess)
    assert len(corpus) == 40
    assert corpus.differences[-1] == "missing: OAF_back_angry, YAF_food_sad"


def test_a_folder_nested_twice_gives_each_recording_once(tess: Path, tmp_path: Path) -> None:
    key = ss.load_corpus("tess", tess).key
    shutil.copytree(tess, tmp_path / "copy")
    shutil.copytree(tess, tmp_path / "copy" / tess.name)
    corpus = ss.load_corpus("tess", tmp_path / "copy")
    assert corpus.key == key
    assert corpus.quarantine == ()
    assert any(note.startswith("42 files are copies of other utterances") for note in corpus.notes)


def test_a_copy_with_another_sound_goes_to_quarantine(tess: Path, make_sound: MakeSound) -> None:
    other = make_sound(tess / "more" / "YAF_back_sad.wav", voice="other", rate=24_414)
    (bad,) = ss.load_corpus("tess", tess).quarantine
    assert (bad.path, bad.reason) == (other, "conflicting-copy")
    assert bad.size == other.stat().st_size


def test_ids_and_key_do_not_depend_on_place_or_lossless_format(tess: Path, tmp_path: Path) -> None:
    import soundfile

    corpus = ss.load_corpus("tess", tess)
    for one in corpus:
        wave, rate = soundfile.read(one.path, dtype="int16")
        path = tmp_path / "elsewhere" / f"{one.id}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, wave, rate)
    moved = ss.load_corpus("tess", tmp_path / "elsewhere")
    assert [one.id for one in moved] == [one.id for one in corpus]
    assert moved.key == corpus.key
    (tmp_path / "elsewhere" / "YAF_food_sad.flac").unlink()
    assert ss.load_corpus("tess", tmp_path / "elsewhere").key != corpus.key


_NAMES = {
    "ravdess": {
        "Actor_02/03-01-08-02-02-01-02.wav": ("surprise", "02", "02", "female"),
        "Actor_23/03-01-01-01-01-02-23.wav": ("neutral", "23", "01", "male"),
    },
    "crema-d": {
        "AudioWAV/1001_DFA_ANG_XX.wav": ("angry", "1001", "DFA", None),
        "AudioWAV/1040_ITH_SAD_X.wav": ("sad", "1040", "ITH", None),
        "AudioWAV/1091_IEO_FEA_HI.wav": ("fear", "1091", "IEO", None),
    },
    "emodb": {
        "wav/03a01Fa.wav": ("happy", "03", "a01", "male"),
        "wav/16b10Wb.wav": ("angry", "16", "b10", "female"),
        "wav/08a05Lc.wav": ("bored", "08", "a05", "female"),
        "wav/11a05Ad.wav": ("fear", "11", "a05", "male"),
    },
    "savee": {
        "ALL/DC_a01.wav": ("angry", "DC", "common01", "male"),
        "ALL/KL_su15.wav": ("surprise", "KL", "su15", "male"),
        "AudioData/JE/sa04.wav": ("sad", "JE", "sa04", "male"),
        "AudioData/JK/n30.wav": ("neutral", "JK", "n30", "male"),
    },
}


@pytest.mark.parametrize("name", _NAMES)
def test_file_names_tell_class_speaker_text_and_sex(
    name: str, tmp_path: Path, make_sound: MakeSound
) -> None:
    for path in _NAMES[name]:
        make_sound(tmp_path / path)
    stranger = make_sound(tmp_path / "interview.wav")
    corpus = ss.load_corpus(name, tmp_path)
    sexes = corpus.columns.get("sex", {})
    assert {
        one.path.relative_to(tmp_path).as_posix(): (
            one.label, one.speaker, one.text_id, sexes.get(one.id)
        )
        for one in corpus
    } == _NAMES[name]  # fmt: skip
    assert [(bad.path, bad.reason) for bad in corpus.quarantine] == [(stranger, "unknown-name")]
    assert corpus.differences


def test_ravdess_leaves_song_and_video_out_and_says_so(
    tmp_path: Path, make_sound: MakeSound
) -> None:
    for stem in ("03-01-03-01-01-01-04", "03-02-03-01-01-01-04", "01-01-03-01-01-01-04"):
        make_sound(tmp_path / f"{stem}.wav")
    corpus = ss.load_corpus("ravdess", tmp_path)
    assert [one.id for one in corpus] == ["03-01-03-01-01-01-04"]
    assert any(note.startswith("2 recordings") for note in corpus.notes)


def test_a_complete_grid_has_no_difference(tmp_path: Path, make_sound: MakeSound) -> None:
    """The official counts of SAVEE and its list of names are of one mind."""
    first = make_sound(tmp_path / "DC_a01.wav")
    for speaker in ("DC", "JE", "JK", "KL"):
        for code in ("a", "d", "f", "h", "n", "sa", "su"):
            for number in range(1, 31 if code == "n" else 16):
                target = tmp_path / f"{speaker}_{code}{number:02d}.wav"
                if target != first:
                    target.symlink_to(first)
    assert ss.load_corpus("savee", tmp_path).differences == ()


@pytest.mark.parametrize("name", ["tess", "ravdess", "crema-d", "emodb", "savee"])
def test_published_counts_add_up(name: str) -> None:
    official = ss.registry.get("corpus", name).official
    for counts in official.by.values():
        assert sum(counts.values()) == official.utterances


def test_classes_are_kept_on_request(tess: Path) -> None:
    corpus = ss.load_corpus("tess", tess, classes=["anger", "sad"])
    assert corpus.class_names == ("angry", "sad")
    assert len(corpus) == len(corpus.facts) == 12
    assert "6 utterances of class surprise were left out on request" in corpus.notes
    with pytest.raises(CorpusError, match="no class 'bored'; it has angry"):
        ss.load_corpus("tess", tess, classes=["bored"])


def test_an_unknown_id_name_or_option_gets_near_matches(tess: Path) -> None:
    corpus = ss.load_corpus("tess", tess)
    assert "OAF_food_fear" in corpus
    with pytest.raises(CorpusError, match="did you mean OAF_food_fear"):
        corpus["OAF_food_feer"]
    with pytest.raises(ss.SigmaError, match="did you mean tess"):
        ss.load_corpus("tes", tess)
    with pytest.raises(ConfigError, match="no setting 'column'"):
        ss.load_corpus("tess", tess, column="x")
    with pytest.raises(ConfigError, match="known settings: columns, folder"):
        ss.load_corpus("manifest", tess, colums={})


@pytest.mark.parametrize("name", ss.registry.names("corpus"))
def test_every_reader_states_its_card_and_says_what_is_wrong_with_a_folder(
    name: str, tmp_path: Path
) -> None:
    reader = ss.registry.get("corpus", name)()
    assert reader.card.title
    if reader.official is not None:
        assert reader.card.source
        assert reader.card.licence
        assert reader.card.citation
    if reader.default_root is None:
        with pytest.raises(CorpusError, match="give the folder"):
            ss.load_corpus(name)
    for root in (tmp_path / "absent", tmp_path):
        with pytest.raises((CorpusError, ConfigError)) as caught:
            ss.load_corpus(name, root)
        assert "\n" not in str(caught.value)


@pytest.mark.real
def test_real_tess(real_data: Path) -> None:
    corpus = ss.load_corpus("tess", real_data / "tess")
    assert len(corpus) == 2798
    assert len(corpus.class_names) == 7
    assert Counter(one.speaker for one in corpus) == {"OAF": 1399, "YAF": 1399}
    assert len({one.text_id for one in corpus}) == 200
    assert corpus.quarantine == ()
    assert corpus.differences[-1] == "missing: OAF_back_angry, YAF_beg_sad"
    assert corpus["OAF_food_fear"].sample_rate == 96_000
    assert corpus["OAF_bite_neutral"].path.name == "OA_bite_neutral.flac"
    assert sum(one.seconds for one in corpus) == pytest.approx(5750.66, abs=0.01)


@pytest.mark.real
def test_real_ravdess(real_data: Path) -> None:
    corpus = ss.load_corpus("ravdess", real_data / "ravdess-4class")
    assert len(corpus) == 192
    assert corpus.class_names == ("angry", "happy", "neutral", "sad")
    sexes = {one.speaker: corpus.columns["sex"][one.id] for one in corpus}
    assert Counter(sexes.values()) == {"female": 12, "male": 12}
    stereo = [name for name, facts in corpus.facts.items() if facts.channels == 2]
    assert stereo == ["03-01-03-01-02-01-20"]
    folds = ss.make_folds(corpus, "speaker-kfold")
    assert sum(len(fold.test) for fold in folds) == 192
