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
from sigma_ser.core.errors import RunError
from sigma_ser.core.rows import TIMING_COLUMNS, read_rows
from sigma_ser.report.inputs import load_inputs
from sigma_ser.runs.garbage import find_garbage
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.status import read_status
from sigma_ser.study.diff import compare_runs
from sigma_ser.study.scheduler import read_failures

# What a hand, a full disk or another version may leave in place of a JSON file.
ODD = ("", "{", "[]", "{}", "[{}]", "3", '{"state": "running", "needs": {}, "stages": [3]}')


@pytest.fixture
def folder(finished: ss.Study, tmp_path: Path) -> Path:
    """A copy of a finished run, for one test to damage."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


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
    result = []
    for text in ODD:
        (folder / file).write_text(text, "utf-8")
        try:
            read(folder)
        except RunError as fault:
            result.append(str(fault))
    assert len(result) >= 2  # text that is no JSON always; an empty list or object may be right
    assert all("again" in one or "finish it" in one for one in result)


@pytest.mark.parametrize("read", [load_inputs, lambda folder: compare_runs(folder, folder)])
def test_rows_that_are_cut_or_of_another_version(folder: Path, read: Callable[[Path], Any]) -> None:
    rows = folder / "rows.parquet"
    pl.read_parquet(rows).drop("attack_seed").write_parquet(rows)
    with pytest.raises(RunError, match=r"another version .* no column 'attack_seed'"):
        read(folder)
    cut(rows)
    with pytest.raises(RunError, match=r"rows\.parquet cannot be read"):
        read(folder)
    rows.unlink()
    with pytest.raises(RunError, match=r"rows\.parquet"):
        read(folder)


def test_a_run_makes_its_cut_rows_anew(
    finished: ss.Study, folder: Path, small_study: dict[str, Any]
) -> None:
    cut(folder / "rows.parquet")
    assert_frame_equal(ss.run(small_study, out=folder).rows, finished.rows)
    (folder / "rows.json").write_text("[]", "utf-8")
    assert_frame_equal(ss.run(small_study, out=folder).rows, finished.rows)


@pytest.mark.parametrize(
    "pattern",
    ["victims/*/timing.json", "victims/*/card.json", "floors/*/*.safetensors",
     "saliency/done/*/*.json"],
)  # fmt: skip
def test_a_damaged_artefact_is_named_with_what_to_do(
    folder: Path, small_study: dict[str, Any], pattern: str
) -> None:
    if not pattern.startswith("victims"):  # these are read at the end as well
        shutil.rmtree(folder / "attacks")
    for path in folder.glob(pattern):
        cut(path)
    with pytest.raises(RunError, match=r"is damaged .* delete .* run again") as result:
        ss.run(small_study, out=folder)
    assert read_status(RunLayout(folder))["state"] == "failed"
    named = Path(str(result.value).split(" is damaged")[0])
    assert named.match(pattern)


def test_a_victim_that_was_cut_is_trained_again_as_the_advice_says(
    folder: Path, finished: ss.Study, small_study: dict[str, Any]
) -> None:
    weights = cut(next(folder.glob("victims/*/victim.safetensors")))
    shutil.rmtree(folder / "attacks")
    with pytest.raises(RunError, match=rf"delete the folder {weights.parent} and run again"):
        ss.run(small_study, out=folder)
    shutil.rmtree(weights.parent)
    mended = ss.run(small_study, out=folder)
    assert_frame_equal(mended.rows.drop(TIMING_COLUMNS), finished.rows.drop(TIMING_COLUMNS))


def test_damaged_perturbations_and_rows_come_back_as_the_advice_says(
    folder: Path, small_study: dict[str, Any]
) -> None:
    small_study["attacks"] = small_study["attacks"][:1]
    small_study["evaluation"] |= {"replay": True, "exemplars": 0}
    whole = ss.run(small_study, out=folder)
    replays = whole.replays
    assert replays is not None
    hurt = cut(next(folder.glob("attacks/*/perturbations-*.safetensors")))
    cell = hurt.parent
    shutil.rmtree(folder / "replays")
    # The rows are there, so the attack would not run again if this file alone were deleted.
    with pytest.raises(
        RunError, match=r"perturbations.* damaged .* delete the rows beside it"
    ) as result:
        ss.run(small_study, out=folder)
    (rows,) = cell.glob("part-*.parquet")
    assert rows.name in str(result.value)
    cut(rows)
    with pytest.raises(RunError, match=rf"{rows.name} is damaged .* delete it and run again"):
        ss.run(small_study, out=folder)
    rows.unlink()
    mended = ss.run(small_study, out=folder)
    assert_frame_equal(mended.rows.drop(TIMING_COLUMNS), whole.rows.drop(TIMING_COLUMNS))
    assert mended.replays is not None
    assert_frame_equal(mended.replays, replays)


def test_a_file_of_rows_is_read_by_its_name_and_no_pattern(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="the file does not exist"):
        read_rows(tmp_path / "*.parquet")
    odd = tmp_path / "a[1]"
    odd.mkdir()
    pl.DataFrame({"utterance": ["a"]}).write_parquet(odd / "rows.parquet")
    with pytest.raises(RunError, match="another version"):
        read_rows(odd / "rows.parquet")
