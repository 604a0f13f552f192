"""Trained victims on disk: weights as safetensors, and a card that says what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core import registry
from sigma_ser.core.errors import CorpusError, VictimError
from sigma_ser.core.files import content_key, whole_file, write_json
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore

from .victim import Standardised, WrappedVictim

WEIGHTS, CARD, FOLD = "victim.safetensors", "card.json", "fold.json"
# Entries of an encoder's card that may differ while the features agree.
_HARMLESS = frozenset(
    {"name", "revision", "versions", "transformers", "torch", "device", "batch_seconds"}
)


@dataclass(frozen=True)
class VictimCard:
    """What a trained victim is and where it comes from; plain data, saved beside the weights.

    `encoder` is the card of the encoder whose features it knows, `corpus` the name of the corpus,
    `training` and `head_settings` every setting, `metrics` what it reached on which part,
    `fold_key` is that of the fold of this name; `None` in cards of earlier versions.
    """

    head: str
    head_settings: Mapping[str, Any]
    channels: int
    class_names: tuple[str, ...]
    corpus: str
    fold: str
    seed: int
    encoder: Mapping[str, Any]
    training: Mapping[str, Any]
    metrics: Mapping[str, Any]
    versions: Mapping[str, str]
    fold_key: str | None = None


class TrainedVictim(WrappedVictim):
    """A head trained here, with the standardisation of its training part and its card.

    `fold` says what it learnt from and what it has never heard; `None` where that was not kept.
    """

    def __init__(self, module: Standardised, card: VictimCard, fold: Fold | None = None) -> None:
        super().__init__(module.eval(), card.class_names, module.mean, module.scale)
        self.card = card
        self.fold = fold

    @property
    def fingerprint(self) -> str:
        """Hash of the weights: what an explanation of this victim is filed under."""
        return fingerprint(self.module)

    @property
    def layer_weights(self) -> Float[Tensor, "L"] | None:
        """The frozen weights of the hidden states it hears; `None` if it hears one layer."""
        named = self.card.encoder.get("weights_of_layers")
        return None if named is None else torch.tensor([float(weight) for weight in named])

    def view(self, store: FeatureStore) -> FeatureStore:
        """The features of a store as this victim receives them.

        Args:
            store: features of the victim's own encoder, of one layer or of all.

        Returns:
            The store itself; for a victim with `layer_weights` on a store of all layers, their
            weighted sum, which is computed on reading.

        Raises:
            VictimError: if the features are those of another encoder.
            StoreError: if the store has another number of layers.
        """
        weights = self.layer_weights
        features = store if weights is None or store.layers == 1 else store.weighted(weights)
        self.check_encoder(features.card["encoder"])
        return features

    def check_encoder(self, encoder_card: Mapping[str, Any]) -> None:
        """Refuse features of another encoder; another path to the same weights is none.

        Raises:
            VictimError: names what differs.
        """
        theirs = dict(encoder_card)
        differing = [
            name
            for name, value in self.card.encoder.items()
            if name not in _HARMLESS and theirs.get(name) != value
        ]
        if differing:
            shown = ", ".join(
                f"{name} {self.card.encoder[name]!r} against {theirs.get(name)!r}"
                for name in differing
            )
            raise VictimError(
                f"the victim was trained on features of another encoder ({shown}); "
                "extract features with its own encoder, or train it on these"
            )

    def save(self, folder: Path | str) -> Path:
        """Write weights, fold and card into `folder`; the card is last, so half a save is none."""
        from safetensors.torch import save

        folder = Path(folder)
        state = {
            name: value.detach().cpu().contiguous()
            for name, value in self.module.state_dict().items()
        }
        blob = save(state)
        with whole_file(folder / WEIGHTS) as aside:
            aside.write_bytes(blob)
        if self.fold is not None:
            with whole_file(folder / FOLD) as aside:
                aside.write_text(self.fold.to_json(), "utf-8")
        card = {**vars(self.card), "weights_sha256": hashlib.sha256(blob).hexdigest()}
        write_json(folder / CARD, {**card, "seal": content_key(card)})
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> TrainedVictim:
        """Read a victim that `save` wrote.

        Raises:
            VictimError: if something is missing or a byte has changed.
        """
        from safetensors.torch import load

        folder = Path(folder)
        try:
            described = json.loads((folder / CARD).read_text("utf-8"))
            if not isinstance(described, dict):
                raise ValueError("it is no JSON object")
            blob = (folder / WEIGHTS).read_bytes()
        except OSError as fault:
            raise VictimError(
                f"{folder} is not a saved victim ({fault.strerror}: {fault.filename}); "
                f"give the folder that holds {CARD} and {WEIGHTS}"
            ) from fault
        except ValueError as fault:
            raise VictimError(f"{folder / CARD} is damaged ({fault}); train again") from fault
        if described.pop("seal", None) not in (None, content_key(described)):
            raise VictimError(
                f"{folder / CARD} has changed since it was saved; train again, or restore it"
            )
        if hashlib.sha256(blob).hexdigest() != described.pop("weights_sha256", None):
            raise VictimError(
                f"{folder / WEIGHTS} has changed since it was saved; train again, or restore it"
            )
        try:
            card = VictimCard(**{**described, "class_names": tuple(described["class_names"])})
            head = make_head(card.head, card.channels, len(card.class_names), card.head_settings)
            channels = torch.ones(card.channels)
            module = Standardised(head, channels, channels)
            module.load_state_dict(load(blob), strict=True)
        except (KeyError, TypeError, RuntimeError) as fault:
            raise VictimError(
                f"{folder} was written by another version of sigma-ser ({fault}); train again"
            ) from fault
        return cls(module, card, _kept_fold(folder, card))


def _kept_fold(folder: Path, card: VictimCard) -> Fold | None:
    """The fold that the card speaks of, where it lies beside it."""
    path = folder / FOLD
    if card.fold_key is None or not path.is_file():
        return None
    try:
        fold = Fold.from_json(path.read_text("utf-8"))
    except (OSError, ValueError, CorpusError) as fault:
        raise VictimError(f"{path} is damaged ({fault}); train again, or restore it") from fault
    if fold.key != card.fold_key:
        raise VictimError(f"{path} has changed since it was saved; train again, or restore it")
    return fold


def make_head(name: str, channels: int, classes: int, settings: Mapping[str, Any]) -> nn.Module:
    """A head by name, with random weights.

    Raises:
        UnknownNameError: if there is no such head.
        VictimError: if it has no such setting.
    """
    make = registry.get("head", name)
    try:
        head: nn.Module = make(channels, classes, **settings)
    except TypeError as fault:
        raise VictimError(f"head {name!r} cannot be made: {fault}") from fault
    return head


def fingerprint(module: nn.Module) -> str:
    """Hash of a module's names, shapes and weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> bytes:
    flat: bytes = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return flat
