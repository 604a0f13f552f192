"""One thread for every task, wherever it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from threadpoolctl import threadpool_limits

# Threads of OpenBLAS wait in busy loops: with two of them in each of two workers on two cores, a
# product of two vectors took 5 ms instead of 3 us.
_BLAS = "blas"


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch and numpy in this process, as in every worker, until the block ends.

    Sums over several threads are rounded differently, so a task with two threads here and one in a
    worker would give different rows.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api=_BLAS):
            yield
    finally:
        torch.set_num_threads(threads)


def keep_one_thread() -> None:
    """As `one_thread`, until this process ends."""
    torch.set_num_threads(1)
    threadpool_limits(1, user_api=_BLAS)
