"""A run's folder with damage: one sentence that names the file, or made anew; never a traceback."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import sigma_ser as ss
from sigma_ser.core.errors import DamagedError, RunError
from sigma_ser.core.progress import Silent
from sigma_ser.core.rows import TIMING_COLUMNS, read_rows
from sigma_ser.report.diff import compare_runs
from sigma_ser.report.inputs import load_inputs
from sigma_ser.runs.garbage import find_garbage
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.status import read_status
from sigma_ser.study.scheduler import read_failures

# What a hand, a full disk or another version may leave in place of a JSON file.
ODD = (
    "",
    "{",
    "[]",
    "{}",
    "[{}]",
    "3",
    "null",
    "[null]",
    "[" * 9999,
    '{"state": "running", "needs": {}, "stages": [3]}',
)


@pytest.fixture
def folder(finished: ss.Study, tmp_path: Path) -> Path:
    """A copy of a finished run, for one test to damage."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Change one bit in the middle, among the values."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("status.json", lambda folder: read_status(RunLayout(folder))),
        ("failures.json", lambda folder: read_failures(RunLayout(folder))),
        ("plan.json", lambda folder: find_garbage(RunLayout(folder))),
        ("victims.json", lambda folder: compare_runs(folder, folder)),
        ("environment.json", lambda folder: compare_runs(folder, folder)),
        ("study.json", lambda folder: compare_runs(folder, folder)),
        ("provenance.json", load_inputs),
    ],
)
def test_what_a_run_tells_of_itself_is_not_trusted(
    folder: Path, file: str, read: Callable[[Path], Any]
) -> None:
    read(folder)
    (folder / file).write_text("{}", "utf-8")
    if file not in ("status.json", "failures.json"):
        with pytest.raises(RunError, match=rf"{file} is damaged .*has changed since"):
            read(folder)
    # A run of an earlier version has no digests.
    shutil.rmtree(folder / "digests")
    messages = []
    for text in ODD:
        (folder / file).write_text(text, "utf-8")
        try:
            read(folder)
        except RunError as fault:
            messages.append(str(fault))
    assert len(messages) >= 2  # text that is no JSON always; an empty list or object may be right
    assert all("again" in one or "finish it" in one for one in messages)


@pytest.mark.parametrize("read", [load_inputs, lambda folder: compare_runs(folder, folder)])
def test_rows_that_are_cut_or_of_another_version(folder: Path, read: Callable[[Path], Any]) -> None:
    rows = folder / "rows.parquet"
    flip(rows)
    with pytest.raises(RunError, match=r"rows\.parquet is damaged .*has changed"):
        read(folder)
    # A run of an earlier version has no digests.
    shutil.rmtree(folder / "digests")
    pl.read_parquet(finished_rows(folder)).drop("attack_seed").write_parquet(rows)
    with pytest.raises(RunError, match=r"another version .* no column 'attack_seed'"):
        read(folder)
    cut(rows)
    with pytest.raises(RunError, match=r"rows\.parquet cannot be read"):
        read(folder)
    rows.unlink()
    with pytest.raises(RunError, match=r"rows\.parquet"):
        read(folder)


def finished_rows(folder: Path) -> list[Path]:
    """The parts that the rows were joined from."""
    return sorted(folder.glob("attacks/*/part-*.parquet"))


def test_what_was_joined_from_the_parts_is_joined_again(
    finished: ss.Study, folder: Path, small_study: dict[str, Any]
) -> None:
    flip(folder / "rows.parquet")
    (folder / "rows.json").write_text("[]", "utf-8")
    flip(folder / "report" / "index.html")
    mended = ss.run(small_study, out=folder)
    assert_frame_equal(mended.rows, finished.rows)
    names = ["rows.json", "rows.parquet", "report/index.html"]
    assert [one["file"] for one in mended.repairs] == names
    page = mended.report.read_text("utf-8")
    assert "Damaged files that were made again" in page
    # The list stays, and a call without damage adds nothing.
    assert len(ss.run(small_study, out=folder).repairs) == 3


# One file of each kind that later tasks read.
ARTEFACTS = (
    "features/*/shards/*.safetensors",
    "victims/linear-*/victim.safetensors", "victims/mlp-*/card.json", "gradients/*/check.json",
    "saliency/done/*/*.json", "saliency/*/part-*.safetensors", "universal/*/map.safetensors",
    "floors/*/*.safetensors", "attacks/*/perturbations-*.safetensors", "attacks/*/part-*.parquet",
)  # fmt: skip


@pytest.fixture(scope="module")
def every_kind(study_values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> ss.Study:
    """A finished run that has an artefact of every kind."""
    values = study_values | {"attacks": [
        {"name": "oneshot", "explainers": ["gradient"], "mask_sources": ["own", "universal"]}
    ]}  # fmt: skip
    values["evaluation"] = {"batch_size": 4, "exemplars": 0, "replay": True}
    return ss.run(values, out=tmp_path_factory.mktemp("kinds") / "run")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flip", "cut", "unlink"])
def test_damage_of_every_kind_is_named_made_again_and_counted(
    every_kind: ss.Study, damage: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(every_kind.folder, tmp_path / "run"))
    hurt = [next(folder.glob(pattern)) for pattern in ARTEFACTS]
    for path in hurt:
        {"flip": flip, "cut": cut, "unlink": Path.unlink}[damage](path)
    shutil.rmtree(folder / "replays")
    noted = Noted()
    values = every_kind.config.model_dump(mode="json", exclude_none=True)
    mended = ss.run(values, out=folder, progress=noted)
    assert read_status(RunLayout(folder))["state"] == "finished"
    assert_frame_equal(mended.rows.drop(TIMING_COLUMNS), every_kind.rows.drop(TIMING_COLUMNS))
    assert every_kind.replays is not None
    assert mended.replays is not None
    assert_frame_equal(mended.replays, every_kind.replays)
    repaired = {one["file"] for one in mended.repairs}
    if damage != "unlink":
        # Files that no task needed any more were found as well, because all were read then.
        assert {path.relative_to(folder).as_posix() for path in hurt} <= repaired
    assert all(any(name in line for line in noted.lines) for name in repaired)


class Noted(Silent):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)


def test_a_file_that_stays_damaged_ends_the_run_with_its_name(
    folder: Path, small_study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(folder / "rows.parquet")
    monkeypatch.setattr("sigma_ser.runs.repairs.remove", lambda path: None)
    with pytest.raises(DamagedError, match=r"rows\.parquet is damaged .* run again"):
        ss.run(small_study, out=folder)
    assert read_status(RunLayout(folder))["state"] == "failed"


def test_a_run_of_an_earlier_version_gets_its_digests(
    folder: Path, small_study: dict[str, Any], finished: ss.Study
) -> None:
    # Every file of this version has one.
    before = Noted()
    ss.run(small_study, out=folder, progress=before)
    assert not any("digest" in line for line in before.lines)
    shutil.rmtree(folder / "digests")
    noted = Noted()
    assert_frame_equal(ss.run(small_study, out=folder, progress=noted).rows, finished.rows)
    assert any("had no digest and were taken as they are" in line for line in noted.lines)
    flip(folder / "rows.parquet")
    assert [one["file"] for one in ss.run(small_study, out=folder).repairs] == ["rows.parquet"]


@pytest.mark.parametrize(
    ("name", "damage"), [("store.json", Path.unlink), ("store.json", flip), ("index.parquet", flip)]
)
def test_features_whose_card_or_index_is_damaged_are_extracted_again(
    folder: Path,
    small_study: dict[str, Any],
    finished: ss.Study,
    name: str,
    damage: Callable[[Path], None],
) -> None:
    path = next(folder.glob(f"features/*/{name}"))
    whole = path.read_bytes()
    damage(path)
    mended = ss.run(small_study, out=folder)
    assert_frame_equal(mended.rows, finished.rows)
    assert [Path(one["file"]).name for one in mended.repairs] == [name]
    assert path.read_bytes() == whole


def test_a_file_of_rows_is_read_by_its_name_and_no_pattern(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the file does not exist"):
        read_rows(tmp_path / "*.parquet")
    odd = tmp_path / "a[1]"
    odd.mkdir()
    pl.DataFrame({"utterance": ["a"]}).write_parquet(odd / "rows.parquet")
    with pytest.raises(RunError, match="another version"):
        read_rows(odd / "rows.parquet")
