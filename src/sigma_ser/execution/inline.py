"""Everything in the caller's own process, one task after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sigma_ser.core.errors import ConfigError
from sigma_ser.core.registry import register

from .executor import Result, Task, entered


@register("executor", "inline")
class Inline:
    """Runs the tasks here, in their order.

    Args:
        workers: 1 or `None`.
    """

    workers = 1
    in_process = True

    def __init__(self, *, workers: int | None = None) -> None:
        if workers not in (None, 1):
            raise ConfigError(
                f"the inline executor has one worker, {workers} were asked for; "
                'use executor = "processes"'
            )

    def completed(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Yield `(position, result)` in the order of the tasks."""
        with entered(function):
            for position, task in enumerate(tasks):
                yield position, function(task)

    def __repr__(self) -> str:
        return "Inline()"
