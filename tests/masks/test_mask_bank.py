"""The mask bank against `topk_mask`, between processes, and with damaged files."""

from __future__ import annotations

import pytest
import torch

from sigma_ser.core.budget import GRANULARITIES, Budget
from sigma_ser.core.errors import ExplainerError, StoreError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.masks.bank import MaskBank
from sigma_ser.masks.topk import topk_mask
from sigma_ser.victims.victim import wrap

SCALE = torch.tensor([0.1, 3.0, 1.0, 0.5, 2.0])


class Curved(torch.nn.Module):
    """Counts its calls, so that a second explanation is detected."""

    calls = 0

    def forward(self, x, lengths):
        self.calls += len(x)
        valid = torch.arange(x.shape[1])[None, :] < lengths[:, None]
        weight = torch.linspace(-1, 2, 15).view(5, 3)
        return (torch.sin(x @ weight) * valid[:, :, None]).sum(1)


@pytest.fixture
def victim():
    return wrap(Curved().eval(), scale=SCALE)


@pytest.fixture
def batch():
    x = torch.randn(3, 13, 5, generator=torch.Generator().manual_seed(0))
    return FeatureBatch(x, torch.tensor([13, 6, 9]), ["a", "b", "c"])


LABELS = torch.tensor([0, 2, 1])


def bank_of(path, victim, name="gradient", **settings):
    return MaskBank(path, make_explainer(name), victim, features="f", fingerprint="v", **settings)


@pytest.mark.parametrize("name", ["gradient", "integrated-gradients"])
def test_masks_equal_those_of_the_map_which_is_computed_once(tmp_path, victim, batch, name):
    bank = bank_of(tmp_path, victim, name)
    bank.fill(batch, LABELS)
    calls = victim.module.calls
    for granularity in GRANULARITIES:
        for sparsity in (0.01, 0.2, 1.0):
            budget = Budget(sparsity=sparsity, granularity=granularity, segment_frames=3)
            for scope in (1, 3, 50):
                expected = topk_mask(bank.scores(batch, LABELS), batch.lengths, budget, scope)
                assert torch.equal(bank.mask(batch, LABELS, budget, scope), expected)
    assert victim.module.calls == calls
    direct = explanation(name, victim, batch, LABELS)
    stored = bank.explain(batch, LABELS)
    scale = SCALE if name == "gradient" else 1.0
    rounding = (direct.saliency * scale).abs().amax((1, 2), keepdim=True) * 2**-11
    assert bool((((stored.saliency - direct.saliency) * scale).abs() <= rounding).all())
    assert stored.forwards.tolist() == direct.forwards.tolist()
    assert stored.backwards.tolist() == direct.backwards.tolist()
    assert (stored.completeness is None) == (direct.completeness is None)


def test_what_is_read_is_what_was_written(tmp_path, victim, batch):
    """Law: a run that fills the bank and a run that reads it get the same numbers."""
    first = bank_of(tmp_path, victim).explain(batch, LABELS)
    again = bank_of(tmp_path, victim)
    assert len(again) == 3
    calls = victim.module.calls
    order = torch.tensor([2, 0])
    second = again.explain(batch.select(order), LABELS[order])
    assert torch.equal(second.saliency[1], first.saliency[0])
    assert torch.equal(second.saliency[0, :9], first.saliency[2, :9])
    assert victim.module.calls == calls


def test_maps_of_a_second_process_are_used_and_nothing_is_explained_twice(tmp_path, victim, batch):
    one, other = bank_of(tmp_path, victim), bank_of(tmp_path, victim)
    assert one.fill(batch.select(torch.tensor([0])), LABELS[:1]) == 1
    assert other.fill(batch, LABELS) == 2
    assert one.fill(batch, LABELS) == 0
    assert one.fill(batch, torch.tensor([1, 2, 1])) == 1  # another class of the first utterance


def test_two_bytes_an_element(tmp_path, victim):
    x = torch.randn(4, 400, 5)
    bank = bank_of(tmp_path, victim)
    bank.fill(FeatureBatch(x, torch.full((4,), 400)), torch.zeros(4, dtype=torch.long))
    assert bank.bytes_on_disk < 4 * (400 * 5 * 2 + 700)


def test_the_key_contains_everything_that_determines_a_map(tmp_path, victim, batch):
    def key(**changed):
        given = {"features": "f", "fingerprint": "v", "seed": None, **changed}
        explainer = given.pop("explainer", make_explainer("gradient"))
        return MaskBank(tmp_path, explainer, victim, **given).key

    references = batch.select(torch.tensor([1]))
    keys = {
        key(),
        key(features="g"),
        key(fingerprint="w"),
        key(seed=1),
        key(explainer=make_explainer("gradient", output="margin")),
        key(explainer=make_explainer("integrated-gradients")),
        key(explainer=make_explainer("integrated-gradients", steps=8)),
        key(explainer=make_explainer("expected-gradients")),
        key(explainer=make_explainer("expected-gradients", references=references)),
    }
    assert len(keys) == 9
    assert key() == key()


def test_ties_at_float16_are_taken_by_position(tmp_path):
    """Two elements that are equal in float16 rank by position."""

    class Weighted(torch.nn.Module):
        def forward(self, x, lengths):
            score = (x * torch.tensor([1.0, 1.0 + 1e-5, -1.0 - 2e-5, 0.25])).sum((1, 2))
            return torch.stack([score, -score], 1)

    bank = bank_of(tmp_path, wrap(Weighted().eval()))
    one = FeatureBatch(torch.zeros(1, 2, 4), torch.tensor([2]))
    mask = bank.mask(one, torch.tensor([0]), Budget(count=4))
    assert mask.flatten().nonzero()[:, 0].tolist() == [0, 1, 2, 4]


@pytest.mark.parametrize("frames", [1, 25, 40, 77])
def test_every_k_lies_between_its_marks(tmp_path, victim, frames):
    """Maps with fewer, as many and more elements than marks: every `k` of a map of 5 channels."""
    x = torch.randn(1, frames, 5, generator=torch.Generator().manual_seed(1))
    one, label = FeatureBatch(x, torch.tensor([frames]), ["a"]), torch.tensor([1])
    bank = bank_of(tmp_path, victim)
    scores = bank.scores(one, label)
    for k in range(1, 5 * frames + 1):
        budget = Budget(count=k)
        expected = topk_mask(scores, one.lengths, budget)
        assert torch.equal(bank.mask(one, label, budget), expected), k


def test_a_map_of_zeros_is_stored_and_ranks_by_position(tmp_path, batch):
    class Flat(torch.nn.Module):
        def forward(self, x, lengths):
            return (x * 0).sum((1, 2))[:, None].expand(-1, 3)

    bank = bank_of(tmp_path, wrap(Flat().eval()))
    assert not bool(bank.explain(batch, LABELS).saliency.any())
    mask = bank.mask(batch, LABELS, Budget(count=2))
    assert mask.flatten(1).nonzero()[:, 1].tolist() == [0, 1] * 3


def test_what_does_not_fit_is_an_error(tmp_path, victim, batch):
    bank = bank_of(tmp_path, victim)
    bank.fill(batch, LABELS)
    shorter = FeatureBatch(batch.x, batch.lengths - 1, batch.ids)
    with pytest.raises(StoreError, match="features="):
        bank.explain(shorter, LABELS)
    with pytest.raises(ExplainerError, match="fingerprint="):
        MaskBank(tmp_path, make_explainer("gradient"), victim, features="f")
    part = next(bank.folder.glob("part-*"))
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(StoreError, match="damaged"):
        bank_of(tmp_path, victim)
