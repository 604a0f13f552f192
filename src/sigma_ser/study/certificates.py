"""Certificates of a grid of budgets: for the command, and as a step of a study."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sigma_ser.certificates.choice import certify
from sigma_ser.core.budget import Budget, Granularity
from sigma_ser.core.contracts import Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.masks.topk import explainer_mask

from .artifacts import Artifacts
from .attack import chosen_utterances
from .batches import step_batches
from .steps import CertificateStep
from .tasks import PartTask

if TYPE_CHECKING:
    import pyarrow as pa


def certificate_rows(
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    *,
    method: str | None,
    settings: Mapping[str, Any],
    mask: Bool[Tensor, "B T D"] | None = None,
) -> list[dict[str, Any]]:
    """Certify a batch, and describe each utterance.

    Args:
        victim: the victim.
        batch: features `(B, T, D)`.
        labels: class indices `(B,)`.
        budget: with a sparsity and one epsilon.
        method: name of a method; `None` chooses one.
        settings: of the method.
        mask: the elements that may change; `None`: all.

    Returns:
        For each utterance its id, whether the victim classifies it correctly, the certificate,
        and its share of the seconds.
    """
    started = time.perf_counter()
    bound = certify(victim, batch, labels, budget, mask, method, **settings)
    seconds = (time.perf_counter() - started) / len(batch)
    with torch.no_grad():
        right = victim(batch.x, batch.lengths).argmax(1) == labels
    return [
        {
            "utterance": name,
            "correct": bool(right[row]),
            "method": bound.method,
            "proven": bound.proven,
            "granularity": budget.granularity,
            "sparsity": budget.sparsity,
            "epsilon": float(budget.epsilon),
            "certified": bool(bound.certified[row]),
            "margin": float(bound.margin[row]),
            "allowance": float(bound.allowance[row]),
            "seconds": seconds,
        }
        for row, name in enumerate(batch.ids)
    ]


def certificate_schema() -> pa.Schema:
    """Columns of `certificates.parquet`: one row for each utterance, victim, method and condition.

    `explainer`, `mask_source` and `scope` are null where the bound holds without a mask.
    """
    import pyarrow as pa

    texts = ("utterance", "victim", "fold", "corpus", "protocol", "encoder", "layer")
    text, number, truth = pa.string(), pa.float64(), pa.bool_()
    return pa.schema(
        [(name, text) for name in texts]
        + [("explainer", text), ("mask_source", text), ("scope", pa.int64())]
        + [("correct", truth), ("method", text), ("proven", truth), ("granularity", text)]
        + [("sparsity", number), ("epsilon", number), ("certified", truth), ("margin", number)]
        + [("allowance", number), ("seconds", number)]
    )


def certify_part(task: PartTask, step: CertificateStep, artifacts: Artifacts) -> pa.Table:
    """Certify one part of the attacked utterances of a victim at one budget."""
    import pyarrow as pa

    setting = step.victim.setting
    about = {
        "victim": step.victim.name,
        "fold": step.victim.fold.name,
        "corpus": setting.corpus,
        "protocol": setting.protocol,
        "encoder": setting.encoder,
        "layer": str(setting.layer),
        "explainer": None if step.mask is None else step.mask.explainer,
        "mask_source": None if step.mask is None else step.mask.source,
        "scope": step.scope,
    }
    rows = [
        about | row
        for here in step_batches(task, artifacts)
        for row in certificate_rows(
            here.victim, here.batch, here.labels, step.budget.of(here.batch),
            method=step.method, settings=step.settings, mask=here.mask(step),
        )
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=certificate_schema())


def certificate_grid(
    victim: str,
    features: Path,
    *,
    sparsity: Sequence[float],
    epsilon: Sequence[float],
    granularity: Granularity = "element",
    method: str | None = None,
    settings: Mapping[str, Any] | None = None,
    explainers: Sequence[str] = (),
    scopes: Sequence[int] = (1,),
    ids: Sequence[str] | None = None,
    utterances: int = 48,
    batch_size: int = 16,
) -> Iterator[dict[str, Any]]:
    """Yield the certificates of one victim at a grid of budgets, one summary for each condition.

    Args:
        victim: a trained victim's folder, or another source of `load_victim`.
        features: a feature store.
        sparsity: shares of the units that may change.
        epsilon: bounds in units of scale.
        granularity: the units that are chosen whole.
        method: name of a method; `None` chooses the one that suits the victim.
        settings: of a method that is named.
        explainers: also bound what can be done inside the masks of these, which explain the victim.
        scopes: sizes of those masks as multiples of the budget.
        ids: utterances to choose from; `None` takes those that the victim was not trained on.
        utterances: maximum number of utterances, all of them classified correctly.
        batch_size: utterances in a batch.

    Raises:
        ConfigError: if the victim classifies none of the utterances correctly.
        CertificateError: if the method that is named does not suit the victim.
    """
    model, view, index, chosen = chosen_utterances(
        FeatureStore(features), victim, ids, utterances, batch_size
    )
    made = {name: make_explainer(name) for name in explainers}
    parts = []
    for start in range(0, len(chosen), batch_size):
        part = chosen[start : start + batch_size]
        batch, labels = view.batch(part), index[view.labels(part)]
        # One explanation serves every budget and scope.
        maps = {one: explanation(made[one], model, batch, labels) for one in explainers}
        parts.append((batch, labels, maps))
    masks: list[tuple[str | None, int | None]] = [
        (None, None),
        *itertools.product(explainers, scopes),
    ]
    for bound, share, (explainer, scope) in itertools.product(epsilon, sparsity, masks):
        budget = Budget(sparsity=share, epsilon=bound, granularity=granularity)
        rows: list[dict[str, Any]] = []
        for batch, labels, maps in parts:
            mask = None
            if explainer is not None and scope is not None:
                mask = explainer_mask(made[explainer], maps[explainer], model, batch, budget, scope)
            rows += certificate_rows(
                model, batch, labels, budget, method=method, settings=settings or {}, mask=mask
            )
        yield {"explainer": explainer, "scope": scope, **certificate_summary(rows)}


def certificate_summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the rows of one condition; a margin that is not finite becomes `None`."""
    first = rows[0]
    certified = sum(row["certified"] for row in rows)
    condition = ("method", "proven", "granularity", "sparsity", "epsilon")
    margins = {
        row["utterance"]: row["margin"] if math.isfinite(row["margin"]) else None for row in rows
    }
    return {
        **{name: first[name] for name in condition},
        "utterances": len(rows),
        "certified": certified,
        "certified_share": certified / len(rows),
        "seconds": sum(row["seconds"] for row in rows) / len(rows),
        "margins": margins,
    }
