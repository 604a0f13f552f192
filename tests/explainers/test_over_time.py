"""Explanations of features over the samples of the waveform."""

from __future__ import annotations

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.explainers.over_time import OverTime, laid_over_time


def test_samples_have_the_score_of_their_frame_and_the_rest_that_of_the_last() -> None:
    scores = torch.tensor([[3.0, 1.0, 9.0], [2.0, 5.0, 4.0]])
    laid = laid_over_time(scores, torch.tensor([2, 3]), torch.tensor([5, 7]), 2)
    expected = [[3, 3, 1, 1, 1, 0, 0], [2, 2, 5, 5, 4, 4, 4]]
    assert laid[:, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("frames", "samples", "hop"), [([0], [4], 2), ([3], [4], 2), ([2], [0], 2), ([2], [4], 0)]
)
def test_numbers_out_of_range_are_named(frames: list[int], samples: list[int], hop: int) -> None:
    with pytest.raises(ShapeError):
        laid_over_time(torch.ones(1, 2), torch.tensor(frames), torch.tensor(samples), hop)


@pytest.fixture(scope="module")
def heard() -> tuple[ss.Encoder, ss.Victim, ss.Victim, ss.FeatureBatch]:
    """An encoder, a head on its features, both as one victim, and two recordings."""
    encoder = ss.load_encoder("demo")
    corpus = ss.load_corpus("demo")
    waves = ss.waveforms(corpus, [corpus.utterances[place].id for place in (0, 40)])

    class MeanPool(torch.nn.Linear):
        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            return super().forward(x.sum(1) / lengths[:, None])

    torch.manual_seed(0)
    head = ss.wrap(MeanPool(encoder.dim, 4).eval(), scale=torch.rand(encoder.dim) + 0.5)
    return encoder, head, ss.on_waveform(encoder, head), waves


@pytest.mark.parametrize("name", ["gradient", "input-x-gradient"])
def test_the_map_is_that_of_the_extracted_features(
    heard: tuple[ss.Encoder, ss.Victim, ss.Victim, ss.FeatureBatch], name: str
) -> None:
    encoder, head, whole, waves = heard
    labels = whole(waves.x, waves.lengths).argmax(1)
    found = ss.explain(OverTime(name), whole, waves, labels)[:, :, 0]
    hop = round(encoder.frame_seconds * 16_000)
    for row, size in enumerate(waves.lengths.tolist()):
        (alone,) = encoder.encode([waves.x[row, :size, 0].numpy()])
        features = ss.FeatureBatch(torch.as_tensor(alone)[None], torch.tensor([len(alone)]))
        saliency = ss.explain(name, head, features, labels[row : row + 1])[0].abs()
        scores = (saliency * head.scale if name == "gradient" else saliency).sum(1)
        starts = found[row, : len(scores) * hop : hop]
        torch.testing.assert_close(starts, scores[: len(starts)], rtol=1e-3, atol=1e-5)
        assert not found[row, size:].any()


def test_a_mask_holds_the_best_frames_whole_and_exactly_its_share(
    heard: tuple[ss.Encoder, ss.Victim, ss.Victim, ss.FeatureBatch],
) -> None:
    encoder, _, whole, waves = heard
    labels = whole(waves.x, waves.lengths).argmax(1)
    sigma = ss.Sigma(OverTime("gradient"), "oneshot", scope=2)
    explained = sigma.explain(whole, waves, labels)
    budget = ss.Budget(sparsity=0.05, epsilon=0.01)
    mask = sigma.mask(explained, whole, waves, budget)[:, :, 0]
    hop = round(encoder.frame_seconds * 16_000)
    wanted = 2 * budget.elements(waves.lengths, 1)
    for row, size in enumerate(waves.lengths.tolist()):
        assert int(mask[row].sum()) == int(wanted[row])
        whole_hops = mask[row, : size // hop * hop].view(-1, hop).float().mean(1)
        assert int(((whole_hops > 0) & (whole_hops < 1)).sum()) <= 2
    result = sigma(whole, waves, labels, budget)
    assert not (result.x_adv != waves.x)[:, :, 0][~mask].any()


def test_a_victim_without_an_encoder_is_refused() -> None:
    victim = ss.wrap(torch.nn.Identity().eval())
    batch = ss.FeatureBatch(torch.zeros(1, 4, 3), torch.tensor([4]))
    with pytest.raises(ExplainerError, match="on_waveform"):
        ss.explain(OverTime("gradient"), victim, batch, torch.tensor([0]))
