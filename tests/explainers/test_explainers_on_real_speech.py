"""Deletion test on victims trained on real speech, with a displaced map as control."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.evaluate.quality.curves import area, deletion
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.explainers.ranking import ranking_scale, ranking_scores

# The head that an explainer is tested on; the others are tested on attention pooling.
_HEADS = {"grad-cam": "cnn", "deeplift": "cnn", "deeplift-shap": "cnn", "guided-backprop": "mlp"}


@pytest.fixture(scope="module")
def case(real_data: Path, tmp_path_factory: pytest.TempPathFactory):
    """By head: a trained victim, and correctly classified utterances of words not trained on."""
    whole = ss.load_corpus("tess", real_data / "tess")
    words = sorted({one.text_id for one in whole.utterances})[::10]
    chosen = tuple(one for one in whole.utterances if one.text_id in words)
    corpus = dataclasses.replace(whole, utterances=chosen)
    store = ss.extract(corpus, ss.load_encoder("demo"), tmp_path_factory.mktemp("tess"))
    fold = ss.make_folds(corpus, "text-kfold", folds=4)[0]

    @cache
    def ask(head: str):
        victim = ss.train(store, fold, head=head, seed=0, epochs=10)
        batch, labels = store.batch(fold.test), store.labels(fold.test)
        right = (victim(batch.x, batch.lengths).argmax(1) == labels).nonzero()[:, 0]
        assert len(right) >= 0.6 * len(labels)  # chance: 1/7
        rows = right[:: len(right) // 12][:12]
        return victim, batch.select(rows), labels[rows]

    return ask


def displaced(scores: torch.Tensor, lengths: torch.Tensor, seed: int) -> torch.Tensor:
    """The same map with its frames and its channels in a random order.

    A random map would be no control for one that marks whole frames: deleting frames leaves
    the others as they are, deleting as many single elements touches all of them.
    """
    rng = torch.Generator().manual_seed(seed)
    moved = scores.clone()
    for row, length in enumerate(lengths.tolist()):
        frames = torch.randperm(length, generator=rng)
        channels = torch.randperm(scores.shape[2], generator=rng)
        moved[row, :length] = scores[row, frames][:, channels]
    return moved


# The variance of the gradient is large where the victim is non-linear, not where the class is.
@pytest.mark.real
@pytest.mark.parametrize("name", sorted(set(registry.names("explainer")) - {"random", "vargrad"}))
def test_salient_elements_carry_the_class(name, case):
    """Deletion by the map lowers the probability faster than by the displaced map."""
    victim, batch, labels = case(_HEADS.get(name, "attention"))
    explainer = make_explainer(name)
    explained = explanation(explainer, victim, batch, labels)
    scale = ranking_scale(explainer.kind, victim, batch)
    scores = ranking_scores(explained.saliency, batch.lengths, scale=scale)

    def left(scores: torch.Tensor) -> float:
        return float(area(deletion(victim, batch, labels, scores, steps=8, upto=0.5)).mean())

    elsewhere = [left(displaced(scores, batch.lengths, seed)) for seed in range(3)]
    assert left(scores) < min(elsewhere)
