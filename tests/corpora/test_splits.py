"""Laws of all split protocols, on corpora that chance made up."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import sigma_ser as ss
from sigma_ser.core.errors import ConfigError, CorpusError
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.corpora.corpus_protocols import DEMO_TEST_VOICES, DEMO_VALIDATION_VOICES
from sigma_ser.corpora.folds import PARTS, Fold
from sigma_ser.corpora.reader import Card
from sigma_ser.corpora.samples import by_length, evenly

# Each utterance tests once over all folds of these.
_K_FOLD = ("speaker-kfold", "text-kfold", "random-stratified")
# Their names say that validation may share speakers with the test.
_SHARING = ("text", "word", "random", "predefined", "fold-file")


Row = tuple[str, str, str, str]


def _corpus(rows: list[Row], splits: list[str] | None = None) -> Corpus:
    """A corpus without recordings from (label, speaker, session, text)."""
    utterances = tuple(
        ss.Utterance(f"u{number:04d}", Path(f"/none/{number}.wav"), label, speaker, session, text)
        for number, (label, speaker, session, text) in enumerate(rows)
    )
    columns = (
        {"split": dict(zip((one.id for one in utterances), splits, strict=True))} if splits else {}
    )
    labels = tuple(sorted({one.label for one in utterances}))
    return Corpus("chance", utterances, labels, Card("chance"), columns=columns)


def _shuffled(corpus: Corpus, seed: int) -> Corpus:
    order = list(corpus.utterances)
    random.Random(seed).shuffle(order)
    return Corpus(
        corpus.name, tuple(order), corpus.class_names, corpus.card, columns=corpus.columns
    )


# Unequal classes, speakers and texts; the corpus is made outside, since beartype draws chances
# of its own, and strategies may not.
_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["angry", "happy", "sad"]),
        st.sampled_from([f"s{number}" for number in range(7)]),
        st.sampled_from(["1", "2", "3", "4", "5"]),
        st.sampled_from([f"t{number}" for number in range(8)]),
    ),
    min_size=12,
    max_size=100,
)


def _iemocap_like() -> Corpus:
    rng = random.Random(0)
    rows = []
    for _ in range(200):
        session = f"Ses0{rng.randint(1, 5)}"
        rows.append((rng.choice(["angry", "sad"]), f"{session}{rng.choice('FM')}", session, "t"))
    return _corpus(rows)


def _grid(speakers: tuple[str, ...]) -> Corpus:
    """Every speaker says every word in every emotion, as in TESS and in the demo corpus."""
    return _corpus(
        [(label, speaker, "", f"w{word}") for label in ("angry", "neutral", "sad")
         for speaker in speakers for word in range(15)],
        ["train", "dev", "test"] * (len(speakers) * 15),
    )  # fmt: skip


_MADE = {
    "iemocap": _iemocap_like(),
    "tess": _grid(("OAF", "YAF")),
    "demo": _grid(("f1", "f2", "f3", "f4", "m1", "m2", "m3", "m4")),
}


@pytest.fixture(autouse=True)
def _kept_fold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that `fold-file` looks for unless reported another."""
    monkeypatch.chdir(tmp_path)
    fold = Fold("kept", ["u0001", "u0004"], ["u0002"], ["u0003", "u9999"])
    (tmp_path / "fold.json").write_text(fold.to_json(), "utf-8")


def _folds_of(protocol: str) -> list[tuple[Corpus, list[Fold]]]:
    """What a protocol makes of the corpora that it accepts."""
    made = []
    for corpus in _MADE.values():
        try:
            made.append((corpus, ss.make_folds(corpus, protocol)))
        except CorpusError:
            continue
    assert made, f"no corpus here suits {protocol}: add one that does"
    return made


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ss.registry.names("protocol"))
def test_every_protocol_keeps_the_laws(protocol: str) -> None:
    for corpus, folds in _folds_of(protocol):
        assert len({fold.name for fold in folds}) == len(folds)
        assert len({fold.key for fold in folds}) == len(folds)
        for fold in folds:
            parts = [set(getattr(fold, part)) for part in PARTS]
            assert all(parts)
            assert sum(map(len, parts)) == len(set.union(*parts))
            assert set.union(*parts) <= {one.id for one in corpus}
            validated, tested = (
                {corpus[name].speaker for name in part} for part in (fold.validation, fold.test)
            )
            if not any(word in protocol for word in _SHARING):
                assert not validated & tested
            assert Fold.from_json(fold.to_json()) == fold
        again = ss.make_folds(_shuffled(corpus, 3), protocol)
        assert again == folds
        assert list(map(hash, again)) == list(map(hash, folds))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", _K_FOLD)
@settings(max_examples=25, deadline=None)
@given(rows=_ROWS, seed=st.integers(0, 5), folds=st.integers(3, 6))
def test_k_folds_cover_all_and_keep_groups_whole(
    protocol: str, rows: list[Row], seed: int, folds: int
) -> None:
    corpus = _corpus(rows)
    group = {
        "speaker-kfold": lambda one: one.speaker,
        "text-kfold": lambda one: one.text_id,
        "random-stratified": lambda one: one.id,
    }[protocol]
    groups = Counter(group(one) for one in corpus)
    rarest = min(Counter(one.label for one in corpus).values())
    assume(len(groups) >= folds)
    assume(protocol != "random-stratified" or rarest >= folds)
    made = ss.make_folds(corpus, protocol, seed=seed, folds=folds)
    assert len(made) == folds
    for part in ("test", "validation"):
        counts = Counter(name for fold in made for name in getattr(fold, part))
        assert counts == {one.id: 1 for one in corpus}
    for fold in made:
        assert len(fold.train) + len(fold.validation) + len(fold.test) == len(corpus)
        kinds = [{group(corpus[name]) for name in getattr(fold, part)} for part in PARTS]
        assert sum(map(len, kinds)) == len(set.union(*kinds)) == len(groups)
    # Piles are as even as their groups allow: none exceeds another by more than one group.
    sizes = [len(fold.test) for fold in made]
    assert max(sizes) - min(sizes) <= max(groups.values())
    assert ss.make_folds(_shuffled(corpus, seed), protocol, seed=seed, folds=folds) == made


@settings(max_examples=25, deadline=None)
@given(rows=_ROWS, seed=st.integers(0, 5), folds=st.integers(3, 6))
def test_stratified_folds_hold_the_share_of_every_class(
    rows: list[Row], seed: int, folds: int
) -> None:
    corpus = _corpus(rows)
    assume(min(Counter(one.label for one in corpus).values()) >= folds)
    made = ss.make_folds(corpus, "random-stratified", seed=seed, folds=folds)
    for label in corpus.class_names:
        counts = [sum(corpus[name].label == label for name in fold.test) for fold in made]
        assert max(counts) - min(counts) <= 1
        assert min(counts) >= 1


@pytest.mark.parametrize("protocol", [*_K_FOLD, "leave-one-speaker-out", "tess-loso2", "superb"])
def test_the_seed_chooses(protocol: str) -> None:
    for corpus, folds in _folds_of(protocol):
        seeds = [ss.make_folds(corpus, protocol, seed=seed) for seed in range(4)]
        assert seeds[0] == folds
        assert any(other != folds for other in seeds[1:])


def test_adding_an_utterance_moves_no_group_between_the_words_of_tess() -> None:
    """The held words are drawn by their own hash, so they do not depend on the recordings."""
    whole = _MADE["tess"]
    fewer = _corpus([(o.label, o.speaker, o.session, o.text_id) for o in whole.utterances[:-1]])
    for before, after in zip(
        ss.make_folds(whole, "tess-loso2"), ss.make_folds(fewer, "tess-loso2"), strict=True
    ):
        assert {whole[name].text_id for name in before.validation} == {
            fewer[name].text_id for name in after.validation
        }


def test_tess_loso2_validates_on_other_words_of_the_training_speaker() -> None:
    corpus = _MADE["tess"]
    folds = ss.make_folds(corpus, "tess-loso2")
    assert [fold.name for fold in folds] == ["test-OAF", "test-YAF"]
    for fold in folds:
        speakers = [{corpus[name].speaker for name in getattr(fold, part)} for part in PARTS]
        assert speakers[0] == speakers[1] != speakers[2]
        words = [{corpus[name].text_id for name in getattr(fold, part)} for part in PARTS]
        assert not words[0] & words[1]
        assert len(words[1]) == 3  # a fifth of 15


def test_demo_voices_tests_on_voices_outside_the_pretraining_data() -> None:
    (fold,) = ss.make_folds(_MADE["demo"], "demo-voices")
    speakers = [{_MADE["demo"][name].speaker for name in getattr(fold, part)} for part in PARTS]
    assert speakers[2] == set(DEMO_TEST_VOICES)
    assert speakers[1] == set(DEMO_VALIDATION_VOICES)
    assert len(speakers[0]) == 5


def test_a_column_may_name_parts_or_number_folds() -> None:
    rows = [("sad", "s", "", "t")] * 9
    named = _corpus(rows, ["Train", "dev", "test", "", "train", "VAL", "eval", "training", ""])
    (fold,) = ss.make_folds(named, "predefined")
    assert fold.train == ("u0000", "u0004", "u0007")
    assert fold.validation == ("u0001", "u0005")
    assert fold.test == ("u0002", "u0006")
    numbered = _corpus(rows, list("012012012"))
    folds = ss.make_folds(numbered, "predefined")
    assert [fold.test for fold in folds] == [
        ("u0000", "u0003", "u0006"),
        ("u0001", "u0004", "u0007"),
        ("u0002", "u0005", "u0008"),
    ]


@pytest.mark.parametrize(
    ("protocol", "options", "says"),
    [
        ("speaker-kfold", {}, "too few for 5 folds"),
        ("speaker-kfold", {}, "give folds=4"),
        ("speaker-kfold", {"folds": 2}, "at least 3 .* leave-one-speaker-out"),
        ("leave-one-speaker-out", {"share": 0.0}, "above 0 and at most 0.5"),
        ("predefined", {}, "no column 'split'"),
        ("predefined", {"column": "x"}, "no column 'x'"),
        ("demo-voices", {}, "use speaker-kfold"),
        ("tess-loso2", {}, "needs two speakers"),
        ("iemocap4-loso5", {}, "five sessions"),
        ("random-stratified", {"folds": 50}, "too few for 50 folds"),
    ],
)
def test_what_a_corpus_lacks_is_said(protocol: str, options: dict[str, object], says: str) -> None:
    corpus = _corpus([("sad", f"s{number % 4}", "1", f"t{number}") for number in range(40)])
    with pytest.raises(CorpusError, match=says):
        ss.make_folds(corpus, protocol, **options)


def test_two_speakers_test_each_other() -> None:
    corpus = _grid(("a", "b"))
    folds = ss.make_folds(corpus, "leave-one-speaker-out")
    assert [fold.name for fold in folds] == ["test-a", "test-b"]
    for fold, tested in zip(folds, "ab", strict=True):
        parts = [{corpus[name].speaker for name in getattr(fold, part)} for part in PARTS]
        assert parts[:2] == [{"b" if tested == "a" else "a"}] * 2
        assert parts[2] == {tested}
        assert len(fold.validation) == 9  # a fifth of each of three classes of 15
    with pytest.raises(CorpusError, match="two speakers or more"):
        ss.make_folds(_grid(("a",)), "leave-one-speaker-out")


def test_a_split_by_what_is_not_known_is_refused() -> None:
    corpus = _corpus([("sad", "", "", "") for _ in range(40)])
    for protocol, what in (
        ("speaker-kfold", "speaker"),
        ("text-kfold", "text"),
        ("superb", "session"),
    ):
        with pytest.raises(CorpusError, match=f"have no {what}.* such as random-stratified"):
            ss.make_folds(corpus, protocol)


def test_wrong_options_columns_and_folds_are_named() -> None:
    corpus = _MADE["demo"]
    with pytest.raises(
        ConfigError, match=r"no setting 'fold'; did you mean folds. known settings: folds"
    ):
        ss.make_folds(corpus, "speaker-kfold", fold=3)
    with pytest.raises(ConfigError, match="it has no settings"):
        ss.make_folds(corpus, "demo-voices", folds=3)
    with pytest.raises(ss.SigmaError, match="did you mean speaker-kfold"):
        ss.make_folds(corpus, "speaker-kfolds")
    odd = _corpus([("sad", "s", "", "t")] * 3, ["train", "test", "tset"])
    with pytest.raises(CorpusError, match="has the value 'tset'"):
        ss.make_folds(odd, "predefined")
    with pytest.raises(CorpusError, match="'a' more than once"):
        Fold("f", ["a", "b"], ["a"], ["c"])
    with pytest.raises(CorpusError, match="no utterance in its test part"):
        Fold("f", ["a"], ["b"], [])
    for text in ("[]", "{}", '{"name": "f", "train": 3, "validation": [], "test": []}', "x"):
        with pytest.raises(CorpusError, match="not a fold"):
            Fold.from_json(text)


def test_a_fold_from_a_file_holds_what_the_corpus_has_of_it(tmp_path: Path) -> None:
    corpus = _MADE["demo"]
    (fold,) = ss.make_folds(corpus, "fold-file")
    assert fold == Fold("kept", ["u0001", "u0004"], ["u0002"], ["u0003"])
    with pytest.raises(CorpusError, match=r"no fold can be read from no\.json .*file="):
        ss.make_folds(corpus, "fold-file", file="no.json")
    (tmp_path / "other.json").write_text(Fold("o", ["u0001"], [], ["w"]).to_json(), "utf-8")
    with pytest.raises(CorpusError, match="no utterance in its test part"):
        ss.make_folds(corpus, "fold-file", file=str(tmp_path / "other.json"))


def test_a_key_tells_folds_apart_and_ignores_the_order_of_ids() -> None:
    fold = Fold("f", ["b", "a"], ["c"], ["d"])
    assert fold == Fold("f", ["a", "b"], ["c"], ["d"])
    assert fold.key == Fold("f", ["a", "b"], ["c"], ["d"]).key == "9ee1a619936fc053"
    others = [Fold("f", ["a"], ["b", "c"], ["d"]), Fold("g", ["a", "b"], ["c"], ["d"])]
    assert len({fold.key, *(other.key for other in others)}) == 3
    with pytest.raises(AttributeError):
        fold.name = "other"  # type: ignore[misc]


def test_utterances_by_length_and_evenly_from_parts_are_those_of_the_whole_list() -> None:
    utterances = [
        ss.Utterance(
            f"u{n:02}", Path("/a.wav"), "sad", sample_rate=8000 * (n % 3), num_samples=n * 7 % 5
        )
        for n in range(29)
    ]
    corpus = Corpus("c", utterances, ("sad",), Card("c"))
    ids = [one.id for one in utterances[3:]][::-1]
    ordered = by_length(corpus, ids)
    expected = sorted((corpus[name] for name in ids), key=lambda one: (one.seconds, one.id))
    assert list(ordered) == expected
    for count in (0, 1, 7, 26, 40):
        parts = [ordered[:10], ordered[10:10], ordered[10:20], ordered[20:]]
        few = min(count, 26)
        assert list(evenly(parts, count)) == [expected[n * 26 // few] for n in range(few)]
    assert list(evenly([], 3)) == []
    with pytest.raises(CorpusError, match="no utterance 'u99'"):
        by_length(corpus, ["u99"])
