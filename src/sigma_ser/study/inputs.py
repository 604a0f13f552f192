"""What a study stands on: corpora with folds, encoders with layers, features."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import ConfigError
from sigma_ser.core.progress import Progress
from sigma_ser.corpora.corpus import Corpus, load_corpus
from sigma_ser.corpora.folds import Fold, make_folds
from sigma_ser.encoders.extraction import extract
from sigma_ser.encoders.index import CARD, shard_path
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.victims.checkpoint import TrainedVictim

from .artifacts import RunPaths, fingerprint_of, open_source
from .config import CorpusSection, StudyConfig
from .known_encoder import KnownEncoder, remembered_cards
from .plan import Ground, key_of_features, make_plan
from .steps import Plan, Setting


@dataclass(frozen=True)
class Scene:
    """One corpus under one encoder, with the folds of each protocol."""

    corpus: Corpus
    folds: Mapping[str, Sequence[Fold]]
    encoder: KnownEncoder

    @property
    def features(self) -> str:
        """Key of the features."""
        return key_of_features(self.corpus, self.encoder.key)

    def ground(self, protocol: str, store: FeatureStore | None) -> Ground:
        """A setting with the recordings that gave features."""
        card = self.encoder.card
        setting = Setting(
            corpus=self.corpus.name,
            protocol=protocol,
            encoder=str(card["name"]),
            layer=str(card["layer"]),
            features=self.features,
            frame_seconds=self.encoder.frame_seconds,
        )
        folds = self.folds[protocol]
        if store is not None:
            folds = [_usable(fold, store) for fold in folds]
        return Ground(setting, self.corpus, folds)


def open_scenes(config: StudyConfig, folder: Path) -> list[Scene]:
    """Find the recordings and encoders of a study; nothing is written.

    Args:
        config: of the study.
        folder: of the run, which may know its encoders from an earlier time.

    Raises:
        SigmaError: if one of them is missing or wrong.
    """
    corpora = [
        (corpus, {name: _chosen_folds(section, corpus, name) for name in section.protocol})
        for section in config.corpus
        for corpus in [load_corpus(section.name, section.root, **section.settings)]
    ]
    remembered = remembered_cards(folder)
    encoders = [
        KnownEncoder({"name_or_path": section.name, "layer": layer, **section.settings}, remembered)
        for section in config.encoder
        for layer in section.layer
    ]
    return [
        Scene(corpus, folds, encoder)
        for (corpus, folds), encoder in itertools.product(corpora, encoders)
    ]


def make_plan_of(
    config: StudyConfig, scenes: Sequence[Scene], paths: RunPaths, progress: Progress
) -> Plan:
    """Extract what is missing of the features, and plan the rest."""
    stores = [_extracted(scene, paths, progress) for scene in scenes]
    loaded: dict[str, str] = {}
    for section in config.victims:
        if section.load is not None:
            for scene, store in zip(scenes, stores, strict=True):
                victim = open_source(
                    section.load, str(scene.encoder.card["layer"]), section.settings
                )
                loaded[section.load] = fingerprint_of(victim)
                check_fit(victim, store)
    grounds = [
        scene.ground(protocol, store)
        for scene, store in zip(scenes, stores, strict=True)
        for protocol in scene.folds
    ]
    return make_plan(config, grounds, loaded)


def check_fit(victim: Any, store: FeatureStore) -> None:
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
            f"the victim knows features of {len(scale)} channels and the encoder gives {store.dim};"
            " choose the encoder and layer that it was made for"
        )


def _extracted(scene: Scene, paths: RunPaths, progress: Progress) -> FeatureStore:
    progress.stage("features", len(scene.corpus))
    before = 0

    def told(done: int, total: int) -> None:
        nonlocal before
        progress.advance(done - before)
        before = done

    folder = paths.features(scene.features)
    store = _finished(scene, folder)
    if store is None:
        return extract(scene.corpus, scene.encoder.loaded, out=folder, progress=told)
    told(len(scene.corpus), len(scene.corpus))
    return store


def _finished(scene: Scene, folder: Path) -> FeatureStore | None:
    """The features, if none is missing: then the encoder need not be loaded."""
    if not (folder / CARD).exists():
        return None
    store = FeatureStore(folder)
    card, shards = store.card, range(int(store.card["shards"]))
    same = (card["corpus"]["key"], card["encoder_key"]) == (scene.corpus.key, scene.encoder.key)
    there = store.complete and all(shard_path(folder, shard).is_file() for shard in shards)
    return store if same and there else None


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
