"""Signs of masked gradients: their names, what they mean, and the warning that they require."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SIGN_MEANINGS: Mapping[str, str] = {
    "zero-gradient": "the gradient is zero or missing for more than a fifth of the utterances",
    "probabilities": "the victim returns probabilities; wrap it so that it returns logits",
    "random": "the same input gives different logits; success is decided by 10 further passes",
    "batch-dependent": (
        "the logits of an utterance depend on the others in its batch; each is classified alone"
    ),
    "black-box-wins": "an attack without gradients succeeds where all gradient attacks fail",
    "wrong-slope": "finite differences contradict the gradient",
    "unbounded-fails": "gradient attacks fail even without a practical bound on the change",
}
SIGNS: tuple[str, ...] = tuple(SIGN_MEANINGS)


def masked_warning(victim: str, signs: Sequence[str]) -> str:
    """The sentence that stands before every rate of a victim with these signs."""
    reasons = "; ".join(f"{sign}: {SIGN_MEANINGS.get(sign, 'unknown sign')}" for sign in signs)
    return (
        f"Gradients of {victim} are masked or unreliable ({reasons}), so its success rates are "
        "lower bounds and no evidence of robustness."
    )


def masked_warnings(victims: Sequence[Mapping[str, Any]]) -> list[str]:
    """One warning for each victim of a run with signs, over all of its folds.

    Args:
        victims: the victims of a run: `name`, and `gradient_check` with its `signs`.
    """
    found: dict[str, list[str]] = {}
    for victim in victims:
        check = victim.get("gradient_check") or {}
        if check.get("signs"):
            known = found.setdefault(str(victim["name"]), [])
            known += [sign for sign in check["signs"] if sign not in known]
    return [masked_warning(name, signs) for name, signs in found.items()]
