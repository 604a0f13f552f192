"""Heads on all layers: a learned and frozen weighted sum; the forward pass of SUPERB by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core.files import file_digest, write_json
from sigma_ser.corpora.folds import Fold
from sigma_ser.encoders.index import CARD, INDEX, IndexRow, shard_path, table_of, write_index
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.victims.layers import LayerSum, layer_covariance, weighted_batch, weighted_sum

LAYERS, WIDTH, CLASSES = 3, 6, ("angry", "neutral", "sad")


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A store of three hidden states, of which only the second separates the classes."""
    folder = tmp_path_factory.mktemp("all")
    rng = torch.Generator().manual_seed(4)
    entries, blocks, offset = [], [], 0
    for number in range(60):
        label, frames = number % 3, int(torch.randint(4, 9, (), generator=rng))
        x = (
            torch.randn(frames, LAYERS, WIDTH, generator=rng)
            * torch.tensor([1.0, 2.0, 4.0])[:, None]
        )
        x[:, 1, label] += 4
        entries.append(IndexRow(f"u{number:02d}", label, 0, offset, frames, 320 * frames))
        blocks.append((x + 1).flatten(1))
        offset += frames
    path = shard_path(folder, 0)
    path.parent.mkdir()
    from safetensors.torch import save_file

    save_file({"features": torch.cat(blocks)}, path)
    write_index(folder / INDEX, [table_of(entries)], {0: file_digest(path)})
    encoder: dict[str, Any] = {"name": "toy", "layer": "all", "layers": LAYERS - 1, "weights": "w",
                               "dim": LAYERS * WIDTH, "frame_seconds": 0.02}  # fmt: skip
    corpus = {"name": "toy", "key": "k", "labels": CLASSES}
    write_json(folder / CARD, {"format": 1, "corpus": corpus, "encoder": encoder,
                               "encoder_key": "e", "dtype": "float32", "shards": 1,
                               "shard_size": 100})  # fmt: skip
    return FeatureStore(folder)


@pytest.fixture(scope="module")
def fold(every: FeatureStore) -> Fold:
    return Fold("toy", every.ids[:36], every.ids[36:48], every.ids[48:])


@pytest.fixture(scope="module")
def victim(every: FeatureStore, fold: Fold):
    return ss.train(every, fold, "superb", epochs=12, batch_size=6, learning_rate=3e-2)


def test_the_largest_weight_is_that_of_the_informative_layer(victim) -> None:
    weights = victim.layer_weights
    assert weights.sum() == pytest.approx(1)
    assert weights.argmax() == 1
    assert weights[1] > 0.4
    assert victim.card.metrics["test"]["uar"] > 0.6


def test_the_superb_head_is_the_forward_pass_of_its_paper(victim, every, fold) -> None:
    """Computed for each frame and utterance from the saved weights."""
    state = victim.module.state_dict()
    batch = every.batch(fold.test)
    summed = weighted_batch(batch, victim.layer_weights)
    logits = victim(summed.x, summed.lengths)
    for row, length in enumerate(batch.lengths.tolist()):
        total = torch.zeros(256, dtype=torch.double)
        for frame in batch.x[row, :length].double():
            states = frame.view(LAYERS, WIDTH)
            mixed = sum(w * s for w, s in zip(victim.layer_weights.double(), states, strict=True))
            standard = (mixed - state["mean"].double()) / state["scale"].double()
            total += state["head.project.weight"].double() @ standard
            total += state["head.project.bias"].double()
        expected = state["head.classify.weight"].double() @ (total / length)
        expected += state["head.classify.bias"].double()
        torch.testing.assert_close(logits[row].double(), expected, atol=1e-5, rtol=1e-5)


def test_the_surface_is_the_same_through_store_and_batch(victim, every, fold) -> None:
    features = victim.view(every)
    from_store = features.batch(fold.test)
    assert from_store.x.shape[2] == WIDTH == victim.card.channels
    torch.testing.assert_close(
        from_store.x, weighted_batch(every.batch(fold.test), victim.layer_weights).x
    )
    # Mean and scale are those of the sum over the training part.
    statistics = features.statistics(fold.train)
    torch.testing.assert_close(victim.mean, statistics.mean)
    torch.testing.assert_close(victim.scale, statistics.std)
    # The view of a store that is weighted already is the store itself.
    assert victim.view(features) is features
    with pytest.raises(ss.errors.VictimError, match="another encoder"):
        victim.view(every.weighted(torch.tensor([0.2, 0.3, 0.5])))
    with pytest.raises(ss.errors.ShapeError, match="18"):
        victim(every.batch(fold.test).x, every.lengths(fold.test))


def test_a_loaded_victim_has_the_same_view_of_a_store(victim, every, fold, tmp_path: Path) -> None:
    loaded = ss.load_victim(victim.save(tmp_path / "victim"))
    assert torch.equal(loaded.layer_weights, victim.layer_weights)
    batch = loaded.view(every).batch(fold.test)
    assert torch.equal(loaded(batch.x, batch.lengths), victim(batch.x, batch.lengths))


def test_the_spread_of_the_sum_follows_from_the_covariance(every, fold) -> None:
    mean = every.statistics(fold.train).mean
    layers = LayerSum(mean, layer_covariance(every, fold.train, mean))
    layers.scores.data = torch.tensor([0.3, -1.0, 0.8])
    own_mean, deviation = layers.moments()
    statistics = every.weighted(layers.weights.detach()).statistics(fold.train)
    torch.testing.assert_close(own_mean, statistics.mean)
    torch.testing.assert_close(deviation, statistics.std)


def test_channels_that_are_not_a_multiple_of_the_layers_are_refused() -> None:
    with pytest.raises(ss.errors.ShapeError, match="7 channels cannot hold 3"):
        weighted_sum(torch.zeros(1, 2, 7), torch.ones(3))


@pytest.mark.slow
def test_any_head_learns_the_sum_also_under_attack(every, fold) -> None:
    from sigma_ser.victims.settings import AdversarialTraining

    plan = AdversarialTraining(
        attack=ss.make_attack("dual-averaging", steps=2),
        budget=ss.Budget(sparsity=0.1, epsilon=1.0),
    )
    victim = ss.train(
        every, fold, "mlp", epochs=4, adversarial=plan, learning_rate=1e-2,
        head_settings={"hidden": 8},
    )  # fmt: skip
    assert len(victim.layer_weights) == LAYERS
    assert len(set(victim.layer_weights.tolist())) == LAYERS
    described = victim.card.training["adversarial"]
    assert described["attack"].startswith("DualAveraging(steps=2")
    assert (described["sparsity"], described["epsilon"], described["share"]) == (0.1, 1.0, 0.5)
