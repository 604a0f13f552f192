"""Memory that was freed goes back to the system, and the user's own setting goes first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sigma_ser.execution.memory import release_freed_tables

_HOLES = """
import sys
import torch
from sigma_ser.execution.memory import Slack, anonymous_bytes
torch.set_num_threads(1)
slack = Slack(most=int(sys.argv[1]))
slack.give_back()
before = anonymous_bytes()
# Every second one stays, so the heap cannot shrink from its end.
kept = [torch.ones(25_000 + 10 * n) for n in range(800)]
kept = kept[1::2]
holes = anonymous_bytes()
slack.give_back()
print(holes - before, anonymous_bytes() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's heap")
@pytest.mark.parametrize(("most", "share"), [(1 << 20, 0.7), (1 << 30, 1.01)])
def test_holes_of_the_heap_go_back_once_there_are_many(most: int, share: float) -> None:
    reported = subprocess.run(
        [sys.executable, "-c", _HOLES, str(most)], capture_output=True, text=True, check=True,
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 24), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    grown, left = map(int, reported.stdout.split())
    assert grown > 70 << 20
    assert left < share * grown
    if share > 1:
        assert left > 0.99 * grown


def test_the_setting_of_the_user_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_RJEM_MALLOC_CONF", "dirty_decay_ms:7")
    release_freed_tables()
    assert os.environ["_RJEM_MALLOC_CONF"] == "dirty_decay_ms:7"
    monkeypatch.delenv("_RJEM_MALLOC_CONF")
    release_freed_tables()
    assert "dirty_decay_ms:0" in os.environ["_RJEM_MALLOC_CONF"]
