"""Features on disk: immutable safetensors shards behind one Parquet index, read by memory map.

A store is a folder:

    store.json                  the card: format, corpus, encoder, type, classes, shards
    index.parquet               one row for each utterance of the finished shards
    shards/part-00017.safetensors   one tensor `features (sum of T_i, D)`

Shards are written once; the index is replaced after each of them. Both appear atomically, so any
number of readers may work while a store grows; open files do not change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.errors import DamagedStoreError, StoreError
from sigma_ser.core.features import FeatureBatch, pad
from sigma_ser.core.files import content_key, file_digest
from sigma_ser.core.keyed import Keyed

from .index import IndexRow, read_card, read_index, shard_path, store_key
from .moments import Moments, Statistics


class FeatureStore:
    """The features of a corpus under one encoder.

    Args:
        folder: folder that `sigma_ser.extract` wrote, finished or not.

    Raises:
        StoreError: if there is no store, or one of another format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        self.card: dict[str, Any] = read_card(self.folder)
        self.class_names: tuple[str, ...] = tuple(self.card["corpus"]["labels"])
        self._maps: dict[int, Tensor] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read the index again, for shards that another process has added."""
        entries, self._digests = read_index(self.folder)
        faults = entries.column("fault")
        self.quarantine: dict[str, str] = {
            entries[row].id: fault for row, fault in enumerate(faults) if fault
        }
        if self.quarantine:
            usable = entries.take([row for row, fault in enumerate(faults) if not fault])
        else:
            usable = entries
        self._entries = Keyed(usable.column("id"), usable)
        self._frames_of_shard = Counter[int]()
        for shard, frames in zip(usable.column("shard"), usable.column("frames"), strict=True):
            self._frames_of_shard[shard] += frames

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker maps the shards itself; the features are not sent.
        return FeatureStore, (self.folder,)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __repr__(self) -> str:
        state = "" if self.complete else ", incomplete"
        return f"FeatureStore({str(self.folder)!r}, {len(self)} utterances{state})"

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all utterances that have features, in the order of the shards."""
        return tuple(self._entries)

    @property
    def complete(self) -> bool:
        """Whether all shards are finished."""
        return len(self._digests) == int(self.card["shards"])

    @property
    def key(self) -> str:
        """A hash of corpus, encoder and type of the features."""
        return store_key(self.card)

    @property
    def dim(self) -> int:
        """The number of channels `D`."""
        return int(self.card["encoder"]["dim"])

    @property
    def layers(self) -> int:
        """The number of hidden states in a frame: several with `layer="all"`, otherwise 1."""
        card = self.card["encoder"]
        return int(card["layers"]) + 1 if card["layer"] == "all" else 1

    @property
    def frame_seconds(self) -> float:
        """Time from one frame to the next in seconds."""
        return float(self.card["encoder"]["frame_seconds"])

    def batch(self, ids: Sequence[str]) -> FeatureBatch:
        """The features of some utterances, float32, padded with zeros to the longest.

        Raises:
            StoreError: if an utterance is not in the store, or its shard is damaged.
        """
        return pad([self.features(name) for name in ids], ids)

    def features(self, name: str) -> Float[Tensor, "T D"]:
        """The features of one utterance, float32.

        Raises:
            StoreError: as `batch`.
        """
        return self._slice(self._entry(name)).float()

    def weighted(self, weights: Float[Tensor, "L"]) -> FeatureStore:
        """A view of this store of all layers: a fixed weighted sum of them.

        With the softmax weights that a head has learned (SUPERB, Yang et al. 2021, section 3.1),
        its `(T, D)` batches are the features that this head receives and that are attacked. Nothing
        is written.

        Args:
            weights: one weight for each hidden state, from the first on.

        Raises:
            StoreError: if this store does not have this number of layers.
        """
        if self.layers == 1 or len(weights) != self.layers:
            raise StoreError(
                f"{len(weights)} weights do not fit a store of {self.layers} layers; "
                'extract with layer="all", and give one weight for each hidden state'
            )
        view = _WeightedStore(self.folder, weights)
        view._maps = self._maps  # shards that were checked and mapped already
        return view

    def labels(self, ids: Sequence[str]) -> Int[Tensor, "B"]:
        """The class index of each utterance: a position in `class_names`."""
        return torch.tensor([self._entry(name).label for name in ids], dtype=torch.long)

    def lengths(self, ids: Sequence[str]) -> Int[Tensor, "B"]:
        """The number of frames of each utterance."""
        return torch.tensor([self._entry(name).frames for name in ids], dtype=torch.long)

    def seconds(self, ids: Sequence[str]) -> Float[Tensor, "B"]:
        """Duration of the audio of each utterance in seconds."""
        return torch.tensor([self._entry(name).samples / 16_000 for name in ids])

    def statistics(self, ids: Iterable[str]) -> Statistics:
        """Mean, standard deviation, minimum and maximum of each channel, in one pass.

        Each utterance counts once. The order of `ids` does not change the result.

        Raises:
            StoreError: if `ids` is empty, or an utterance is not in the store.
        """
        moments = Moments(self.dim)
        chosen = sorted({self._entry(name) for name in ids}, key=lambda e: (e.shard, e.offset))
        for entry in chosen:
            moments.add(self._slice(entry))
        return moments.statistics()

    def batches(
        self, ids: Sequence[str], size: int, *, seed: int | None = None
    ) -> Iterator[tuple[str, ...]]:
        """Yield batches of ids of similar length, so that little is padded.

        Args:
            ids: the utterances.
            size: number of utterances of a batch, at least 1.
            seed: random seed of the composition and order of batches; `None` sorts them by length.
        """
        lengths = self.lengths(ids).double()
        rng = torch.Generator().manual_seed(seed) if seed is not None else None
        if rng is not None:
            # Noise of a tenth in length mixes utterances of similar length and adds little padding.
            lengths *= 1 + 0.1 * torch.rand(len(lengths), generator=rng, dtype=torch.float64)
        order = torch.argsort(lengths, stable=True).tolist()
        groups = [order[start : start + size] for start in range(0, len(order), size)]
        turns = torch.randperm(len(groups), generator=rng).tolist() if rng else range(len(groups))
        for turn in turns:
            yield tuple(ids[row] for row in groups[turn])

    def damaged(self) -> dict[int, str]:
        """Finished shards that are missing or have changed, with the fault of each."""
        faults = {}
        for shard, digest in sorted(self._digests.items()):
            path = shard_path(self.folder, shard)
            if not path.is_file():
                faults[shard] = f"{path} is missing"
            elif file_digest(path) != digest:
                faults[shard] = f"{path} has changed since it was written"
        return faults

    def _entry(self, name: str) -> IndexRow:
        try:
            return self._entries[name]
        except KeyError:
            pass
        if name in self.quarantine:
            raise StoreError(
                f"utterance {name!r} has no features: {self.quarantine[name]}; leave it out"
            )
        hint = (
            "it belongs to another corpus"
            if self.complete
            else "the store is not finished; run the extraction again, which resumes it"
        )
        raise StoreError(f"the store {self.folder} has no utterance {name!r}; {hint}")

    def _slice(self, entry: IndexRow) -> Tensor:
        mapped = self._maps.get(entry.shard)
        if mapped is None:
            mapped = self._maps[entry.shard] = self._map(entry.shard)
        return mapped[entry.offset : entry.offset + entry.frames]

    def _map(self, shard: int) -> Tensor:
        path = shard_path(self.folder, shard)
        from safetensors import SafetensorError, safe_open

        try:
            # Read once in full before it is mapped: a changed value would change results.
            changed = file_digest(path) != self._digests.get(shard)
            with safe_open(path, framework="pt") as file:
                features: Tensor = file.get_tensor("features")
        except (SafetensorError, OSError) as error:
            raise _damaged(path, f"is missing or damaged ({error})") from error
        if changed or len(features) != self._frames_of_shard[shard]:
            raise _damaged(path, "has changed since it was written")
        return features


def _damaged(path: Path, what: str) -> DamagedStoreError:
    return DamagedStoreError(
        f"the shard {path} {what}; delete it and run the study or the extraction again, which "
        "computes it again",
        path,
    )


class _WeightedStore(FeatureStore):
    """See `FeatureStore.weighted`."""

    def __init__(self, folder: Path, weights: Float[Tensor, "L"]) -> None:
        super().__init__(folder)
        self._weights = weights.detach().float().cpu()
        whole = self.card["encoder"]
        named = [f"{weight:.9g}" for weight in self._weights.tolist()]
        self.card["encoder"] = whole | {
            "layer": "weighted",
            "weights_of_layers": named,
            "dim": whole["dim"] // len(named),
        }
        self.card["encoder_key"] = content_key([self.card["encoder_key"], named])

    def __reduce__(self) -> tuple[Any, ...]:
        return _WeightedStore, (self.folder, self._weights)

    def _slice(self, entry: IndexRow) -> Tensor:
        flat = super()._slice(entry).float()
        states = flat.view(len(flat), len(self._weights), -1)
        return torch.einsum("l,tld->td", self._weights, states)
