"""Where a run keeps its artefacts, and what a process has open of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import ConfigError, RunError, VictimError
from sigma_ser.runs.files import MAKE_ANEW, read_object

from .steps import (
    AttackStep,
    FloorStep,
    ReplayStep,
    SaliencyStep,
    UniversalStep,
    VictimStep,
)

if TYPE_CHECKING:
    from sigma_ser.encoders.store import FeatureStore
    from sigma_ser.masks.bank import MaskBank


@dataclass(frozen=True)
class RunPaths:
    """Where a run keeps its artefacts."""

    folder: Path

    def features(self, key: str) -> Path:
        """Folder of a feature store."""
        return self.folder / "features" / key

    def victim(self, step: VictimStep) -> Path:
        """Folder of a trained victim."""
        return self.folder / "victims" / step.key

    def universal(self, step: UniversalStep) -> Path:
        """File with the universal map of a victim."""
        return self.folder / "universal" / step.key / "map.safetensors"

    def saliency(self, step: SaliencyStep, part: int) -> Path:
        """File that says that the maps of one part are in the bank, and what they took."""
        return self.folder / "saliency" / "done" / step.key / f"part-{part:05d}.json"

    def floor(self, step: FloorStep, part: int) -> Path:
        """File with the floors of one part."""
        return self.folder / "floors" / step.key / f"part-{part:05d}.safetensors"

    def rows(self, step: AttackStep, part: int) -> Path:
        """File with the rows of one part."""
        return self.folder / "attacks" / step.key / f"part-{part:05d}.parquet"

    def perturbations(self, step: AttackStep, part: int) -> Path:
        """File with the perturbations of one part, where they are shown to other victims."""
        return self.folder / "attacks" / step.key / f"perturbations-{part:05d}.safetensors"

    def replay(self, step: ReplayStep, part: int) -> Path:
        """File with what another victim said to the perturbations of one part."""
        return self.folder / "replays" / step.key / f"part-{part:05d}.parquet"


def load_bank(paths: RunPaths, step: SaliencyStep | UniversalStep, seed: int) -> MaskBank:
    """The bank of a step, opened once in each process."""
    return _bank(paths, step.victim, step.name, json.dumps(dict(step.settings)), seed)


def load_store(paths: RunPaths, key: str) -> FeatureStore:
    """The features of a setting, opened once in each process."""
    return _store(paths.features(key))


def load_victim(paths: RunPaths, step: VictimStep) -> Victim:
    """The victim of a step, read once in each process."""
    return _opened_victim(paths, step)[0]


def victim_store(paths: RunPaths, step: VictimStep) -> FeatureStore:
    """The features that the victim of a step receives: one layer, or its weighted sum of layers."""
    return _opened_victim(paths, step)[1]


def class_indices(
    paths: RunPaths, step: VictimStep, labels: Int[Tensor, "B"], class_names: tuple[str, ...]
) -> Int[Tensor, "B"]:
    """Classes of the corpus as classes of a victim, which may count them in another order.

    Raises:
        ConfigError: if the victim does not know one of them.
    """
    known = load_victim(paths, step).class_names
    if not known or known == class_names:
        return labels
    missing = [name for name in class_names if name not in known]
    if missing:
        raise ConfigError(
            f"the victim {step.name} knows no class {', '.join(missing)} of the corpus (it knows "
            f"{', '.join(known)}); {_remedy(step, [one for one in class_names if one in known])}"
        )
    return torch.tensor([known.index(name) for name in class_names])[labels]


def _remedy(step: VictimStep, shared: Sequence[str]) -> str:
    """What to do about a victim that shares these classes alone with the corpus."""
    kept = f"keep the classes that it knows with corpus.classes = {json.dumps(list(shared))}"
    if isinstance(step.source, str) and ":" in step.source and not Path(step.source).is_dir():
        # A foreign model may mean the same by other words, or by none (LABEL_0).
        named = (
            "if it means these by other names, give them in the order of its logits with "
            "class_names = [...] under [[victims]]"
        )
        return f"{named}, or {kept}" if shared else named
    if shared:
        return kept
    return "take a victim that was trained on these classes, or a corpus that has the victim's"


def fingerprint_of(victim: Any) -> str:
    """Hash of the weights of any victim.

    Raises:
        ConfigError: if the victim does not show them.
    """
    from sigma_ser.victims.checkpoint import fingerprint

    known = getattr(victim, "fingerprint", None)
    if isinstance(known, str):
        return known
    module = getattr(victim, "module", None)
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(
            f"{type(victim).__name__} shows no weights, so its results could not be told from "
            "those of another; give it a text `fingerprint`"
        )
    return fingerprint(module)


def close_opened() -> None:
    """Forget stores, victims and banks that this process has open."""
    for opened in (_store, _opened_victim, _bank, _seconds):
        opened.cache_clear()


@lru_cache(maxsize=16)
def _bank(
    paths: RunPaths, victim: VictimStep, explainer: str, settings: str, seed: int
) -> MaskBank:
    from sigma_ser.explainers.explanation import make_explainer
    from sigma_ser.masks.bank import MaskBank

    loaded = load_victim(paths, victim)
    return MaskBank(
        paths.folder / "saliency",
        make_explainer(explainer, **json.loads(settings)),
        loaded,
        features=victim.setting.features,
        fingerprint=fingerprint_of(loaded),
        seed=seed,
    )


@lru_cache(maxsize=4)
def _store(folder: Path) -> FeatureStore:
    from sigma_ser.encoders.store import FeatureStore

    return FeatureStore(folder)


@lru_cache(maxsize=8)
def _opened_victim(paths: RunPaths, step: VictimStep) -> tuple[Victim, FeatureStore]:
    from sigma_ser.victims.checkpoint import TrainedVictim
    from sigma_ser.victims.victim import usable_scale

    store = load_store(paths, step.setting.features)
    if step.source is None:
        folder = paths.victim(step)
        try:
            trained = TrainedVictim.load(folder)
        except VictimError as fault:
            raise RunError(
                f"{fault}: to train it again, delete the folder {folder} and run again; the rest "
                "is kept"
            ) from fault
        return trained, trained.view(store)
    loaded = open_source(step.source, step.setting.layer, step.training)
    if isinstance(loaded, TrainedVictim):
        return loaded, loaded.view(store)
    weights = getattr(loaded, "layer_weights", None)
    heard = store if weights is None or store.layers == 1 else store.weighted(weights)
    if not {"mean", "scale"} & set(step.training):
        # The unit of epsilon is that of the features here, as for the heads trained on them.
        statistics = heard.statistics(step.fold.train)
        moments = {"mean": statistics.mean, "scale": usable_scale(statistics.std)}
        loaded = open_source(step.source, step.setting.layer, {**step.training, **moments})
    return loaded, heard


def open_source(source: str, layer: str, settings: Mapping[str, Any]) -> Victim:
    """A victim that is loaded and not trained, on the features of one layer."""
    from sigma_ser.victims.loading import load_victim as load

    number = int(layer) if layer.lstrip("-").isdigit() else layer
    return load(source, layer=number, **settings)


def mask_seconds(paths: RunPaths, step: SaliencyStep) -> Mapping[str, float | None]:
    """How long each utterance was explained when its map was made; `None` where that is unknown."""
    folder = paths.saliency(step, 0).parent
    return _seconds(folder, sum(1 for _ in folder.glob("part-*.json")))


@lru_cache(maxsize=16)
def _seconds(folder: Path, parts: int) -> Mapping[str, float | None]:
    del parts  # a part more, and the answer is another
    seconds: dict[str, float | None] = {}
    for part in sorted(folder.glob("part-*.json")):
        seconds |= read_object(part, ["seconds"], MAKE_ANEW)["seconds"]
    return seconds
