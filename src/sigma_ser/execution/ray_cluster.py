"""Tasks on a Ray cluster: this machine, or all machines that have joined it."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sigma_ser.core.cores import usable_cores
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.registry import register

from .executor import LostTaskError, Result, Task, entered

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Twice as many tasks as workers are submitted, so that no worker waits for the next one.
_AHEAD = 2


@register("executor", "ray")
class Ray:
    """Runs tasks on a Ray cluster, one thread each; Ray restarts workers that die.

    The run folder must have the same path on every machine. Needs the extra
    `sigma-ser[ray]`.

    Args:
        workers: tasks at the same time, at least 1; `None`: one for each core of the cluster.
        address: of a running cluster, `auto` for the one of this machine; `None` takes the one that
            this process is connected to, or starts one here for as long as the process lives.
        retries: number of times a task is started again after its worker or machine died.
        gpus: share of an accelerator that each task reserves; no other is visible to it.
    """

    in_process = False

    def __init__(
        self,
        *,
        workers: int | None = None,
        address: str | None = None,
        retries: int = 2,
        gpus: float = 0.0,
    ) -> None:
        if workers is not None and workers < 1:
            raise ConfigError(f"workers must be at least 1, got {workers}")
        self.address = address
        self.retries = retries
        self.gpus = gpus
        self._ray = _connected(address, workers)
        self.workers = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def completed(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Yield `(position, result)` as tasks end.

        Raises:
            LostTaskError: if a task's worker died `retries + 1` times.
        """
        ray = self._ray
        remote = ray.remote(
            num_cpus=1, num_gpus=self.gpus, max_retries=self.retries, retry_exceptions=False
        )(_alone)
        waiting = deque(range(len(tasks)))
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < _AHEAD * self.workers:
                    position = waiting.popleft()
                    running[remote.remote(function, tasks[position])] = position
                (done,), _ = ray.wait(list(running), num_returns=1)
                position = running.pop(done)
                try:
                    result: Result = ray.get(done)
                except ray.exceptions.RayTaskError as fault:
                    raise fault.cause from None
                except ray.exceptions.RayError as fault:
                    # Ray has started the task again where its worker or machine died. What remains
                    # are repeated deaths, and results or machines that were lost for good.
                    raise LostTaskError(
                        f"task {position + 1} of {len(tasks)} was lost by Ray "
                        f"({type(fault).__name__}), after {self.retries} retries where its worker "
                        "died; check for a lack of memory and for lost machines, or use the "
                        "inline executor to see the cause",
                        position,
                    ) from fault
                yield position, result
        finally:
            # Also on an exception, on KeyboardInterrupt, and when the caller stops early.
            for left in running:
                ray.cancel(left, force=True)

    def __repr__(self) -> str:
        return f"Ray(workers={self.workers}, address={self.address!r}, retries={self.retries})"


def _connected(address: str | None, workers: int | None) -> Any:
    try:
        import ray
    except ImportError as fault:
        raise ConfigError(
            f"executor.name: ray is not installed ({fault}); pip install sigma-ser[ray], or use "
            'executor = "processes"'
        ) from None
    if ray.is_initialized():
        _check_same(ray, address)
    else:
        threads = dict.fromkeys(_THREAD_VARIABLES, "1")
        local = {} if address else {"num_cpus": workers or usable_cores(),
                                    "include_dashboard": False}  # fmt: skip
        try:
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": threads},
                **local,
            )
        except (ConnectionError, RuntimeError, ValueError) as fault:
            raise ConfigError(
                f"executor.address: no Ray cluster responds at {address!r} ({fault}); start one "
                "with ray start --head, or leave the address out"
            ) from fault
    return ray


def _check_same(ray: Any, address: str | None) -> None:
    """Refuse a second cluster: a process can be connected to one only."""
    if address is None:
        return
    connected = str(ray.get_runtime_context().gcs_address)
    here = ray.util.get_node_ip_address()
    asked = (here, "") if address == "auto" else _host_and_port(address, here)
    host, port = _host_and_port(connected, here)
    if asked[0] != host or (asked[1] and asked[1] != port):
        raise ConfigError(
            f"executor.address: this process is connected to the Ray cluster at {connected}, and "
            f"not to {address!r}; call ray.shutdown() first, run the study in a process of its "
            "own, or leave the address out"
        )


def _host_and_port(address: str, here: str) -> tuple[str, str]:
    """Host as a number, and port; that of a Ray client (`ray://`) is not the cluster's own."""
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    with contextlib.suppress(OSError):
        host = socket.gethostbyname(host)
    return here if host.startswith("127.") else host, "" if scheme else port


# The function that this worker process has entered. Ray reuses workers for many tasks.
_current: list[tuple[Callable[[Any], Any], AbstractContextManager[object]]] = []


def _alone(function: Callable[[Any], Any], task: Any) -> Any:
    """Run a task with one thread: two workers with two each run recurrent heads 27 times slower."""
    import torch

    torch.set_num_threads(1)
    if not _current or _current[0][0] != function:
        for _, context in _current:
            context.__exit__(None, None, None)
        context = entered(function)
        context.__enter__()
        _current[:] = [(function, context)]
    return _current[0][0](task)
