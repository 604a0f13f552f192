"""An imitation of the IEMOCAP release with its traps, at a hundredth of its counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import ClassVar

import pytest

import sigma_ser as ss
from sigma_ser.corpora.iemocap import Iemocap, Iemocap4
from sigma_ser.corpora.reader import Official

# Official: 1103, 595, 1041, 1708, 1084, 1849, 107, 2507 and 40, 2, 3.
_LABELS = {
    "ang": 11, "hap": 6, "exc": 10, "neu": 17, "sad": 11, "fru": 18, "sur": 2, "fea": 1, "dis": 1,
    "oth": 1, "xxx": 25,
}  # fmt: skip
# Official for the four classes: 1085, 1023, 1151, 1031, 1241.
_SESSIONS = {"Ses01": 11, "Ses02": 10, "Ses03": 12, "Ses04": 10, "Ses05": 12}
# The letter names who wears the markers, not who speaks; five dialogs have longer names.
_DIALOGS = {
    "Ses01": ("F_impro01", "M_script01_1", "F_script01_1"),
    "Ses02": ("F_impro02", "M_script02_2", "M_impro07"),
    "Ses03": ("M_impro05a", "F_impro05", "M_impro05b", "F_script01_3"),
    "Ses04": ("F_impro03", "M_script03_2"),
    "Ses05": ("F_script03_1", "M_script01_1b", "F_impro08"),
}


class _Small4(Iemocap4):
    official: ClassVar[Official | None] = Official(
        utterances=55,
        by={"label": {"angry": 11, "happy": 16, "neutral": 17, "sad": 11}, "session": _SESSIONS},
        distinct={"speaker": 10},
    )


class _SmallAll(Iemocap):
    official: ClassVar[Official | None] = Official(
        utterances=78,
        by={
            "label": {
                "angry": 11, "happy": 6, "excited": 10, "neutral": 17, "sad": 11, "frustrated": 18,
                "surprise": 2, "fear": 1, "disgust": 1, "other": 1,
            }
        },
        distinct={"speaker": 10, "session": 5},
    )  # fmt: skip


def _plan() -> dict[str, list[tuple[str, str]]]:
    """For each dialog its utterances and their labels, so that the counts come out."""
    four = [label for label in ("ang", "hap", "exc", "neu", "sad") for _ in range(_LABELS[label])]
    # Every fifth, so that the classes mix over the sessions.
    four = [label for start in range(5) for label in four[start::5]]
    rest = [label for label in list(_LABELS)[5:] for _ in range(_LABELS[label])]
    dialogs: dict[str, list[tuple[str, str]]] = {}
    for number, (session, count) in enumerate(_SESSIONS.items()):
        labels = [four.pop() for _ in range(count)] + rest[number::5]
        names = [f"{session}{dialog}" for dialog in _DIALOGS[session]]
        for place, (label, dialog) in enumerate(zip(labels, cycle(names), strict=False)):
            speaker = "FM"[place // len(names) % 2]
            turns = dialogs.setdefault(dialog, [])
            turns.append((f"{dialog}_{speaker}{len(turns):03d}", label))
    return dialogs


def _label_line(name: str, label: str, place: int) -> str:
    return f"[{place * 2.5:.4f} - {place * 2.5 + 2:.4f}]\t{name}\t{label}\t[2.5000, 3.0000, 2.5000]"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, make_sound: Callable[..., Path]) -> Path:
    """The imitation; its folders are those of the full release."""
    root = tmp_path_factory.mktemp("iemocap") / "IEMOCAP_full_release"
    for dialog, turns in _plan().items():
        session = root / f"Session{dialog[4]}"
        folder = session / "dialog" / "EmoEvaluation"
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        for place, (name, label) in enumerate(turns):
            lines += [
                _label_line(name, label, place),
                "C-E2:\tNeutral;\t()",
                "C-E3:\tAnger; Frustration;\t(loud)",
                "C-F1:\tNeutral;\t()",
                "A-E3:\tval 3; act 3; dom  3;\t()",
                "A-F1:\tval 3; act 2; dom  2;\t()",
                "",
            ]
            make_sound(session / "sentences" / "wav" / dialog / f"{name}.wav")
        folder.mkdir(parents=True, exist_ok=True)
        ending = "\r\n" if dialog.startswith("Ses04") else "\n"
        (folder / f"{dialog}.txt").write_bytes(ending.join(lines).encode())
        # What must not be read: single raters, and the other half of files from a Mac.
        for other in ("Attribute", "Categorical", "Self-evaluation"):
            (folder / other).mkdir(exist_ok=True)
            wrong = _label_line(turns[0][0], "dis", 0)
            (folder / other / f"{dialog}_e1.txt").write_text(wrong)
        (folder / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07" + bytes(100))
        (session / "sentences" / "wav" / dialog / f"._{turns[0][0]}.wav").write_bytes(bytes(200))
        make_sound(session / "dialog" / "wav" / f"{dialog}.wav")
    return root


def test_the_four_classes_come_out_with_the_official_counts(release: Path) -> None:
    corpus = ss.load_corpus(_Small4(), release)
    assert corpus.differences == ()
    assert corpus.quarantine == ()
    assert corpus.class_names == ("angry", "happy", "neutral", "sad")
    assert any("25 utterances labelled 'xxx'" in note for note in corpus.notes)
    codes = Counter(corpus.columns["label_code"].values())
    assert codes == {label: _LABELS[label] for label in ("ang", "hap", "exc", "neu", "sad")}


def test_all_classes_come_out_too(release: Path) -> None:
    corpus = ss.load_corpus(_SmallAll(), release)
    assert corpus.differences == ()
    assert len(corpus.class_names) == 10
    assert Counter(one.label for one in corpus)["frustrated"] == 18


def test_the_speaker_is_the_letter_before_the_last_digits(release: Path) -> None:
    corpus = ss.load_corpus(_Small4(), release)
    for one in corpus:
        assert one.speaker == f"{one.id[:5]}{one.id[-4]}"
        assert one.session == one.id[:5]
    long_name = next(one for one in corpus if one.id.startswith("Ses03M_impro05a_F"))
    assert long_name.speaker == "Ses03F"
    assert (long_name.text_id, corpus.columns["dialog"][long_name.id]) == (
        "impro05",
        "Ses03M_impro05a",
    )
    # The trap is really there: neither the dialog's letter nor a fixed place gives the speaker.
    assert any(one.id[5] != one.speaker[-1] for one in corpus)
    assert any(one.id[15] not in "FM" for one in corpus if "impro" in one.id)


def test_loso5_tests_each_utterance_once_and_mixes_no_sessions(release: Path) -> None:
    corpus = ss.load_corpus(_Small4(), release)
    folds = ss.make_folds(corpus, "iemocap4-loso5")
    assert len(folds) == 5
    assert Counter(name for fold in folds for name in fold.test) == {one.id: 1 for one in corpus}
    for fold in folds:
        parts = [{corpus[name].session for name in getattr(fold, part)}
                 for part in ("train", "validation", "test")]  # fmt: skip
        assert [len(part) for part in parts] == [3, 1, 1]
        assert len(set.union(*parts)) == 5


def test_lospo10_tests_each_speaker_and_validates_on_the_other(release: Path) -> None:
    corpus = ss.load_corpus(_Small4(), release)
    folds = ss.make_folds(corpus, "iemocap4-lospo10")
    assert len(folds) == 10
    assert Counter(name for fold in folds for name in fold.test) == {one.id: 1 for one in corpus}
    for fold in folds:
        (tested,) = {corpus[name].speaker for name in fold.test}
        (validated,) = {corpus[name].speaker for name in fold.validation}
        assert tested[:5] == validated[:5]
        assert tested != validated
        assert tested[:5] not in {corpus[name].session for name in fold.train}


def test_superb_validates_on_a_fifth_of_the_training_sessions(release: Path) -> None:
    corpus = ss.load_corpus(_Small4(), release)
    folds = ss.make_folds(corpus, "superb")
    assert Counter(name for fold in folds for name in fold.test) == {one.id: 1 for one in corpus}
    for fold in folds:
        rest = len(fold.train) + len(fold.validation)
        assert len(fold.validation) == round(0.2 * rest)
        (tested,) = {corpus[name].session for name in fold.test}
        assert tested not in {corpus[name].session for name in fold.train + fold.validation}
    assert ss.make_folds(corpus, "superb", seed=1) != folds


def test_what_is_missing_is_named_and_the_rest_goes_on(
    release: Path, tmp_path: Path, make_sound: Callable[..., Path]
) -> None:
    import shutil

    copy = tmp_path / "copy" / "IEMOCAP_full_release"
    shutil.copytree(release, copy)
    wav = copy / "Session1" / "sentences" / "wav" / "Ses01F_impro01"
    gone = next(one for one in ss.load_corpus(_Small4(), copy) if "Ses01F_impro01" in one.id)
    gone.path.unlink()
    extra = make_sound(wav / "Ses01F_impro01_F099.wav")
    broken = copy / "Session2" / "dialog" / "EmoEvaluation" / "Ses02F_impro02.txt"
    broken.write_text(broken.read_text() + "[1.0 - 2.0]\tSes02F_impro02_F0XX\tneu\t[1, 2, 3]\n")
    corpus = ss.load_corpus(_Small4(), copy.parent)
    assert gone.id not in corpus
    assert {(bad.path, bad.reason) for bad in corpus.quarantine} == {
        (gone.path, "missing"),
        (extra, "no-label"),
    }
    assert "54 utterances instead of the official 55" in corpus.differences
    assert any("1 label lines cannot be read" in line for line in corpus.differences)


def test_a_copy_of_a_session_is_not_counted_twice(release: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "IEMOCAP_full_release"
    shutil.copytree(release, copy)
    shutil.copytree(copy / "Session2", copy / "backup" / "Session2")
    corpus = ss.load_corpus(_Small4(), copy)
    assert len(corpus) == 55
    assert corpus.quarantine == ()
    assert corpus.key == ss.load_corpus(_Small4(), release).key
