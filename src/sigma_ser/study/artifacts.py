"""What is open of a run: feature stores, victims and mask banks, closed with the context."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from sigma_ser.attacks.gradient_checks import GradientCheck
from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import ConfigError, DamagedRunError, VictimError
from sigma_ser.core.files import content_key, safe_name
from sigma_ser.encoders.encoder import Encoder, load_encoder
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.execution.devices import CPU, moved
from sigma_ser.execution.memory import Slack
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.masks.bank import MaskBank
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import MAKE_ANEW, read_object
from sigma_ser.runs.layout import RunLayout
from sigma_ser.victims.checkpoint import CARD, TrainedVictim, fingerprint
from sigma_ser.victims.loading import load_victim
from sigma_ser.victims.victim import usable_scale
from sigma_ser.victims.waveform import on_waveform

from .steps import GradientStep, SaliencyStep, Setting, UniversalStep, VictimStep


class Artifacts:
    """Opens the artefacts of one run, each once, checked, and keeps the latest ones open.

    A worker enters one for all of its tasks; nothing stays open after it.

    Args:
        layout: of the run folder.
        device: on which the victims compute.
    """

    def __init__(self, layout: RunLayout, device: torch.device = CPU) -> None:
        self.layout = layout
        self.device = device
        self.digests = Digests(layout)
        self._slack = Slack()
        # As many as the tasks of one worker take turns with.
        self._store = lru_cache(maxsize=4)(FeatureStore)
        self._encoder = lru_cache(maxsize=2)(self._open_encoder)
        self._victim = lru_cache(maxsize=8)(self._open_victim)
        self._bank = lru_cache(maxsize=16)(self._open_bank)
        self._seconds = lru_cache(maxsize=16)(self._read_seconds)
        self._round_trips: dict[VictimStep, dict[str, int]] = {}

    def __enter__(self) -> Artifacts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for opened in (self._bank, self._victim, self._encoder, self._store, self._seconds):
            opened.cache_clear()
        self._round_trips.clear()

    def give_back_memory(self) -> None:
        """Return freed memory to the system; called between batches."""
        self._slack.give_back()

    def store(self, setting: Setting) -> FeatureStore:
        """The features of a setting."""
        return self._store(setting.store)

    def encoder(self, setting: Setting) -> Encoder:
        """The encoder of a setting whose waveform is attacked."""
        return self._encoder(setting.opens)

    def victim(self, step: VictimStep) -> Victim:
        """The victim of a step."""
        return self._victim(step)[0]

    def view(self, step: VictimStep) -> FeatureStore:
        """The features that the victim of a step receives: one layer, or its weighted sum.

        For a victim on the waveform, those of the same victim on features.
        """
        return self._victim(step)[1]

    def round_trips(self, step: VictimStep) -> dict[str, int]:
        """Classes of unchanged recordings after a round trip, by id, as far as they are known.

        Every attack and corruption of a victim asks for the same ones; who computes one adds it.
        """
        return self._round_trips.setdefault(step, {})

    def bank(self, step: SaliencyStep | UniversalStep, seed: int) -> MaskBank:
        """The bank with the maps of a step."""
        return self._bank(step.victim, step.name, json.dumps(dict(step.settings)), seed)

    def mask_seconds(self, step: SaliencyStep) -> Mapping[str, float | None]:
        """Seconds to explain each utterance when its map was made; `None` where unknown."""
        folder = self.layout.saliency(step.key, 0).parent
        return self._seconds(folder, sum(1 for _ in folder.glob("part-*.json")))

    def gradient_check(self, step: GradientStep | None) -> GradientCheck | None:
        """The gradient check of a victim; `None` where it could not be computed."""
        path = None if step is None else self.layout.gradient_check(step.key)
        if path is None or not path.exists():
            return None
        self.digests.check(path)
        names = [one.name for one in fields(GradientCheck)]
        return GradientCheck.from_record(read_object(path, names, MAKE_ANEW))

    def class_indices(
        self, step: VictimStep, labels: Int[Tensor, "B"], class_names: tuple[str, ...]
    ) -> Int[Tensor, "B"]:
        """Classes of the corpus as classes of a victim, which may order them differently.

        Raises:
            ConfigError: if the victim lacks one of them.
        """
        known = self.victim(step).class_names
        if not known or known == class_names:
            return labels
        missing = [name for name in class_names if name not in known]
        if missing:
            shared = [name for name in class_names if name in known]
            raise ConfigError(
                f"the victim {step.name} has no class {', '.join(missing)} of the corpus (it has "
                f"{', '.join(known)}); {_remedy(step, shared)}"
            )
        return torch.tensor([known.index(name) for name in class_names])[labels]

    def _open_encoder(self, opens: tuple[tuple[str, Any], ...]) -> Encoder:
        here = {} if self.device == CPU else {"device": str(self.device)}
        return load_encoder(**dict(opens) | here)

    def _open_victim(self, step: VictimStep) -> tuple[Victim, FeatureStore]:
        if step.on_features is not None:
            below, view = self._victim(step.on_features)
            return on_waveform(self.encoder(step.setting), below), view
        loaded, view = self._load_victim(step)
        return moved(loaded, self.device), view

    def _load_victim(self, step: VictimStep) -> tuple[Victim, FeatureStore]:
        store = self.store(step.setting)
        if step.source is None:
            folder = self.layout.victim(step.folder)
            for path in sorted(folder.glob("*")):
                self.digests.check(path)
            try:
                trained = TrainedVictim.load(folder)
            except VictimError as fault:
                raise DamagedRunError(
                    f"{fault}: to train it again, delete the folder {folder} and run again; the "
                    "rest is kept",
                    folder / CARD,
                ) from fault
            return trained, trained.view(store)
        loaded = open_source(step.source, step.setting.layer, step.training)
        if isinstance(loaded, TrainedVictim):
            return loaded, loaded.view(store)
        weights = getattr(loaded, "layer_weights", None)
        view = store if weights is None or store.layers == 1 else store.weighted(weights)
        if not {"mean", "scale"} & set(step.training):
            # The unit of epsilon is that of the features here, as for the heads trained on them. A
            # store without a corpus has no training part: all of its features count.
            statistics = view.statistics(step.fold.train or store.ids)
            moments = {"mean": statistics.mean, "scale": usable_scale(statistics.std)}
            loaded = open_source(step.source, step.setting.layer, {**step.training, **moments})
        return loaded, view

    def _open_bank(self, victim: VictimStep, explainer: str, settings: str, seed: int) -> MaskBank:
        setting = victim.setting
        # On the waveform the key of the features stands for the encoder that belongs to the victim.
        below = victim if victim.on_features is None else victim.on_features
        surface = "" if victim.on_features is None else f"{setting.surface}/"
        place = "" if self.device == CPU else f"{self.device.type}/"
        return MaskBank(
            self.layout.mask_banks,
            make_explainer(explainer, **json.loads(settings)),
            self.victim(victim),
            features=place + surface + setting.features,
            fingerprint=fingerprint_of(self.victim(below)),
            seed=seed,
            record=self.digests,
        )

    def _read_seconds(self, folder: Path, parts: int) -> Mapping[str, float | None]:
        del parts  # part of the cache key: a further part changes the result
        seconds: dict[str, float | None] = {}
        for part in sorted(folder.glob("part-*.json")):
            self.digests.check(part)
            seconds |= read_object(part, {"seconds": dict}, MAKE_ANEW)["seconds"]
        return seconds


def open_source(source: str, layer: str, settings: Mapping[str, Any]) -> Victim:
    """A victim that is loaded and not trained, on the features of one layer."""
    number = int(layer) if layer.lstrip("-").isdigit() else layer
    return load_victim(source, layer=number, **settings)


def absolute_source(source: str) -> str:
    """The same source, independent of the working directory."""
    return str(Path(source).absolute()) if Path(source).exists() else source


def source_title(source: str) -> str:
    """A name for a victim that is loaded from a source."""
    return safe_name(source.removeprefix("hf:").replace(":", ".").rstrip("/").split("/")[-1])


def fingerprint_of(victim: Any) -> str:
    """Hash of the weights of any victim, and of the code of one that was not trained here.

    Raises:
        ConfigError: if the victim does not expose them.
    """
    known = getattr(victim, "fingerprint", None)
    if isinstance(known, str):
        return known
    module = getattr(victim, "module", None)
    if not isinstance(module, torch.nn.Module):
        raise ConfigError(
            f"{type(victim).__name__} does not expose its weights, so its results could not be "
            "distinguished from those of another victim; give it a text attribute `fingerprint`"
        )
    return content_key([fingerprint(module), _code_of(module)])


def _code_of(module: torch.nn.Module) -> list[str]:
    """Names and source of the classes of a module: equal weights may compute different logits."""
    found = []
    for kind in dict.fromkeys(type(part) for part in module.modules()):
        found.append(f"{kind.__module__}.{kind.__qualname__}")
        if not kind.__module__.startswith("torch."):
            # Classes that were typed into a console have no source.
            with contextlib.suppress(OSError, TypeError):
                found.append(inspect.getsource(kind))
    return found


def _remedy(step: VictimStep, shared: Sequence[str]) -> str:
    """What to do about a victim that has only these classes of the corpus."""
    kept = f"keep the classes that it has with corpus.classes = {json.dumps(list(shared))}"
    if isinstance(step.source, str) and ":" in step.source and not Path(step.source).is_dir():
        # A foreign model may use other names for its classes, or none (LABEL_0).
        named = (
            "if it uses other names for these, give names in the order of its logits with "
            "class_names = [...] under [[victims]]"
        )
        return f"{named}, or {kept}" if shared else named
    if shared:
        return kept
    return "use a victim that was trained on these classes, or a corpus that has the victim's"
