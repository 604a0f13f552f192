"""Studies on features that are there already, with and without a corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from polars.testing import assert_frame_equal

import sigma_ser as ss
from sigma_ser.core.rows import TIMING_COLUMNS


@pytest.fixture(scope="module")
def store(finished: ss.Study) -> Path:
    """The features of the finished run."""
    (folder,) = finished.layout.folder.glob("features/*")
    return folder


def test_a_store_in_place_of_the_encoder_gives_the_same_rows(
    finished: ss.Study, small_study: dict[str, Any], store: Path, tmp_path: Path
) -> None:
    del small_study["encoder"]
    study = ss.run(small_study | {"features": {"store": str(store)}}, out=tmp_path / "run")
    assert_frame_equal(study.rows.drop(TIMING_COLUMNS), finished.rows.drop(TIMING_COLUMNS))
    assert not (study.folder / "features").exists()


def test_a_store_alone_serves_a_victim_that_is_loaded(
    finished: ss.Study, small_study: dict[str, Any], store: Path, tmp_path: Path
) -> None:
    victim = next(finished.folder.glob("victims/linear-*"))
    names = finished.rows["utterance"].unique(maintain_order=True).to_list()
    values = {
        "name": "alone",
        "features": {"store": str(store)},
        "victims": [{"load": str(victim), "name": "linear"}],
        "explainers": small_study["explainers"],
        "consistency": small_study["consistency"],
        "attacks": [{"name": "dual-averaging", "steps": 3}],
        "evaluation": {"ids": names, "batch_size": 4},
        "executor": {"name": "inline"},
    }
    study = ss.run(values, out=tmp_path / "run")
    same = ["utterance", "success", "l0", "steps", "forwards", "topk_intersection"]
    condition = {"victim": "linear", "attack": "dual-averaging", "explainer": None}
    wanted = finished.rows
    for name, value in condition.items():
        wanted = wanted.filter(wanted[name].eq_missing(value))
    assert_frame_equal(study.rows.select(same), wanted.select(same))
    assert list(study.folder.glob("exemplars/*")) == []  # there are no recordings to play


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"victims": [{"head": "linear"}]}, "a head needs a corpus"),
        ({"encoder": {"name": "demo"}}, "not both"),
        ({"features": None}, "the key 'corpus' is missing"),
        ({"evaluation": {"ids": ["nobody"]}}, "'nobody'"),
    ],
)
def test_what_is_missing_or_too_much_is_named(
    store: Path, tmp_path: Path, finished: ss.Study, changes: dict[str, Any], expected: str
) -> None:
    victim = next(finished.folder.glob("victims/linear-*"))
    values = {
        "name": "alone",
        "features": {"store": str(store)},
        "victims": [{"load": str(victim)}],
        "attacks": [{"name": "oneshot"}],
        "executor": {"name": "inline"},
    }
    with pytest.raises(ss.SigmaError, match=expected):
        ss.run(values | changes, out=tmp_path / "run")
    assert not (tmp_path / "run" / "rows.parquet").exists()
