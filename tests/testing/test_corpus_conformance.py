"""Every registered corpus reader passes the conformance suite on a small copy of its corpus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import soundfile

from sigma_ser import demo
from sigma_ser.core import registry
from sigma_ser.testing import check_corpus

# Readers of other packages' formats use what their own dependencies call deprecated.
pytestmark = pytest.mark.filterwarnings("ignore")

FILES = {
    "crema-d": ["AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1040_ITH_SAD_X.wav"],
    "emodb": ["wav/03a01Fa.wav", "wav/16b10Wb.wav"],
    "folders": ["happy/a.wav", "happy/b.wav", "sad/a.wav"],
    "ravdess": ["Actor_02/03-01-08-02-02-01-02.wav", "Actor_23/03-01-01-01-01-02-23.wav"],
    "savee": ["ALL/DC_a01.wav", "AudioData/JE/sa04.wav"],
    "tess": ["OAF_angry/OAF_back_angry.wav", "YAF_sad/YAF_back_sad.wav"],
}


def sound(path: Path) -> Path:
    """Write 40 ms of noise that belongs to the name of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(crc32(str(path.name).encode()))
    wave = np.round(3000 * rng.standard_normal(640)).astype(np.int16)
    soundfile.write(path, wave, 16_000, subtype="PCM_16")
    return path


def iemocap(root: Path) -> Path:
    session = root / "Session1"
    folder = session / "dialog" / "EmoEvaluation"
    folder.mkdir(parents=True)
    lines = []
    for place, label in enumerate(("ang", "hap", "neu", "sad")):
        name = f"Ses01F_impro01_F{place:03d}"
        sound(session / "sentences" / "wav" / "Ses01F_impro01" / f"{name}.wav")
        lines.append(f"[{place}.0000 - {place}.5000]\t{name}\t{label}\t[2.5, 3.0, 2.5]")
    (folder / "Ses01F_impro01.txt").write_text("\n".join(lines))
    return root


def manifest(root: Path) -> Path:
    rows = [{"path": f"{n}.wav", "label": label} for n, label in enumerate(("happy", "sad"))]
    for row in rows:
        sound(root / row["path"])
    path = root / "list.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def audformat(root: Path) -> Path:
    library = pytest.importorskip("audformat", exc_type=ImportError)
    files = ["wav/0.wav", "wav/1.wav"]
    for file in files:
        sound(root / file)
    database = library.Database("little", source="here", license="CC0-1.0")
    database.schemes["emotion"] = library.Scheme(labels=["anger", "sadness"])
    database["emotion"] = library.Table(library.filewise_index(files))
    database["emotion"]["emotion"] = library.Column(scheme_id="emotion")
    database["emotion"]["emotion"].set(["anger", "sadness"])
    database.save(str(root))
    return root


def huggingface(root: Path) -> Path:
    library = pytest.importorskip("datasets", exc_type=ImportError)
    rows = [
        {"audio": str(sound(root / "made" / f"{n}.wav")), "emotion": emotion}
        for n, emotion in enumerate(("angry", "sad"))
    ]
    library.Dataset.from_list(rows).save_to_disk(str(root / "set"))
    return root / "set"


MADE: dict[str, Callable[[Path], Path]] = {
    "audformat": audformat,
    "demo": lambda root: demo.corpus_path(),
    "huggingface": huggingface,
    "iemocap": iemocap,
    "iemocap4": iemocap,
    "manifest": manifest,
}


@pytest.mark.parametrize("name", registry.names("corpus"))
def test_every_reader_passes_the_conformance_suite(name: str, tmp_path: Path) -> None:
    assert name in {**MADE, **FILES}, f"add a small copy of the corpus {name} here"
    root = tmp_path / "corpus"
    if name in FILES:
        for file in FILES[name]:
            sound(root / file)
    else:
        root = MADE[name](root)
    check_corpus(name, root)
