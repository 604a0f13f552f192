"""Studies on a device, tried on the stand-in for an accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sigma_ser as ss
from sigma_ser.testing.accelerator import accelerator


@pytest.mark.slow
@pytest.mark.parametrize("surface", ["features", "waveform"])
def test_a_study_on_a_device_has_the_rows_of_the_cpu(
    surface: str, small_study: dict[str, Any], tmp_path: Path
) -> None:
    small_study |= {
        "surface": [surface],
        "attacks": [
            {
                "name": "dual-averaging", "steps": 2, "explainers": ["gradient"], "scopes": [4],
                "mask_sources": ["own", "universal"],
            },
        ],
        "evaluation": {"batch_size": 4, "exemplars": 1, "utterances": 2},
    }  # fmt: skip
    if surface == "features":
        small_study["certificates"] = [{}]
        small_study["evaluation"]["replay"] = True
    else:
        small_study["victims"] = small_study["victims"][:1]
        small_study["attacks"][0]["mask_sources"] = ["own", "features"]
        small_study["corruptions"] = [{"name": "white-noise", "snr": 20}]
    expected = ss.run(small_study, out=tmp_path / "cpu")
    small_study["evaluation"]["device"] = "cuda"
    with accelerator():
        found = ss.run(small_study, out=tmp_path / "device")
    assert not found.failures
    timed = [name for name in found.rows.columns if name.endswith("seconds")]
    order = ["victim", "attack", "mask_source", "utterance"]
    one, two = (study.rows.drop(timed).sort(order) for study in (expected, found))
    assert one.equals(two)
    # Results of the two devices are never taken for each other.
    assert {path.name for path in found.layout.folder.glob("attacks/*")}.isdisjoint(
        path.name for path in expected.layout.folder.glob("attacks/*")
    )
    assert [one["recalls"] for one in found.victims] == [one["recalls"] for one in expected.victims]
