"""What the outputs of an audio classifier of `transformers` mean, and two classes from one output.

The head of a regression model (arousal, dominance, valence) or of a multi-label model has the same
form as that of a classifier, but its largest output is not a prediction.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.errors import VictimError

_REGRESSION, _MULTI_LABEL = "regression", "multi_label_classification"
_DIMENSIONS = frozenset({"arousal", "activation", "valence", "dominance"})


class Threshold(nn.Module):
    """Two classes of one output: below a threshold and above it.

    Args:
        module: `(x, lengths) -> outputs (B, O)`.
        position: of the output.
        value: of the threshold, in the unit of the output.
    """

    def __init__(self, module: nn.Module, position: int, value: float) -> None:
        super().__init__()
        self.module = module
        self.position = position
        # A buffer, so that it is part of the fingerprint of the victim.
        self.register_buffer("value", torch.tensor(value))

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B 2"]:
        """Return the distance below and above the threshold."""
        above = self.module(x, lengths)[:, self.position] - self.value
        return torch.stack([-above, above], dim=1)


def check_outputs(
    name: str, config: Mapping[str, Any], threshold: Mapping[str, float] | None
) -> None:
    """Check that the largest output of a model is its prediction, or that a threshold is named.

    Args:
        name: of the model.
        config: its `config.json`.
        threshold: the output that is compared with a number; `None` for a classifier.

    Raises:
        VictimError: if the model needs a threshold, or has no use for one.
    """
    kind = _kind(config)
    if kind is None and threshold is not None:
        raise VictimError(
            f"{name} classifies an utterance into one of its classes; remove the threshold"
        )
    if kind is not None and threshold is None:
        what = (
            "is a regression model, whose outputs are numbers and not classes"
            if kind == _REGRESSION
            else "is a multi-label model, which gives each utterance any number of labels"
        )
        shown = ", ".join(_names(config)) or "unnamed outputs"
        example = next(iter(_names(config)), "arousal")
        raise VictimError(
            f'{name} {what} ({shown}); name an output and a threshold, as in threshold={{"{example}'
            '": 0.5}, which makes two classes of it'
        )


def two_classes(
    name: str,
    module: nn.Module,
    config: Mapping[str, Any],
    outputs: Sequence[str],
    threshold: Mapping[str, float],
) -> tuple[Threshold, tuple[str, str]]:
    """Two classes from one output of a regression or multi-label model.

    Args:
        name: of the model.
        module: `(x, lengths) -> outputs (B, O)`.
        config: its `config.json`.
        outputs: the names of the outputs, in order.
        threshold: one output and the number that divides the classes: in the unit of a regression,
            or the probability of a label, between 0 and 1.

    Returns:
        The module with two logits, and the names of the classes.

    Raises:
        VictimError: if there is no such output, or the number is out of range.
    """
    if not isinstance(threshold, Mapping) or len(threshold) != 1:
        raise VictimError(
            f'threshold must name one output, as in threshold={{"arousal": 0.5}}, got {threshold!r}'
        )
    ((output, value),) = threshold.items()
    if output not in outputs:
        raise VictimError(
            f"{name} has no output {output!r}; set the threshold of one of {', '.join(outputs)}"
        )
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise VictimError(f"the threshold of {output} must be a finite number, got {value!r}")
    if _kind(config) == _MULTI_LABEL:
        if not 0 < value < 1:
            raise VictimError(
                f"the threshold of {output} is a probability between 0 and 1, got {value!r}"
            )
        value = math.log(value / (1 - value))
    classes = f"low-{output}", f"high-{output}"
    return Threshold(module, outputs.index(output), float(value)), classes


def _kind(config: Mapping[str, Any]) -> str | None:
    """What the outputs are, if they are not classes."""
    kind, names = config.get("problem_type"), _names(config)
    if kind == _MULTI_LABEL:
        return _MULTI_LABEL
    # As in transformers, a single output is a number. Some configs do not name their problem.
    if kind == _REGRESSION or len(names) == 1 or (names and _DIMENSIONS.issuperset(names)):
        return _REGRESSION
    return None


def _names(config: Mapping[str, Any]) -> list[str]:
    """The names of the outputs; empty if the config does not name them."""
    named = config.get("id2label")
    return [str(name) for name in named.values()] if isinstance(named, dict) else []
