"""Findings: what has to be known before any figure of an audit is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sigma_ser.core.gradient_signs import masked_warning


@dataclass(frozen=True)
class Finding:
    """A reason to read the figures of an audit with care.

    Args:
        code: `criteria-changed`, `contradiction`, `training-recordings`, `at-chance`, `too-few`,
            `class-mismatch` or `masked-gradients`.
        text: one sentence.
        prevents_pass: whether no criterion can pass because of it. A criterion that fails fails
            all the same.
    """

    code: str
    text: str
    prevents_pass: bool = True


def audit_findings(
    victim: Mapping[str, Any],
    *,
    recognised: int,
    wanted: int,
    corpus_classes: Sequence[str],
    training: int = 0,
    contradictions: int = 0,
    criteria_changed: bool = False,
    signs: Mapping[str, Sequence[str]] | None = None,
) -> list[Finding]:
    """The findings of an audit, in the order in which they should be read.

    Args:
        victim: the line of the victim in `victims.json`: `uar`, `uar_high`, `uar_low`,
            `confusion`, `class_names`, `gradient_check`.
        recognised: number of attacked utterances that were classified correctly before.
        wanted: the least number of these.
        corpus_classes: class names of the audited recordings.
        training: number of audited recordings that are known from the training.
        contradictions: number of utterances that a proven bound protects and an attack fooled.
        criteria_changed: whether the criteria were changed after results existed.
        signs: signs of masked gradients on each attacked surface; those of the line by default.
    """
    found = []
    if criteria_changed:
        text = "The criteria were changed after results existed, so they were not declared before."
        found.append(Finding("criteria-changed", text))
    if contradictions:
        found.append(
            Finding(
                "contradiction",
                f"An attack fooled {contradictions} utterances that a bound protects: the bound is "
                "wrong, please report this.",
            )
        )
    if training:
        found.append(
            Finding(
                "training-recordings",
                f"{training} of the audited recordings are known from the training of the model, "
                "so the figures do not hold for new recordings.",
            )
        )
    present = sum(1 for counts in victim["confusion"] if sum(counts))
    chance = 1 / max(present, 1)
    if victim["uar_low"] <= chance:
        found.append(
            Finding(
                "at-chance",
                f"The model recognises emotions no better than chance: its UAR is "
                f"{100 * victim['uar']:.0f} % (95 % interval {100 * victim['uar_low']:.0f} to "
                f"{100 * victim['uar_high']:.0f} %), and chance is {100 * chance:.0f} %.",
            )
        )
    if recognised < wanted:
        found.append(
            Finding(
                "too-few",
                f"Only {recognised} attacked utterances were classified correctly before the "
                f"attack; the criteria require {wanted}.",
            )
        )
    found += _class_mismatch(victim["class_names"], corpus_classes)
    if signs is None:
        signs = {"features": (victim.get("gradient_check") or {}).get("signs", ())}
    for surface, names in signs.items():
        if names:
            # Success rates of a masked victim prevent a pass one by one: a proven bound does not.
            where = "this model" if surface == "features" else f"this model on the {surface}"
            text = masked_warning(where, names)
            found.append(Finding("masked-gradients", text, prevents_pass=False))
    return found


def _class_mismatch(model: Sequence[str], corpus: Sequence[str]) -> list[Finding]:
    unknown = sorted(set(corpus) - set(model))
    absent = sorted(set(model) - set(corpus))
    parts = []
    if unknown:
        parts.append(f"the model does not have the classes {', '.join(unknown)} of the corpus")
    if absent:
        parts.append(f"the corpus has no recordings of the classes {', '.join(absent)}")
    if not parts:
        return []
    text = " and ".join(parts)
    return [
        Finding("class-mismatch", text[0].upper() + text[1:] + ".", prevents_pass=bool(unknown))
    ]
