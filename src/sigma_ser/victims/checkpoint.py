"""Trained victims on disk: weights as safetensors, and a card with every setting."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core import registry
from sigma_ser.core.errors import CorpusError, VictimError
from sigma_ser.core.files import content_key, remove_unfinished, whole_file, write_json, write_text
from sigma_ser.core.json_text import parse_json
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.store import FeatureStore

from .victim import Standardised, WrappedVictim

WEIGHTS, CARD, FOLD = "victim.safetensors", "card.json", "fold.json"
RECORDINGS = "recordings.json"
# Entries of an encoder's card that may differ between equal features.
_HARMLESS = frozenset(
    {"name", "revision", "versions", "transformers", "torch", "device", "batch_seconds"}
)


@dataclass(frozen=True)
class VictimCard:
    """Description and provenance of a trained victim: plain data, saved beside the weights.

    `encoder` is the card of the encoder of the training features, `corpus` the name of the corpus;
    `training` and `head_settings` hold every setting, `metrics` the scores on each part.
    `fold_key` is the key of the fold, `store_key` that of the feature store, and `recordings_key`
    that of the digests of the training recordings; they are `None` in cards of earlier versions.
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
    store_key: str | None = None
    recordings_key: str | None = None


class TrainedVictim(WrappedVictim):
    """A head that was trained with `sigma_ser.train`, with its standardisation and its card.

    Args:
        module: the head behind the standardisation of its training part; set to eval mode.
        card: description and provenance.
        fold: the utterances it was trained, validated and tested on; `None` if they were not saved.
        recordings: digests of the features of its training and validation part, by which a
            recording is known again under another name; `None` if they were not saved.
    """

    def __init__(
        self,
        module: Standardised,
        card: VictimCard,
        fold: Fold | None = None,
        recordings: frozenset[str] | None = None,
    ) -> None:
        super().__init__(module.eval(), card.class_names, module.mean, module.scale)
        self.card = card
        self.fold = fold
        self.recordings = recordings

    def _described(self) -> dict[str, object]:
        tested = self.card.metrics.get("test", {})
        scores = {"UAR on the test part": f"{tested['uar']:.2f}"} if "uar" in tested else {}
        return {**super()._described(), "model": self.card.head, "fold": self.card.fold, **scores}

    @property
    def fingerprint(self) -> str:
        """Hash of the weights, under which mask banks store the explanations of this victim."""
        return fingerprint(self.module)

    @property
    def layer_weights(self) -> Float[Tensor, "L"] | None:
        """Frozen weights of the hidden states that are summed; `None` for a victim on one layer."""
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
        """Check that features come from the encoder that the victim was trained on.

        The encoder's name, path and library versions may differ as long as its weights are equal.

        Args:
            encoder_card: the card of the encoder of the features.

        Raises:
            VictimError: if the encoders differ; the message lists the differences.
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
        """Write weights, fold and card into a folder, the card last.

        A save that was interrupted has no card and is not loaded.

        Returns:
            The folder.
        """
        from safetensors.torch import save

        folder = Path(folder)
        remove_unfinished(folder, below=False)
        state = {
            name: value.detach().cpu().contiguous()
            for name, value in self.module.state_dict().items()
        }
        blob = save(state)
        with whole_file(folder / WEIGHTS) as aside:
            aside.write_bytes(blob)
        if self.fold is not None:
            write_text(folder / FOLD, self.fold.to_json())
        if self.recordings is not None:
            write_json(folder / RECORDINGS, sorted(self.recordings))
        card = {**vars(self.card), "weights_sha256": hashlib.sha256(blob).hexdigest()}
        write_json(folder / CARD, {**card, "seal": content_key(card)})
        return folder

    @classmethod
    def load(cls, folder: Path | str) -> TrainedVictim:
        """Read a victim that `save` wrote.

        Raises:
            VictimError: if a file is missing or has changed since it was saved.
        """
        from safetensors.torch import load

        folder = Path(folder)
        card, weights_digest = _read_card(folder)
        blob = _read(folder, WEIGHTS)
        if hashlib.sha256(blob).hexdigest() != weights_digest:
            raise VictimError(
                f"{folder / WEIGHTS} has changed since it was saved; train again, or restore it"
            )
        try:
            head = make_head(card.head, card.channels, len(card.class_names), card.head_settings)
            channels = torch.ones(card.channels)
            module = Standardised(head, channels, channels)
            module.load_state_dict(load(blob), strict=True)
        except (KeyError, TypeError, RuntimeError) as fault:
            raise _other_version(folder, fault) from fault
        return cls(module, card, _saved_fold(folder, card), _saved_recordings(folder, card))


def read_card(folder: Path | str) -> VictimCard:
    """Read the card of a saved victim without its weights.

    Raises:
        VictimError: if the card is missing, damaged or changed.
    """
    return _read_card(Path(folder))[0]


def _read_card(folder: Path) -> tuple[VictimCard, str | None]:
    """The card and the SHA-256 digest of the weights that belong to it."""
    try:
        described = parse_json(_read(folder, CARD))
        if not isinstance(described, dict):
            raise ValueError("it is not a JSON object")
    except ValueError as fault:
        raise VictimError(f"{folder / CARD} is damaged ({fault}); train again") from fault
    # Without the seal, nothing vouches for the scores, classes and settings of the card.
    seal = described.pop("seal", None)
    if seal != content_key(described):
        what = "has no seal" if seal is None else "has changed since it was saved"
        raise VictimError(f"{folder / CARD} {what}; train again, or restore it")
    digest = described.pop("weights_sha256", None)
    try:
        card = VictimCard(**{**described, "class_names": tuple(described["class_names"])})
    except (KeyError, TypeError) as fault:
        raise _other_version(folder, fault) from fault
    return card, digest


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as fault:
        absent = isinstance(fault, FileNotFoundError)
        why = f"it has no {name}" if absent else f"{fault.strerror}: {fault.filename}"
        raise VictimError(
            f"{folder} is not a saved victim ({why}); give a folder that sigma-ser train wrote"
        ) from fault


def _other_version(folder: Path, fault: Exception) -> VictimError:
    return VictimError(
        f"{folder} was written by another version of sigma-ser ({fault}); train again"
    )


def _saved_fold(folder: Path, card: VictimCard) -> Fold | None:
    """The fold of the card, where its file exists."""
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


def _saved_recordings(folder: Path, card: VictimCard) -> frozenset[str] | None:
    """The digests of the training recordings, where their file exists."""
    path = folder / RECORDINGS
    if card.recordings_key is None or not path.is_file():
        return None
    try:
        digests = parse_json(path.read_bytes())
    except (OSError, ValueError) as fault:
        raise VictimError(f"{path} is damaged ({fault}); train again, or restore it") from fault
    if content_key(digests) != card.recordings_key:
        raise VictimError(f"{path} has changed since it was saved; train again, or restore it")
    return frozenset(digests)


def make_head(name: str, channels: int, classes: int, settings: Mapping[str, Any]) -> nn.Module:
    """Create a head by name, with random weights.

    Args:
        name: a name of `registry.names("head")`.
        channels: channels `D` of the features.
        classes: number of classes `C`.
        settings: keyword arguments of the head.

    Returns:
        A module `(x (B, T, D), lengths (B,)) -> logits (B, C)`.

    Raises:
        UnknownNameError: if no head has this name.
        VictimError: if a setting is unknown, has the wrong type, or leaves a layer without weights.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        head: nn.Module = registry.make("head", name, settings, channels, classes)
    empty = [key for key, value in head.named_parameters() if not value.numel()]
    if empty:
        raise VictimError(
            f"the head {name!r} with the settings {dict(settings)} has an empty layer "
            f"({empty[0]}); give every size at least 1"
        )
    return head


def fingerprint(module: nn.Module) -> str:
    """Return a hash of the names, shapes, types and values of parameters and buffers."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> bytes:
    flat: bytes = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return flat
