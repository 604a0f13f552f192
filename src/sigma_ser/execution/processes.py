"""Tasks in worker processes on this machine, one thread each; workers that die are replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.queues import SimpleQueue
from typing import Any

from sigma_ser.core.cores import usable_cores
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.registry import register

from .executor import LostTaskError, Result, Task, entered

# A fork of this process would copy locks and thread pools that torch holds. The fork server is a
# fresh process that has imported torch and run nothing, so workers start in a moment.
_FORK_SERVER = "forkserver" in multiprocessing.get_all_start_methods()
_CONTEXT = multiprocessing.get_context("forkserver" if _FORK_SERVER else "spawn")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@register("executor", "processes")
class Processes:
    """Runs tasks in worker processes that exist for the duration of the call.

    Function, tasks and results must be picklable, and the function importable. Each worker has one
    thread: two workers with two OpenMP threads each ran recurrent heads 27 times slower.

    Args:
        workers: number of processes, at least 1; `None`: one for each usable core.
        retries: number of times a task is started again after its worker died (was killed or ran
            out of memory); an exception of the function itself is raised at once.
        devices: one accelerator for each worker, as CUDA_VISIBLE_DEVICES names them; the worker
            sees it alone, as `cuda:0`.
    """

    in_process = False

    def __init__(
        self,
        *,
        workers: int | None = None,
        retries: int = 2,
        devices: Sequence[str] | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise ConfigError(f"workers must be at least 1, got {workers}")
        if devices is not None and workers not in (None, len(devices)):
            raise ConfigError(
                f"{len(devices)} devices make as many workers, {workers} were asked for; "
                "leave workers out"
            )
        self.devices = tuple(devices) if devices is not None else None
        self.workers = workers or (len(self.devices) if self.devices else usable_cores())
        self.retries = retries

    def prepare(self, function: Callable[[Any], Any], modules: Sequence[str] = ()) -> None:
        """Import what workers need, in the fork server, while this process does something else.

        Args:
            function: of a later call of `completed`.
            modules: further modules to import; names that do not exist are ignored.
        """
        if not _FORK_SERVER:
            return
        from multiprocessing import forkserver

        _preload(function, modules)
        with _signals_deferred():
            forkserver.ensure_running()

    def completed(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Yield `(position, result)` as tasks end.

        Raises:
            LostTaskError: if a task's worker died `retries + 1` times.
        """
        deaths = [0] * len(tasks)
        waiting = deque(range(len(tasks)))
        suspects: deque[int] = deque()
        while waiting or suspects:
            # Any task that ran when a worker died may be the cause: each is tried again on its own.
            queue = deque([suspects.popleft()]) if suspects else waiting
            lost = yield from self._until_a_death(function, tasks, queue)
            for position in lost:
                deaths[position] += 1
                if deaths[position] > self.retries:
                    raise LostTaskError(
                        f"the worker of task {position + 1} of {len(tasks)} died "
                        f"{deaths[position]} times; check for a lack of memory, or use the "
                        "inline executor to see the cause",
                        position,
                    )
            suspects.extend(sorted(lost))

    def _until_a_death(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], queue: deque[int]
    ) -> Generator[tuple[int, Result], None, list[int]]:
        """Process a queue; returns the tasks that were running when a worker died."""
        pool = _Pool(function, min(self.workers, len(queue)), self.devices)
        running: dict[Future[Result], int] = {}
        lost: list[int] = []
        done = False
        try:
            while (queue and not lost) or running:
                # Only as many as there are workers, so that few tasks are suspects when one dies.
                while queue and len(running) < pool.workers and not lost:
                    position = queue.popleft()
                    try:
                        running[pool.submit(tasks[position])] = position
                    except BrokenProcessPool:
                        queue.appendleft(position)
                        break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    position = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        lost.append(position)
                    else:
                        yield position, result
                if not running and pool.broken:
                    break
            done = True
        finally:
            # Also on an exception, on KeyboardInterrupt, and when the caller stops early.
            pool.close(at_once=not done)
        return lost

    def __repr__(self) -> str:
        devices = f", devices={self.devices}" if self.devices else ""
        return f"Processes(workers={self.workers}, retries={self.retries}{devices})"


class _Pool:
    """A process pool whose workers exit at once when it closes or when the parent dies."""

    def __init__(
        self, function: Callable[[Any], Any], workers: int, devices: Sequence[str] | None
    ) -> None:
        self.workers = workers
        if _FORK_SERVER:
            _preload(function)
        self._leave, self._stay = _CONTEXT.Pipe(duplex=False)
        # Each worker takes one; when one dies, all are replaced, and this queue with them.
        free: SimpleQueue[str] | None = None
        if devices is not None:
            free = _CONTEXT.SimpleQueue()
            for device in devices:
                free.put(device)
        self.broken = False
        self._pool = ProcessPoolExecutor(
            workers,
            mp_context=_CONTEXT,
            initializer=_start_worker,
            initargs=(self._leave, dict(os.environ), free, pickle.dumps(function)),
        )

    def submit(self, task: Any) -> Future[Any]:
        try:
            # A worker that the pool does not know of would start without its semaphores.
            with _signals_deferred():
                return self._pool.submit(_apply, task)
        except BrokenProcessPool:
            self.broken = True
            raise

    def close(self, at_once: bool) -> None:
        if at_once:
            self._stay.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._stay.close()
        self._leave.close()


def _preload(function: Callable[[Any], Any], modules: Sequence[str] = ()) -> None:
    """Let the fork server import modules once, instead of every worker of every call."""
    named = getattr(function, "imports", ())
    _CONTEXT.set_forkserver_preload(["torch", __name__, *named, *modules])


@contextlib.contextmanager
def _signals_deferred() -> Iterator[None]:
    """Handle SIGINT and SIGTERM after the block, where Python code handles them at all."""
    deferred: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(signal.getsignal(number)):
                handlers[number] = signal.signal(number, lambda one, _: deferred.append(one))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for first in deferred[:1]:
            signal.raise_signal(first)


# The function of this worker process, set once when the worker starts.
_function: list[Callable[[Any], Any]] = []


def _apply(task: Any) -> Any:
    """Apply the function of this worker to a task."""
    return _function[0](task)


def _start_worker(
    leave: Connection,
    environment: dict[str, str],
    free: SimpleQueue[str] | None,
    pickled: bytes,
) -> None:
    """Prepare a worker: one thread, SIGINT ignored (the parent handles it), never an orphan."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The fork server has the environment of the time when it was started.
    os.environ.update(environment)
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = "1"
    if free is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = free.get()
    from .threads import keep_one_thread

    # Libraries that the fork server has loaded have read its environment already.
    keep_one_thread()
    threading.Thread(target=_leave_with_parent, args=(leave,), daemon=True).start()
    # Unpickled here, because its imports must see the environment above. The context ends with the
    # process.
    function = pickle.loads(pickled)
    entered(function).__enter__()
    _function[:] = [function]


def _leave_with_parent(leave: Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_any([parent.sentinel, leave])
    os._exit(1)
