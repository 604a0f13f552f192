"""Readers that need another package: with it they read, without it they say what to install."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import sigma_ser as ss
from sigma_ser.core.errors import ConfigError, CorpusError

MakeSound = Callable[..., Path]

# Both packages use what their own dependencies call deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize(
    ("name", "package"), [("audformat", "audformat"), ("huggingface", "datasets")]
)
def test_an_absent_package_is_named_with_the_command(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as caught:
        ss.load_corpus(name, tmp_path)
    assert f"needs the package {package}" in str(caught.value)
    assert "pip install 'sigma-ser[corpora]'" in str(caught.value)


def test_an_audformat_database(tmp_path: Path, make_sound: MakeSound) -> None:
    audformat = pytest.importorskip("audformat", exc_type=ImportError)
    files = [f"wav/{number}.wav" for number in range(4)]
    for file in files:
        make_sound(tmp_path / file)
    database = audformat.Database("little", source="here", license="CC0-1.0")
    database.schemes["emotion"] = audformat.Scheme(labels=["anger", "sadness"])
    database.schemes["speaker"] = audformat.Scheme("str")
    index = audformat.filewise_index(files)
    database["emotion"] = audformat.Table(index)
    database["emotion"]["emotion"] = audformat.Column(scheme_id="emotion")
    database["emotion"]["emotion"].set(["anger", "sadness", "anger", None])
    database["files"] = audformat.Table(index)
    database["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    database["files"]["speaker"].set(["a", "b", "a", "b"])
    database.save(str(tmp_path))
    corpus = ss.load_corpus("audformat", tmp_path)
    assert corpus.name == "little"
    assert corpus.card.licence == "CC0-1.0"
    assert [(one.id, one.label, one.speaker) for one in corpus] == [
        ("wav-0", "angry", "a"),
        ("wav-1", "sad", "b"),
        ("wav-2", "angry", "a"),
    ]
    assert any(
        note.startswith("1 rows of db.yaml have no path or no label") for note in corpus.notes
    )
    with pytest.raises(ConfigError, match="no table 'x' of files or segments; it has emotion, f"):
        ss.load_corpus("audformat", tmp_path, table="x")
    with pytest.raises(CorpusError, match=r"has no db\.yaml"):
        ss.load_corpus("audformat", tmp_path / "wav")


def test_segments_of_an_audformat_database(tmp_path: Path, make_sound: MakeSound) -> None:
    audformat = pytest.importorskip("audformat", exc_type=ImportError)
    files = ["wav/0.wav", "wav/0.wav", "wav/1.wav"]
    for file in files:
        make_sound(tmp_path / file, seconds=0.2)
    database = audformat.Database("cut")
    database.schemes["emotion"] = audformat.Scheme(labels=["anger", "sadness"])
    database.schemes["speaker"] = audformat.Scheme("str")
    index = audformat.segmented_index(files, [0, "0.1s", "0.05s"], ["0.1s", "0.2s", None])
    database["emotion"] = audformat.Table(index)
    database["emotion"]["emotion"] = audformat.Column(scheme_id="emotion")
    database["emotion"]["emotion"].set(["anger", "sadness", "anger"])
    database["files"] = audformat.Table(audformat.filewise_index(["wav/0.wav", "wav/1.wav"]))
    database["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    database["files"]["speaker"].set(["a", "b"])
    database.save(str(tmp_path))
    corpus = ss.load_corpus("audformat", tmp_path)
    assert [(one.id, one.label, one.speaker, one.start, one.end) for one in corpus] == [
        ("wav-0_0-0.1", "angry", "a", 0.0, 0.1),
        ("wav-0_0.1-0.2", "sad", "a", 0.1, 0.2),
        ("wav-1_0.05-end", "angry", "b", 0.05, None),
    ]
    assert [one.num_samples for one in corpus] == [1600, 1600, 2400]


def test_a_data_set_that_needs_torchcodec_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DatasetsError(Exception):
        pass

    def load_dataset(*args: object, **options: object) -> None:
        try:
            try:
                raise ModuleNotFoundError("No module named 'torchcodec'")
            except ImportError as error:
                raise ImportError("please install 'torchcodec'.") from error
        except ImportError as error:
            raise DatasetsError("An error occurred while generating the dataset") from error

    absent = SimpleNamespace(
        load_dataset=load_dataset, exceptions=SimpleNamespace(DatasetsError=DatasetsError)
    )
    monkeypatch.setitem(sys.modules, "datasets", absent)
    with pytest.raises(CorpusError, match="pip install torchcodec, or load the folder with") as one:
        ss.load_corpus("huggingface", tmp_path)
    assert "\n" not in str(one.value)


@pytest.fixture
def hub_like(tmp_path: Path, make_sound: MakeSound, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set as the hub has it (Parquet), and as `save_to_disk` writes it; no network."""
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    import pyarrow as pa

    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True, raising=False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = []
    for number in range(4):
        path = make_sound(tmp_path / "made" / f"{number}.wav")
        # Half of the recordings lie inside the table, as in data sets of the hub.
        inside = {"bytes": path.read_bytes(), "path": path.name}
        sound = inside if number % 2 else {"bytes": None, "path": str(path)}
        rows.append({"audio": sound, "emotion": number % 2, "speaker_id": f"s{number}"})
    features = datasets.Features(
        {
            "audio": datasets.Audio(decode=False),
            "emotion": datasets.ClassLabel(names=["happy", "sad"]),
            "speaker_id": datasets.Value("string"),
        }
    )
    table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
    info = datasets.DatasetInfo(features=features)
    data = datasets.Dataset(datasets.table.InMemoryTable(table), info=info, fingerprint="made")
    (tmp_path / "hub" / "data").mkdir(parents=True)
    data.to_parquet(str(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet"))
    splits = datasets.DatasetDict({"train": data, "test": data.select([0, 1])})
    splits.save_to_disk(str(tmp_path / "saved"))
    return tmp_path


@pytest.mark.parametrize("kind", ["hub", "saved"])
def test_a_hugging_face_data_set(hub_like: Path, kind: str) -> None:
    corpus = ss.load_corpus("huggingface", hub_like / kind, split="train")
    assert corpus.quarantine == ()
    assert [one.id for one in corpus] == [f"train-{number:06d}" for number in range(4)]
    assert [one.label for one in corpus] == ["happy", "sad", "happy", "sad"]
    assert {one.speaker for one in corpus} == {"s0", "s1", "s2", "s3"}
    assert set(corpus.columns["split"].values()) == {"train"}
    assert ss.load_corpus("huggingface", hub_like / kind, split="train").key == corpus.key
    with pytest.raises(ConfigError, match="no split 'dev'; it has"):
        ss.load_corpus("huggingface", hub_like / kind, split="dev")
    with pytest.raises(CorpusError, match="cannot be loaded"):
        ss.load_corpus("huggingface", "nobody/nothing")
