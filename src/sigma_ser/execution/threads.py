"""One thread for every task, wherever it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for torch in this process, as in every worker, until the block ends.

    Sums over several threads are rounded differently, so a task with two threads here and one in a
    worker would give different rows.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
