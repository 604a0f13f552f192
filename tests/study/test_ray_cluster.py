"""Ray: two nodes on this machine, a worker killed in the middle, and the same rows as inline."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import sigma_ser as ss
from sigma_ser.core.rows import TIMING_COLUMNS
from sigma_ser.execution.executor import load_executor

SCRIPT = """
import json, os, pathlib, signal, sys, threading, time

folder, values = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
os.environ["SIGMA_SER_RAY_TEST"] = str(folder)
from ray.cluster_utils import Cluster
import sigma_ser as ss
from sigma_ser.report import writer

def killer():
    # A worker, once the first part is there: while it works on another.
    while not list(folder.glob("attacks/*/part-*.parquet")):
        time.sleep(0.01)
    mark = f"SIGMA_SER_RAY_TEST={folder}".encode()
    while True:
        for place in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                ours = mark in (place / "environ").read_bytes()
                if ours and b"ray::_alone" in (place / "cmdline").read_bytes():
                    os.kill(int(place.name), signal.SIGKILL)
                    (folder / "killed").touch()
                    return
            except OSError:
                continue

if __name__ == "__main__":
    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    threading.Thread(target=killer, daemon=True).start()
    values["executor"] = {"name": "ray", "address": cluster.address}
    writer.write_figures = lambda *given: None  # as in conftest.py
    study = ss.run(values, out=folder)
    import ray
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.execution.executor import load_executor
    load_executor("ray", address=cluster.address)
    try:
        load_executor("ray", address="127.0.0.1:1")
        refused = False
    except ConfigError:
        refused = True
    print(len(ray.nodes()), len(study.failures), refused)
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_rows_from_two_nodes_of_which_one_loses_a_worker(
    finished: ss.Study, small_study: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / "attacks")
    (folder / "rows.json").unlink()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), json.dumps(small_study)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr
    # Before it, Ray tells of the dead worker.
    assert done.stdout.splitlines()[-1] == "2 0 True", done.stdout
    assert (folder / "killed").exists()
    rows = pl.read_parquet(folder / "rows.parquet")
    assert_frame_equal(rows.drop(TIMING_COLUMNS), finished.rows.drop(TIMING_COLUMNS))


def test_without_ray_the_executor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ss.errors.ConfigError, match=r"pip install sigma-ser\[ray\]"):
        load_executor("ray")


@pytest.mark.parametrize(
    ("address", "same"),
    [
        (None, True),
        ("10.0.0.7:6379", True),
        ("ray://10.0.0.7:10001", True),
        ("10.0.0.7:6380", False),
        ("10.0.0.8:6379", False),
        ("auto", False),  # the one of this machine, which is 10.0.0.1
    ],
)
def test_a_process_that_is_connected_elsewhere_says_so(
    monkeypatch: pytest.MonkeyPatch, address: str | None, same: bool
) -> None:
    connected = SimpleNamespace(
        is_initialized=lambda: True,
        get_runtime_context=lambda: SimpleNamespace(gcs_address="10.0.0.7:6379"),
        util=SimpleNamespace(get_node_ip_address=lambda: "10.0.0.1"),
        cluster_resources=lambda: {"CPU": 4},
    )
    monkeypatch.setitem(sys.modules, "ray", connected)
    if same:
        assert load_executor("ray", address=address).workers == 4
        return
    with pytest.raises(
        ss.errors.ConfigError, match=r"connected to .* 10\.0\.0\.7:6379, and not to"
    ):
        load_executor("ray", address=address)
