"""Nothing here needs what only POSIX systems or only Linux have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sigma_ser.core.cores import usable_cores
from sigma_ser.core.locks import exclusive, is_held

_WITHOUT_POSIX = """
    import contextlib, os, sys, warnings

    # Jupyter installs psutil, whose build for Linux imports `resource`.
    with contextlib.suppress(ImportError):
        import psutil
    os.__dict__.pop("sched_getaffinity", None)
    for name in ("fcntl", "resource", "pwd", "grp", "termios"):
        sys.modules[name] = None
    # filelock falls back on the existence of a file, which it reports.
    warnings.filterwarnings("ignore", "only soft file lock is available")
"""
_BARE_SYSTEM = """
    import importlib, pkgutil

    import sigma_ser as ss

    for module in pkgutil.walk_packages(ss.__path__, "sigma_ser."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    import dataclasses, pathlib
    from sigma_ser.core.locks import exclusive
    from sigma_ser.execution.executor import load_executor
    from sigma_ser.runs.provenance import environment

    assert environment()["cores"] == os.cpu_count()
    assert load_executor("processes").workers == os.cpu_count()
    corpus = ss.load_corpus("demo")
    few = dataclasses.replace(corpus, utterances=corpus.utterances[:3])
    store = ss.extract(few, ss.load_encoder("demo"), out=pathlib.Path(sys.argv[1]) / "store")
    assert store.complete
    print(len(store))
"""
_DEMO = """
    from sigma_ser.cli import main
    from sigma_ser.demo import study_path

    corpus = {"name": "manifest", "root": sys.argv[2], "protocol": "speaker-kfold"}
    written = ", ".join(f"{key} = '{value}'" for key, value in corpus.items())
    smaller = (
        "corpus={" + written + ", protocol_settings = {folds = 3}, folds = [0]}",
        "evaluation.utterances=4", "evaluation.exemplars=1", "consistency.settings.steps=1",
        'victims=[{head = "linear", epochs = 2}]', "attacks.0.steps=2",
        "explainers.integrated-gradients.steps=2",
    )
    changes = [part for one in smaller for part in ("--set", one)]
    sys.argv = ["sigma-ser", "run", str(study_path()), "--out", sys.argv[1], "--json", *changes]
    main()
"""
_HOLD = """
    import sys
    from pathlib import Path
    from sigma_ser.core.locks import exclusive

    with exclusive(Path(sys.argv[1]), RuntimeError("busy")):
        print("held", flush=True)
        sys.stdin.read()
"""


def run_without_posix(script: str, *paths: Path) -> str:
    """What a script prints in a fresh interpreter that lacks modules and calls of POSIX."""
    text = textwrap.dedent(_WITHOUT_POSIX) + textwrap.dedent(script)
    found = subprocess.run(
        [sys.executable, "-c", text, *map(str, paths)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


@pytest.mark.slow
def test_it_works_without_the_modules_and_calls_of_posix(tmp_path: Path) -> None:
    assert run_without_posix(_BARE_SYSTEM, tmp_path).split() == ["3"]


@pytest.mark.slow
@pytest.mark.study
def test_the_demo_runs_without_the_modules_and_calls_of_posix(
    tmp_path: Path, small_corpus: Path
) -> None:
    result = json.loads(run_without_posix(_DEMO, tmp_path / "run", small_corpus))
    assert result["attacks"]
    assert Path(result["report"]).is_file()


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_a_lock_is_seen_by_other_processes_and_ends_with_its_own(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not is_held(path)
    assert not path.exists()
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_HOLD), str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert is_held(path)
        with pytest.raises(RuntimeError, match="busy"), exclusive(path, RuntimeError("busy")):
            pass
        holder.kill()
    assert not is_held(path)
    with exclusive(path, RuntimeError("busy")):
        assert is_held(path)
    assert not is_held(path)


def test_a_look_at_the_lock_does_not_make_a_start_fail(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.touch()
    looking = textwrap.dedent("""
        import sys
        from pathlib import Path
        from sigma_ser.core.locks import is_held

        print("looking", flush=True)
        while True:
            is_held(Path(sys.argv[1]))
    """)
    looker = subprocess.Popen(
        [sys.executable, "-c", looking, str(path)], stdout=subprocess.PIPE, text=True
    )
    with looker:
        assert looker.stdout is not None
        assert looker.stdout.readline() == "looking\n"
        for _ in range(200):
            with exclusive(path, RuntimeError("busy")):
                pass
        looker.kill()
