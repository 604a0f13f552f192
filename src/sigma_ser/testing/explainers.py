"""The laws of explainers."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from sigma_ser.core.contracts import Explainer, Explanation, Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.explanation import make_explainer

from .examples import alone, example_batch, example_victim
from .laws import inputs_unchanged, require, require_close, require_configuration


def check_explainer(
    explainer: str | Explainer,
    *,
    victim: Victim | None = None,
    batch: FeatureBatch | None = None,
    labels: Int[Tensor, "B"] | None = None,
) -> None:
    """Check the laws of an explainer on one victim.

    The map is finite float32 `(B, T, D)`, detached and zero on padding; it and its passes are the
    same for an utterance alone and in company; seeds fix it; the victim, the arguments and the
    global random numbers stay unchanged; `repr` shows the settings.

    Args:
        explainer: a registered name, or an explainer.
        victim: the victim that is explained; by default a small convolutional one.
        batch: features of at least two utterances; by default random ones in the victim's scale.
        labels: the explained classes `(B,)`; by default the predicted ones.

    Raises:
        ConformanceError: names the first law that is broken.
        ExplainerError: if the explainer cannot explain this victim.

    >>> from sigma_ser.testing import check_explainer
    >>> check_explainer("integrated-gradients")
    """
    if isinstance(explainer, str):
        explainer = make_explainer(explainer)
    victim = example_victim() if victim is None else victim
    batch = example_batch(victim) if batch is None else batch
    if labels is None:
        with torch.no_grad():
            labels = victim(batch.x, batch.lengths).argmax(1)
    require(isinstance(explainer, Explainer), explainer, "is not callable or has no kind")
    require(
        explainer.kind in ("gradient", "attribution"),
        explainer,
        f"has the kind {explainer.kind!r}, which is neither gradient nor attribution",
    )
    require_configuration(explainer)
    together = _run(explainer, victim, batch, labels, None)
    _check_map(explainer, together, batch)
    _check_company(explainer, victim, batch, labels, together)
    seeds = torch.arange(len(batch)) + 5
    first, second = (_run(explainer, victim, batch, labels, seeds).saliency for _ in range(2))
    require(torch.equal(first, second), explainer, "returns another map for the same seeds")


def _run(
    explainer: Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    seeds: Int[Tensor, "B"] | None,
) -> Explanation:
    # Callers often run under no_grad; an explainer has to enable gradients itself.
    with inputs_unchanged(explainer, victim=victim, batch=batch, labels=labels), torch.no_grad():
        found = explainer(victim, batch, labels, seeds=seeds)
    require(isinstance(found, Explanation), explainer, "does not return an Explanation")
    return found


def _check_map(explainer: Explainer, found: Explanation, batch: FeatureBatch) -> None:
    saliency = found.saliency
    require(
        saliency.dtype == torch.float32 and saliency.shape == batch.x.shape,
        explainer,
        f"does not return a float32 map {tuple(batch.x.shape)}, but {saliency.dtype} "
        f"{tuple(saliency.shape)}",
    )
    require(not saliency.requires_grad, explainer, "returns a map that is not detached")
    require(bool(torch.isfinite(saliency).all()), explainer, "returns a map that is not finite")
    require(
        bool((saliency[~batch.valid] == 0).all()),
        explainer,
        "returns a map that is not 0 on padding",
    )
    for name in ("forwards", "backwards"):
        passes = getattr(found, name)
        require(
            passes.shape == (len(batch),) and bool((passes >= 0).all()),
            explainer,
            f"does not count its {name} for each utterance",
        )


def _check_company(
    explainer: Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    together: Explanation,
) -> None:
    for row in range(min(len(batch), 3)):
        single = _run(explainer, victim, alone(batch, row), labels[row : row + 1], None)
        expected = together.saliency[row, : int(batch.lengths[row])]
        size = float(expected.abs().max()) or 1.0
        law = "returns another map for an utterance alone than in a batch"
        require_close(
            single.saliency[0] / size, expected / size, explainer, law, atol=1e-5, rtol=0.0
        )
        for name in ("forwards", "backwards"):
            require(
                int(getattr(single, name)[0]) == int(getattr(together, name)[row]),
                explainer,
                f"counts other {name} for an utterance alone than in a batch",
            )
