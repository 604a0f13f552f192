"""Fixtures for all tests: where the real recordings and weights lie, and one thread a process."""

from __future__ import annotations

import contextlib
import csv
import functools
import inspect
import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

# Two processes with two OpenMP threads each run recurrent heads 27 times slower than with one.
torch.set_num_threads(1)

# Types and shapes are checked in the first calls of every function in each test. Checking all calls
# more than doubles the time of the suite: an attack calls the same functions thousands of times.
CHECKED_CALLS = 3
calls: Counter[Callable[..., Any]] = Counter()
check_shapes = jaxtyping.jaxtyped


def check_first_calls(function: Any = None, *, typechecker: Any = None) -> Any:
    """Decorate as `jaxtyping.jaxtyped` does, but check only the first calls in each test."""
    if function is None:
        return functools.partial(check_first_calls, typechecker=typechecker)
    if inspect.isclass(function):
        return check_shapes(function, typechecker=typechecker)
    # Functions inside functions are defined anew in each call; decorating costs more than the call.
    if "<locals>" in function.__qualname__:
        return function
    # Decorating takes milliseconds, and most functions are not called by a test.
    checked = functools.cache(lambda: check_shapes(function, typechecker=typechecker))

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if calls[function] >= CHECKED_CALLS:
            return function(*args, **kwargs)
        calls[function] += 1
        return checked()(*args, **kwargs)

    return call


# The import hook of `--jaxtyping-packages` looks the decorator up here when a module is imported.
jaxtyping.jaxtyped = check_first_calls

# Files are forced to the disk before they are renamed. Only a power cut could show the difference,
# and waiting for the disk takes a large part of a small study.
os.fsync = lambda descriptor: None

# No timings in assertions; the same examples in every run, so that a failure can be repeated.
settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")

# Results of checked recordings are cached outside the user's own cache.
os.environ.setdefault("SIGMA_SER_CACHE", str(Path(tempfile.gettempdir()) / "sigma-ser-tests"))

# Tests are slow if they use a fixture that runs a study or trains victims by the command line, or
# a member that needs many passes. Other slow tests carry the marker themselves.
SLOW_FIXTURES = {
    "browser",
    "reader",
    "finished",
    "small_study",
    "done",
    "study_file",
    "release",
    "trained",
    "study",
}
SLOW_MEMBERS = {
    *("sparse-autoattack", "sigma-autoattack"),
    *("cornersearch", "onepixel", "reselect", "sparse-rs"),
    "ecapa",
}

# Files that apply laws to every member, or that train and encode: tests of a cheap member are fast,
# the others are slow.
SLOW_FILES = {
    "corpora.py",
    "gradient_checks.py",
    "test_affine.py",
    "test_arguments.py",
    "test_attack_conformance.py",
    "test_configurations.py",
    "test_corpus_conformance.py",
    "test_corruptions.py",
    "test_default_dtype_and_scale.py",
    "test_disjoint.py",
    "test_encoder_families.py",
    "test_explainer_conformance.py",
    "test_explainers_on_trained_heads.py",
    "test_explainers_on_waves.py",
    "test_frame_ablation.py",
    "test_framewise.py",
    "test_gradient_checks.py",
    "test_heads.py",
    "test_known_recordings.py",
    "test_limits.py",
    "test_notes_beside_figures.py",
    "test_outputs.py",
    "test_padding.py",
    "test_page.py",
    "test_segments.py",
    "test_surrogates.py",
    "test_tiny_gradients.py",
    "test_unit_of_logits.py",
    "test_verification.py",
    "test_waveform.py",
    "test_waveform_gradients.py",
}
FAST_MEMBERS = {"oneshot", "gradient", "linear", "hubert"}

DATA = Path(
    os.environ.get("SIGMA_SER_DATA", Path(__file__).parents[2] / "shared" / "data")
).absolute()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Begin to count calls anew, so that checks do not depend on the order of the tests."""
    calls.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as slow by their fixtures and members, and move files with studies to the front.

    `make check` leaves slow tests out. A study takes minutes: one that started last would keep one
    worker busy while the others have nothing left.
    """
    studies = {item.path for item in items if item.get_closest_marker("study")}
    items.sort(key=lambda item: item.path not in studies)
    for item in items:
        parameters = getattr(item, "callspec", None)
        members = {str(value) for value in parameters.params.values()} if parameters else set()
        in_slow_file = item.path.name in SLOW_FILES and not FAST_MEMBERS & members
        fixtures = set(getattr(item, "fixturenames", ()))
        if in_slow_file or SLOW_FIXTURES & fixtures or SLOW_MEMBERS & members:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Any]], Any]:
    """Make something once for all workers of pytest-xdist: `once(name, make)` is `make(folder)`.

    The first worker that needs it makes it in a new folder; the others read the pickled result.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def result(name: str, make: Callable[[Path], Any]) -> Any:
        with FileLock(shared / f"{name}.lock"):
            kept = shared / f"{name}.pickle"
            if not kept.exists():
                kept.write_bytes(pickle.dumps(make(tmp_path_factory.mktemp(name))))
            return pickle.loads(kept.read_bytes())

    return result


@contextlib.contextmanager
def _shortened() -> Iterator[None]:
    """Leave out what takes most of the time of a small study, and has tests of its own.

    No figures are drawn, and the gradient check makes 20 instead of 200 queries of each utterance.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sigma_ser.report.writer.write_figures", lambda *given: None)
        patch.setattr("sigma_ser.attacks.gradient_checks._QUERIES", 20)
        yield


@pytest.fixture(scope="session")
def shortened() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """A context in which studies take less time; for fixtures of a session."""
    return _shortened


@pytest.fixture(scope="module")
def short_runs() -> Iterator[None]:
    """Studies of this module take less time."""
    with _shortened():
        yield


@pytest.fixture(scope="session")
def small_corpus(once: Callable[[str, Callable[[Path], Path]], Path]) -> Path:
    """A manifest of 27 embedded recordings: three voices, three emotions, three words."""
    return once("small-corpus", _write_manifest)


@pytest.fixture(scope="session")
def demo_features(once: Callable[[str, Callable[[Path], Path]], Path]) -> Path:
    """The folder `features` of a run on the demo corpus and encoder, for a new run to copy."""
    return once("demo-features", _extract_demo)


def _extract_demo(folder: Path) -> Path:
    from sigma_ser.core.progress import Silent
    from sigma_ser.runs.layout import RunLayout
    from sigma_ser.study.inputs import open_inputs, plan_study
    from sigma_ser.study.loading import parse_study

    config = parse_study(
        {
            "name": "features",
            "corpus": {"name": "demo", "protocol": "demo-voices"},
            "encoder": {"name": "demo"},
            "victims": [{"head": "linear"}],
            "attacks": [{"name": "oneshot"}],
        }
    ).config
    plan_study(config, open_inputs(config, RunLayout(folder)), Silent())
    return folder / "features"


def _write_manifest(folder: Path) -> Path:
    # Imported here, after the decorator above is in its place.
    from sigma_ser.demo import corpus_path

    speakers, labels = {"f1", "m1", "f4"}, {"angry", "neutral", "sad"}
    with (corpus_path() / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    words = sorted({row["text_id"] for row in rows})[:3]
    path = folder / "small.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "path", "label", "speaker", "text"])
        for row in rows:
            if row["speaker"] in speakers and row["label"] in labels and row["text_id"] in words:
                wave = (corpus_path() / row["path"]).resolve()
                writer.writerow([row["id"], wave, row["label"], row["speaker"], row["text_id"]])
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real corpora (`tess`, `ravdess-4class`); the test is skipped without it."""
    if not DATA.is_dir():
        pytest.skip(f"no real recordings in {DATA}; set SIGMA_SER_DATA to their folder")
    return DATA


@pytest.fixture(scope="session")
def whisper_folder() -> Path:
    """Folder of the real pretrained Whisper encoder; the test is skipped without it."""
    folder = DATA.parent / "weights" / "whisper-tiny-en-encoder"
    if not folder.is_dir():
        pytest.skip(f"no Whisper encoder in {folder}; set SIGMA_SER_DATA beside it")
    return folder
