"""The inputs of a study: corpora with folds, encoders, and their features."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import ConfigError, DamagedStoreError, StoreError
from sigma_ser.core.files import safe_name
from sigma_ser.core.progress import Progress
from sigma_ser.core.utterance import Utterance
from sigma_ser.corpora.corpus import Corpus, load_corpus
from sigma_ser.corpora.folds import Fold, make_folds
from sigma_ser.corpora.reader import Card
from sigma_ser.encoders.encoder import Encoder, encoder_of, load_encoder
from sigma_ser.encoders.extraction import extract
from sigma_ser.encoders.index import CARD, INDEX, shard_path
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.layout import RunLayout
from sigma_ser.victims.checkpoint import TrainedVictim

from .artifacts import fingerprint_of, open_source
from .config import StudyConfig
from .plan import PlanInput, features_key, make_plan
from .sections import WAVEFORM, CorpusSection
from .steps import Plan, Setting

# The one protocol of a feature store whose corpus is not split.
_WHOLE_STORE = "store"


@dataclass(frozen=True)
class StudyInput:
    """One corpus under one encoder, with the folds of each protocol.

    Args:
        corpus: the recordings.
        folds: of each protocol.
        features: key of the features.
        folder: in which the features lie, or will lie.
        card: of the encoder.
        encoder: makes the features; `None` where the study names a store of its own.
        whole: the encoder of attacks on the waveform; `None` where only features are attacked.
    """

    corpus: Corpus
    folds: Mapping[str, Sequence[Fold]]
    features: str
    folder: Path
    card: Mapping[str, Any]
    encoder: Encoder | None
    whole: Encoder | None = None

    @property
    def layer(self) -> str:
        """The layer of the encoder, as the rows name it."""
        return str(self.card["layer"])

    @property
    def dim(self) -> int:
        """Channels of a frame of the store."""
        return int(self.card["dim"])

    def frames(self, utterances: Iterable[Utterance]) -> int:
        """Number of frames of some utterances together."""
        if self.encoder is None:
            return int(FeatureStore(self.folder).lengths([one.id for one in utterances]).sum())
        return sum(self.encoder.frames(round(one.seconds * SAMPLE_RATE)) for one in utterances)

    def plan_inputs(self, store: FeatureStore | None) -> list[PlanInput]:
        """One for each protocol; without the recordings that gave no features, where known."""
        return [self._plan_input(protocol, store) for protocol in self.folds]

    def _plan_input(self, protocol: str, store: FeatureStore | None) -> PlanInput:
        setting = Setting(
            corpus=self.corpus.name,
            protocol=protocol,
            encoder=str(self.card["name"]),
            layer=self.layer,
            features=self.features,
            store=self.folder,
            frame_seconds=float(self.card["frame_seconds"]),
            opens=() if self.whole is None else tuple(sorted(self.whole.spec.items())),
        )
        folds = self.folds[protocol]
        if store is not None:
            folds = [_usable(fold, store) for fold in folds]
        return PlanInput(setting, self.corpus, folds)


def open_inputs(config: StudyConfig, layout: RunLayout) -> list[StudyInput]:
    """Find the recordings, encoders and features of a study; nothing is written.

    Raises:
        SigmaError: if one of them is missing or wrong.
    """
    if config.features is not None:
        return _from_store(config, FeatureStore(config.features.store))
    corpora = [
        (corpus, _folds(section, corpus))
        for section in config.corpus or ()
        for corpus in [load_corpus(section.name, section.root, **section.settings)]
    ]
    encoders = [
        load_encoder(section.name, layer, **section.settings)
        for section in config.encoder or ()
        for layer in section.layer
    ]
    inputs = []
    for (corpus, folds), encoder in itertools.product(corpora, encoders):
        key = features_key(corpus, encoder.key)
        name = safe_name(f"{corpus.name}-{Path(str(encoder.card['name'])).name}-{encoder.layer}")
        folder = layout.features(f"{name}-{key[:8]}")
        whole = encoder if WAVEFORM in config.surface else None
        inputs.append(StudyInput(corpus, folds, key, folder, encoder.card, encoder, whole))
    return inputs


def plan_study(
    config: StudyConfig,
    inputs: Sequence[StudyInput],
    progress: Progress | None,
    digests: Digests | None = None,
) -> Plan:
    """Plan a study; with a progress, the missing features are extracted first.

    Args:
        config: of the study.
        inputs: from `open_inputs`.
        progress: is informed of the extraction; `None` plans without features, as a dry run does.
        digests: of the run folder that holds the features.

    Raises:
        SigmaError: if features cannot be extracted, or a loaded victim does not fit them.
    """
    stores = [None if progress is None else _extracted(one, progress, digests) for one in inputs]
    loaded: dict[str, str] = {}
    for section in config.victims:
        for one, store in zip(inputs, stores, strict=True):
            if section.load is not None:
                victim = open_source(section.load, one.layer, section.settings)
                loaded[section.load] = fingerprint_of(victim)
                if store is not None:
                    _check_fit(victim, store)
    planned = [
        setting
        for one, store in zip(inputs, stores, strict=True)
        for setting in one.plan_inputs(store)
    ]
    return make_plan(config, planned, loaded)


def _from_store(config: StudyConfig, store: FeatureStore) -> list[StudyInput]:
    """The inputs of a study that names a feature store instead of an encoder."""
    if not store.complete:
        raise StoreError(
            f"{store.folder} is incomplete; run `sigma-ser extract` again to finish it"
        )
    if config.corpus is None:
        pairs: list[tuple[Corpus, Mapping[str, Sequence[Fold]]]] = [
            (_corpus_of(store), _whole(store, config))
        ]
    else:
        pairs = []
        for section in config.corpus:
            corpus = load_corpus(section.name, section.root, **section.settings)
            if corpus.key != store.card["corpus"]["key"]:
                raise ConfigError(
                    f"features.store: {store.folder} holds features of another corpus or version "
                    f"({store.card['corpus']['name']}) than {section.name}; extract them again"
                )
            pairs.append((corpus, _folds(section, corpus) or _whole(store, config)))
    card = store.card["encoder"]
    whole = encoder_of(card) if WAVEFORM in config.surface else None
    return [
        StudyInput(corpus, folds, store.key, store.folder, card, None, whole)
        for corpus, folds in pairs
    ]


def _whole(store: FeatureStore, config: StudyConfig) -> dict[str, list[Fold]]:
    """All utterances of a store as the test part of one fold."""
    test = config.evaluation.ids or store.ids
    unknown = [name for name in test if name not in store]
    if unknown:
        raise ConfigError(f"evaluation.ids: {store.folder} has no utterance {unknown[0]!r}")
    return {_WHOLE_STORE: [Fold(_WHOLE_STORE, (), (), tuple(test))]}


def _corpus_of(store: FeatureStore) -> Corpus:
    """The utterances of a store: ids, classes and durations, without recordings."""
    ids, name = store.ids, str(store.card["corpus"]["name"])
    labels, seconds = store.labels(ids).tolist(), store.seconds(ids).tolist()
    utterances = [
        Utterance(
            id=one,
            path=Path(),
            label=store.class_names[label],
            sample_rate=SAMPLE_RATE,
            num_samples=round(duration * SAMPLE_RATE),
        )
        for one, label, duration in zip(ids, labels, seconds, strict=True)
    ]
    return Corpus(name, utterances, store.class_names, Card(name))


def _check_fit(victim: Any, store: FeatureStore) -> None:
    """Refuse features that a loaded victim was not made for.

    Raises:
        SigmaError: names what differs.
    """
    if isinstance(victim, TrainedVictim):
        victim.view(store)
        return
    scale = victim.scale
    if scale.ndim == 1 and len(scale) != store.dim // store.layers:
        raise ConfigError(
            f"the victim takes features of {len(scale)} channels and the encoder gives {store.dim};"
            " choose the encoder and layer that the victim was trained on"
        )


def _extracted(one: StudyInput, progress: Progress, digests: Digests | None) -> FeatureStore:
    progress.stage("features", len(one.corpus))
    before = 0

    def advance(done: int, total: int) -> None:
        nonlocal before
        progress.advance(done - before)
        before = done

    store = _finished(one)
    index = [one.folder / name for name in (CARD, INDEX)]
    if store is None:
        assert one.encoder is not None
        store = extract(one.corpus, one.encoder, out=one.folder, progress=advance)
        # While shards are added the index changes, so it is recorded once it is complete.
        if digests is not None:
            for path in index:
                digests.record(path)
        return store
    if digests is not None:
        for path in index:
            digests.check(path)
    advance(len(one.corpus), len(one.corpus))
    return store


def _finished(one: StudyInput) -> FeatureStore | None:
    """The features, if none is missing: then the encoder need not be loaded."""
    if one.encoder is None:
        return FeatureStore(one.folder)
    path = one.folder / CARD
    if not path.exists():
        if any(not path.name.startswith(".") for path in one.folder.glob("*")):
            raise DamagedStoreError(
                f"{path} is missing, which says whose features these are; delete {one.folder} and "
                "run again: the features are computed again",
                path,
            )
        return None
    store = FeatureStore(one.folder)
    card, shards = store.card, range(int(store.card["shards"]))
    same = (card["corpus"]["key"], card["encoder_key"]) == (one.corpus.key, one.encoder.key)
    there = store.complete and all(shard_path(one.folder, shard).is_file() for shard in shards)
    return store if same and there else None


def _folds(section: CorpusSection, corpus: Corpus) -> dict[str, list[Fold]]:
    """The folds of each protocol that the study runs."""
    return {protocol: _chosen_folds(section, corpus, protocol) for protocol in section.protocol}


def _chosen_folds(section: CorpusSection, corpus: Corpus, protocol: str) -> list[Fold]:
    folds = make_folds(corpus, protocol, seed=section.seed, **section.protocol_settings)
    wanted = range(len(folds)) if section.folds is None else section.folds
    for number in wanted:
        if not 0 <= number < len(folds):
            raise ConfigError(
                f"corpus.folds: there is no fold {number}, {protocol!r} has "
                f"folds 0 to {len(folds) - 1}"
            )
    return [folds[number] for number in wanted]


def _usable(fold: Fold, store: FeatureStore) -> Fold:
    """The fold without recordings that gave no features; the store names them."""

    def kept(ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in ids if name in store)

    return Fold(fold.name, kept(fold.train), kept(fold.validation), kept(fold.test))
