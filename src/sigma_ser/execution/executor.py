"""The one small interface of all executors, and the way to get one by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError, RunError

Task = TypeVar("Task")
Result = TypeVar("Result")


class LostTaskError(RunError):
    """A task whose worker died again and again; `position` says which, the others may go on."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@runtime_checkable
class Executor(Protocol):
    """Applies one function to many independent tasks.

    What comes out depends on function and task alone, never on the executor, on the number of
    workers or on the order in which they end.
    """

    @property
    def workers(self) -> int:
        """How many tasks run at the same time."""

    @property
    def in_process(self) -> bool:
        """True where the function runs in the caller's own process, and so need not be pickled."""

    def completed(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Yield `(position, result)` as the tasks end, in any order.

        Raises:
            LostTaskError: if a worker died again and again on the same task.
            Exception: what `function` raised; the other tasks are given up.
        """


def load_executor(name: str = "inline", workers: int | None = None, **settings: Any) -> Executor:
    """An executor by name.

    Args:
        name: `inline`, `processes`, or another registered one.
        workers: how many tasks at the same time; `None` leaves it to the executor.
        settings: further keywords of that executor.

    Raises:
        UnknownNameError: if no executor has this name.
        ConfigError: if `workers` is not possible there, or a setting is unknown.

    >>> executor = load_executor("inline")
    >>> ordered(executor, len, ["a", "bcd"])
    [1, 3]
    """
    kind = registry.get("executor", name)
    known = [
        parameter for parameter in inspect.signature(kind).parameters if parameter != "workers"
    ]
    for setting in settings:
        if setting not in known:
            near = difflib.get_close_matches(setting, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
            raise ConfigError(f"the executor {name!r} has no setting {setting!r}; {hint}")
    executor: Executor = kind(workers=workers, **settings)
    return executor


def ordered(
    executor: Executor, function: Callable[[Task], Result], tasks: Sequence[Task]
) -> list[Result]:
    """All results, in the order of the tasks."""
    return [
        result
        for _, result in sorted(executor.completed(function, tasks), key=lambda pair: pair[0])
    ]
