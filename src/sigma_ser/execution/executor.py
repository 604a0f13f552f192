"""The interface of all executors, and how to make one by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from sigma_ser.core import registry
from sigma_ser.core.errors import RunError

Task = TypeVar("Task")
Result = TypeVar("Result")


class LostTaskError(RunError):
    """A task whose worker died repeatedly; `position` is its index, the others may continue."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


@dataclass(frozen=True)
class Fault:
    """What went wrong with one task; `final` where another attempt would end the same."""

    reason: str
    final: bool


@runtime_checkable
class Executor(Protocol):
    """Applies one function to many independent tasks.

    The results depend on the function and the tasks alone, never on the executor, the number of
    workers or the order in which tasks end. A function that is a context manager is entered once in
    each worker, so that it can keep files open between tasks.
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
    executor: Executor = registry.make("executor", name, {"workers": workers, **settings})
    return executor


def entered(function: Callable[[Task], Result]) -> AbstractContextManager[object]:
    """The context of a function: its own where it is a context manager, else an empty one."""
    return function if isinstance(function, AbstractContextManager) else nullcontext()


def ordered(
    executor: Executor, function: Callable[[Task], Result], tasks: Sequence[Task]
) -> list[Result]:
    """All results, in the order of the tasks."""
    return [
        result
        for _, result in sorted(executor.completed(function, tasks), key=lambda pair: pair[0])
    ]
