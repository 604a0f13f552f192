"""The leakage report against a slow count, and what it says about planted leaks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest

import sigma_ser as ss
from sigma_ser.core.errors import CorpusError
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.corpora.folds import PARTS, Fold
from sigma_ser.corpora.leakage import duplicate_groups, leakage_report

MakeSound = Callable[..., Path]


@pytest.fixture
def corpus(tmp_path: Path, make_sound: MakeSound) -> Corpus:
    """Three speakers, two texts; `s3` said `t1` in the voice of `s1`: the same recording."""
    lines = ["path,label,speaker,text"]
    for speaker in ("s1", "s2", "s3"):
        for text in ("t1", "t2"):
            for label in ("happy", "sad"):
                name = f"{speaker}-{text}-{label}"
                voice = "s1-t1-sad" if (speaker, text, label) == ("s3", "t1", "sad") else name
                suffix = "flac" if speaker == "s3" else "wav"
                make_sound(tmp_path / f"{name}.{suffix}", voice=voice)
                lines.append(f"{name}.{suffix},{label},{speaker},{text}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    return ss.load_corpus("manifest", tmp_path / "list.csv")


def test_every_count_is_that_of_a_slow_comparison(corpus: Corpus) -> None:
    folds = ss.make_folds(corpus, "random-stratified", folds=4)
    report = leakage_report(corpus, folds)
    assert len(report.shared) == 3 * len(folds)
    slow = []
    for fold in folds:
        for first, second in combinations(PARTS, 2):
            one = [corpus[name] for name in getattr(fold, first)]
            two = [corpus[name] for name in getattr(fold, second)]
            sounds = {corpus.facts[a.id].content for a in one for b in two
                      if corpus.facts[a.id].content == corpus.facts[b.id].content}  # fmt: skip
            slow.append(
                (
                    fold.name, first, second,
                    len({a.speaker for a in one for b in two if a.speaker == b.speaker}),
                    None,
                    len({a.text_id for a in one for b in two if a.text_id == b.text_id}),
                    len(sounds),
                    len({a.path for a in one} & {b.path for b in two}),
                )
            )  # fmt: skip
    assert [tuple(vars(pair).values()) for pair in report.shared] == slow
    for part in report.balance:
        (fold,) = (fold for fold in folds if fold.name == part.fold)
        labels = Counter(corpus[name].label for name in getattr(fold, part.part))
        assert part.classes == labels
        assert part.utterances == labels.total()


def test_the_same_sound_under_two_names_is_found_across_formats(corpus: Corpus) -> None:
    assert duplicate_groups(corpus) == (("s1-t1-sad", "s3-t1-sad"),)
    ids = [one.id for one in corpus]
    leaking = Fold("leak", [n for n in ids if "s1" in n], [n for n in ids if "s2" in n],
                   [n for n in ids if "s3" in n])  # fmt: skip
    report = leakage_report(corpus, [leaking])
    found = {(pair.first, pair.second): pair.identical_audio for pair in report.shared}
    assert found == {("train", "validation"): 0, ("train", "test"): 1, ("validation", "test"): 0}
    assert all(pair.speakers == 0 and pair.texts == 2 for pair in report.shared)


def test_what_the_corpus_does_not_know_is_not_called_zero(corpus: Corpus) -> None:
    report = leakage_report(corpus, ss.make_folds(corpus, "speaker-kfold", folds=3))
    assert {pair.sessions for pair in report.shared} == {None}
    assert {line["sessions"] for line in report} == {"unknown"}
    plain = json.loads(report.to_json())
    assert {pair["sessions"] for pair in plain["shared"]} == {None}
    assert len({tuple(line) for line in report}) == 1  # every line has the same columns


def test_a_fold_of_another_corpus_is_refused(corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match="has no utterance 'x'"):
        leakage_report(corpus, [Fold("f", ["x"], [], ["y"])])
