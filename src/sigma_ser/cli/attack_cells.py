"""The cells of `sigma-ser attack`: one attack at one budget, free or in a mask, and its rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from sigma_ser.core.budget import Budget
    from sigma_ser.core.contracts import Attack, Explainer, Victim
    from sigma_ser.encoders.store import FeatureStore

_TOLD = (
    "utterances", "asr", "asr_low", "asr_high", "l0_share", "linf", "forwards", "backwards",
    "mask_forwards", "mask_backwards", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """One cell: an attack at a budget, native or in a mask."""

    attack: str
    made: Attack
    budget: Budget
    explainer: str | None
    scope: int | None
    source: str

    def told(self) -> dict[str, Any]:
        """The columns that tell the condition."""
        return {
            "attack": self.attack,
            "explainer": self.explainer,
            "mask_source": None if self.explainer is None else self.source,
            "scope": self.scope,
            "sparsity": self.budget.sparsity,
            "epsilon": float(self.budget.epsilon),
            "granularity": self.budget.granularity,
        }


class Masks:
    """Explains each batch once, for every budget, scope and attack.

    `batches` are pairs: a `FeatureBatch` and its classes `(B,)`.
    """

    def __init__(
        self, explainers: Mapping[str, Explainer], victim: Victim, batches: Sequence[Any]
    ) -> None:
        self._explainers, self._victim, self._batches = explainers, victim, batches
        self._maps: dict[tuple[str, int], tuple[Any, float]] = {}

    def of(self, where: Condition, part: int) -> tuple[Any, Any, float]:
        """The mask, the explanation behind it, and the seconds that the explanation took."""
        from sigma_ser.explainers.explanation import explanation
        from sigma_ser.masks.topk import explainer_mask

        name, scope = where.explainer, where.scope
        if name is None or scope is None:
            return None, None, 0.0
        batch, labels = self._batches[part]
        explainer = self._explainers[name]
        if (name, part) not in self._maps:
            started = time.perf_counter()
            told = explanation(explainer, self._victim, batch, labels)
            self._maps[name, part] = told, time.perf_counter() - started
        told, seconds = self._maps[name, part]
        mask = explainer_mask(explainer, told, self._victim, batch, where.budget, scope)
        return mask, told, seconds


def rows_of(
    where: Condition,
    victim: Victim,
    batches: Sequence[Any],
    masks: Masks,
    store: FeatureStore,
    seed: int,
) -> pl.DataFrame:
    """A row for each utterance of one cell: the columns of `core.rows` that apply."""
    import polars as pl
    import pyarrow as pa

    from sigma_ser.core.rows import schema
    from sigma_ser.core.seeds import utterance_seeds
    from sigma_ser.evaluate.outcome import outcome

    parts = []
    for part, (batch, labels) in enumerate(batches):
        mask, told, mask_seconds = masks.of(where, part)
        started = time.perf_counter()
        result = where.made(
            victim, batch, labels, where.budget, mask=mask,
            seeds=utterance_seeds(batch.ids, seed, "attack", where.attack),
        )  # fmt: skip
        seconds = time.perf_counter() - started
        names = victim.class_names or store.class_names
        count, card = len(batch), store.card
        same = {
            **where.told(), "corpus": card["corpus"]["name"], "encoder": card["encoder"]["name"],
            "layer": str(card["encoder"]["layer"]), "attack_settings": repr(where.made),
            "attack_seed": seed,
        }  # fmt: skip
        columns = {
            **{name: [value] * count for name, value in same.items()},
            "utterance": list(batch.ids),
            "label": [names[i] for i in labels.tolist()],
            **outcome(
                victim, batch, labels, where.budget, result, seconds=seconds, class_names=names
            ),
            "mask_forwards": [0] * count if told is None else told.forwards.tolist(),
            "mask_backwards": [0] * count if told is None else told.backwards.tolist(),
            "mask_seconds": [mask_seconds / count] * count,
        }
        whole = {name: columns.get(name, [None] * count) for name in schema().names}
        parts.append(pa.table(whole, schema=schema()))
    frame = pl.from_arrow(pa.concat_tables(parts))
    assert isinstance(frame, pl.DataFrame)
    return frame


def summary_of(rows: pl.DataFrame) -> dict[str, Any]:
    """Success, size and cost of one cell."""
    from sigma_ser.evaluate.summary import summarise

    cell = summarise(rows, ["attack"]).to_dicts()[0]
    return {name: cell[name] for name in _TOLD}
