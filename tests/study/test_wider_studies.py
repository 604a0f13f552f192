"""Studies over several encoders, over all layers of one, and with a hardened victim."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from safetensors.torch import load_file

import sigma_ser as ss
from sigma_ser.encoders.source import EMBEDDED
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.victims.checkpoint import TrainedVictim


@pytest.fixture
def quick(small_study: dict[str, Any]) -> dict[str, Any]:
    """One linear victim, four utterances, no consistency."""
    return small_study | {
        "victims": [{"head": "linear", "epochs": 2}],
        "consistency": {"explainer": None},
        "evaluation": {"batch_size": 4, "utterances": 4, "exemplars": 0},
    }


def test_frame_masks_cross_from_one_encoder_to_another_and_training_hardens(
    quick: dict[str, Any], tmp_path: Path
) -> None:
    other = str(shutil.copytree(EMBEDDED["demo"], tmp_path / "other"))
    hardened = {"attack": "oneshot", "sparsity": 0.05, "epsilon": 1.0}
    study = ss.run(
        quick
        | {
            "encoder": [{"name": "demo", "layer": 1}, {"name": other, "layer": 2}],
            "victims": [
                *quick["victims"],
                {"head": "linear", "name": "hard", "epochs": 2, "adversarial": hardened},
            ],
            "budgets": {"sparsity": [0.05], "granularity": ["frame"]},
            "attacks": [
                {
                    "name": "random",
                    "native": False,
                    "explainers": ["gradient"],
                    "mask_sources": ["own", "linear@demo:1"],
                }
            ],
            # Keeps what was changed.
            "evaluation": quick["evaluation"] | {"replay": True},
        },
        out=tmp_path / "run",
    )
    assert study.failures == []
    cells = study.rows.select("encoder", "victim", "mask_source").unique().rows()
    assert set(cells) == {
        ("demo", "linear", "own"), ("demo", "hard", "own"),
        (other, "linear", "own"), (other, "hard", "own"),
        (other, "linear", "linear@demo:1"), (other, "hard", "linear@demo:1"),
    }  # fmt: skip

    source = _victim(study, "linear", 1)
    plain, hard = _victim(study, "linear", 2), _victim(study, "hard", 2)
    assert plain.fingerprint != hard.fingerprint

    store = _store(study, 1)
    frames = 0
    for cell in (study.folder / "attacks").iterdir():
        rows = pl.read_parquet(cell / "part-00000.parquet")
        if rows["mask_source"][0] != "linear@demo:1":
            continue
        changed = load_file(cell / "perturbations-00000.safetensors")
        for name in rows.filter("correct_before")["utterance"]:
            batch = store.batch([name])
            result = ss.explain("gradient", source, batch, store.labels([name]))[0]
            scores = (result.abs() * source.scale).sum(1)
            moved = (changed[f"{name}/places"] // _store(study, 2).dim).unique().long()
            # The strongest frames of the source's map, as nearly as the bank's float16 tells them.
            least = scores.topk(max(1, int(0.05 * len(scores)))).values.min()
            assert (scores[moved] >= 0.99 * least).all()
            frames += len(moved)
    assert frames > 0


def test_all_layers_are_attacked_as_the_sum_that_the_victim_receives(
    quick: dict[str, Any], tmp_path: Path
) -> None:
    quick["encoder"] = {"name": "demo", "layer": "all"}
    attack = {"name": "dual-averaging", "steps": 2, "explainers": ["gradient"], "scopes": [4]}
    study = ss.run(quick | {"attacks": [attack]}, out=tmp_path / "run")
    assert study.failures == []
    assert set(study.rows["layer"]) == {"all"}
    assert set(study.rows["mask_source"]) == {None, "own"}
    store = _store(study, "all")
    frames = dict(zip(store.ids, store.lengths(store.ids).tolist(), strict=True))
    # A budget counts the elements of one sum, not those of all layers side by side.
    for row in study.rows.iter_rows(named=True):
        elements = frames[row["utterance"]] * store.dim // store.layers
        assert row["budget_elements"] == max(1, int(row["sparsity"] * elements + 1e-9))
    abroad = attack | {"mask_sources": ["linear"]}
    with pytest.raises(ss.errors.ConfigError, match="use mask_sources"):
        ss.run(quick | {"attacks": [abroad]}, out=tmp_path / "run")


def _store(study: ss.Study, layer: int | str) -> FeatureStore:
    stores = [FeatureStore(folder) for folder in (study.folder / "features").iterdir()]
    return next(store for store in stores if store.card["encoder"]["layer"] == layer)


def _victim(study: ss.Study, name: str, layer: int) -> TrainedVictim:
    (found,) = [
        victim
        for victim in map(TrainedVictim.load, (study.folder / "victims").iterdir())
        if victim.card.encoder["layer"] == layer
        and ("adversarial" in victim.card.training) == (name == "hard")
    ]
    return found
