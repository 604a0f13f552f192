"""The study of `sigma-ser attack`: a grid of attacks on one victim, on features that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.seeds import derive_seed
from sigma_ser.core.settings import parse_call
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.victims.checkpoint import TrainedVictim
from sigma_ser.victims.exposure import Exposure, exposure, unseen
from sigma_ser.victims.loading import load_victim

from .artifacts import absolute_source, open_source, source_title


def attack_study(
    victim: str,
    features: Path,
    attacks: Sequence[str],
    *,
    sparsity: Sequence[float],
    epsilon: Sequence[float],
    granularity: str = "element",
    explainers: Sequence[str] = (),
    scopes: Sequence[int] = (1, 8),
    mask_victim: str | None = None,
    ids: Sequence[str] | None = None,
    utterances: int = 48,
    batch_size: int = 16,
    seed: int = 0,
    snr: Sequence[float] = (),
    recordings: Mapping[str, Any] | None = None,
    keep: bool = False,
) -> dict[str, Any]:
    """The study of a grid of attacks, as the values of a study file.

    Args:
        victim: a trained victim's folder, or another source of `load_victim`.
        features: a feature store.
        attacks: each as `name` or `name(setting=value, ...)`.
        sparsity: shares of the elements that may change.
        epsilon: bounds in units of scale.
        granularity: the units that are chosen whole.
        explainers: the attacks also run inside the masks of these.
        scopes: sizes of those masks as multiples of the budget.
        mask_victim: the victim that is explained; `None` explains the attacked one.
        ids: utterances to choose from; `None` takes those of the store that the victim was not
            trained on, as far as that is known (see `victims.exposure.unseen`).
        utterances: maximum number of utterances to attack, all of them classified correctly.
        batch_size: utterances in a batch.
        seed: of stochastic attacks.
        snr: on the waveform, smallest signal-to-noise ratios in dB in place of epsilon.
        recordings: arguments of `load_corpus`; then the waveform is attacked and not the features.
        keep: whether the perturbations are kept in the run folder.

    Raises:
        ConfigError: if the victim classifies none of the utterances correctly.
        SigmaError: if the victim cannot be loaded, or was trained on other features.
    """
    store = FeatureStore(features)
    *_, chosen = chosen_utterances(store, victim, ids, utterances, batch_size)
    title = source_title(victim)
    victims: list[dict[str, Any]] = [{"load": absolute_source(victim), "name": title}]
    source = "own"
    if mask_victim is not None:
        source = source_title(mask_victim)
        if source == title:
            source += "-mask"
        victims.append({"load": absolute_source(mask_victim), "name": source, "attacked": False})
    guided = {"explainers": list(explainers), "scopes": list(scopes), "mask_sources": [source]}
    sections: list[dict[str, Any]] = []
    for text in attacks:
        name, settings = parse_call(text)
        sections.append({"name": name, **settings, **(guided if explainers else {})})
    return {
        "name": f"attack-{title}",
        "features": {"store": str(Path(features).absolute())},
        **({} if recordings is None else {"corpus": _absolute(recordings), "surface": "waveform"}),
        "victims": victims,
        "budgets": {
            "sparsity": list(sparsity),
            "epsilon": list(epsilon),
            "granularity": [granularity],
            **({"snr": list(snr)} if snr else {}),
        },
        "consistency": {"explainer": None},
        "evaluation": {
            "ids": chosen,
            "batch_size": batch_size,
            "seed": seed,
            "exemplars": 0,
            "keep": keep,
        },
        "executor": {"name": "inline"},
        "attacks": sections,
    }


def _absolute(recordings: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `load_corpus` without those left out, independent of the working folder."""
    root = recordings.get("root")
    place = {} if root is None else {"root": str(Path(root).absolute())}
    return {**{name: value for name, value in recordings.items() if value is not None}, **place}


def attack_exposure(victim: str, ids: Sequence[str]) -> Exposure:
    """How many of the attacked utterances a victim was trained on.

    Args:
        victim: a source of `load_victim`; only that of a trained victim is loaded.
        ids: the attacked utterances.
    """
    return exposure(load_victim(victim) if Path(victim).is_dir() else None, ids)


def chosen_utterances(
    store: FeatureStore, source: str, ids: Sequence[str] | None, wanted: int, size: int
) -> tuple[Victim, FeatureStore, Int[Tensor, "C"], list[str]]:
    """Open a victim, and find utterances that it classifies correctly.

    Args:
        store: the features.
        source: a source of `load_victim`.
        ids: utterances to choose from; `None` takes those that the victim was not trained on.
        wanted: maximum number of utterances.
        size: utterances in a batch.

    Returns:
        The victim, the features as it receives them, its class index for each class of the store
        (-1 where it has none), and the ids.

    Raises:
        ConfigError: if the victim classifies none of the utterances correctly.
    """
    victim = open_source(source, str(store.card["encoder"]["layer"]), {})
    view = victim.view(store) if isinstance(victim, TrainedVictim) else _weighted(victim, store)
    known = victim.class_names or view.class_names
    index = torch.tensor([known.index(c) if c in known else -1 for c in view.class_names])
    # The order of the names would follow class and speaker.
    names = sorted(unseen(victim, view.ids) if ids is None else ids, key=derive_seed)
    found: list[str] = []
    for start in range(0, len(names), size):
        part = names[start : start + size]
        batch, labels = view.batch(part), index[view.labels(part)]
        with torch.inference_mode():
            correct = victim(batch.x, batch.lengths).argmax(1) == labels
        found += [name for name, right in zip(part, correct.tolist(), strict=True) if right]
        if len(found) >= wanted:
            break
    if not found:
        raise ConfigError(
            f"the victim classifies none of these {len(names)} utterances correctly, so there is "
            "nothing to attack or certify; give other utterances with --ids, or other features"
        )
    return victim, view, index, found[:wanted]


def _weighted(victim: Victim, store: FeatureStore) -> FeatureStore:
    weights = getattr(victim, "layer_weights", None)
    return store if weights is None or store.layers == 1 else store.weighted(weights)
