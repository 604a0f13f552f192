"""Types of values in files that people write: numbers with their range, and short lists."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field

Share = Annotated[float, Field(gt=0, le=1)]
# In units of standard deviations; beyond, perturbed features and their squares leave float32.
Epsilon = Annotated[float, Field(ge=0, le=1e6)]
# In dB; beyond, a perturbation is far above the recording or below the last bit of float32.
Ratio = Annotated[float, Field(ge=-100, le=200)]
# Rows hold seeds in 64 bits with a sign.
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Item = TypeVar("Item")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _distinct(values: list[Item]) -> list[Item]:
    if len(set(values)) < len(values):
        raise ValueError(f"each entry must occur only once, got {values}")
    return values


def _no_count(value: Any) -> Any:
    """A list of fold numbers; a single number is an error that names both keys."""
    if isinstance(value, int):
        raise ValueError(
            f"expected the folds to run, counted from 0, such as [0, 1], got {value}; for {value} "
            f"folds in all, write protocol_settings = {{ folds = {value} }}"
        )
    return value


# One value stands for a list of one, so that the common case is short.
OneOrMore = Annotated[list[Item], Field(min_length=1), BeforeValidator(_listed)]
# An entry that occurs twice would be the same step twice.
Distinct = Annotated[list[Item], AfterValidator(_distinct)]
# The number of folds is easily written in place of their numbers.
FoldNumbers = Annotated[
    list[int], Field(min_length=1), BeforeValidator(_no_count), AfterValidator(_distinct)
]
OneOrMoreDistinct = Annotated[
    list[Item], Field(min_length=1), BeforeValidator(_listed), AfterValidator(_distinct)
]
