"""Universal maps: estimation, expansion to any length, files, and use as an explainer."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import sigma_ser as ss
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch, valid_frames
from sigma_ser.explainers.explanation import explanation, make_explainer
from sigma_ser.explainers.universal import UniversalMap, learn_universal


class Halves(nn.Module):
    """Class 0 depends on channel 0 in the first half, class 1 on channel 1 in the second half."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        place = torch.arange(x.shape[1])[None, :]
        valid = valid_frames(lengths, x.shape[1])
        first = (2 * place < lengths[:, None]) & valid
        second = ~first & valid
        left = (x[:, :, 0] * first).sum(1)
        right = (x[:, :, 1] * second).sum(1)
        return torch.stack([left, right, 0.1 * (x[:, :, 2] * valid).sum(1)], 1)


VICTIM = ss.wrap(Halves().eval(), scale=torch.tensor([1.0, 2.0, 1.0]))
LENGTHS = torch.tensor([8, 6, 4, 8])
LABELS = torch.tensor([0, 1, 0, 1])
BATCH = FeatureBatch(torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(0)), LENGTHS)


def test_the_map_of_a_class_marks_its_elements_in_utterances_of_other_lengths():
    learned = learn_universal("gradient", VICTIM, BATCH, LABELS, bins=2)
    new = FeatureBatch(torch.zeros(2, 10, 3), torch.tensor([10, 2]))
    expanded = learned(VICTIM, new, torch.tensor([1, 0]))
    assert expanded.saliency[0].nonzero().tolist() == [[t, 1] for t in range(5, 10)]
    assert expanded.saliency[1].nonzero().tolist() == [[0, 0]]
    assert not expanded.forwards.any()
    assert not expanded.backwards.any()
    together = learn_universal("gradient", VICTIM, BATCH, LABELS, bins=2, per_class=False)
    both = together(VICTIM, new, torch.tensor([2, 0])).saliency[0]
    assert both.nonzero().tolist() == [[t, 0] for t in range(5)] + [[t, 1] for t in range(5, 10)]


def test_sigma_attacks_inside_it_without_the_passes_of_an_explanation():
    batch = FeatureBatch(
        torch.tensor([[3.0, 0.0, 0.0], [1.0, 2.0, 0.0]])[:, None].repeat(1, 6, 1),
        torch.tensor([6, 6]),
    )
    labels = torch.tensor([0, 1])
    learned = learn_universal("gradient", VICTIM, batch, labels, bins=2)
    budget = ss.Budget(count=3, epsilon=4.0)
    result = ss.Sigma(learned, "dual-averaging")(VICTIM, batch, labels, budget)
    inside = ss.topk_mask(learned(VICTIM, batch, labels).saliency, batch.lengths, budget)
    assert result.success.all()
    assert not ((result.x_adv != batch.x) & ~inside).any()
    native = ss.make_attack("dual-averaging")(VICTIM, batch, labels, budget, mask=inside)
    assert torch.equal(result.forwards, native.forwards)


def test_a_file_is_named_by_its_contents_and_is_an_explainer_by_name(tmp_path):
    learned = learn_universal("gradient", VICTIM, BATCH, LABELS, bins=3)
    path = learned.save(tmp_path)
    assert learned.save(tmp_path) == path
    other = learn_universal("gradient", VICTIM, BATCH, LABELS, bins=2).save(tmp_path)
    assert other != path
    by_name = explanation("universal", VICTIM, BATCH, LABELS, path=str(path))
    assert torch.equal(by_name.saliency, learned(VICTIM, BATCH, LABELS).saliency)
    assert path.name in repr(make_explainer("universal", path=str(path)))


def test_a_file_with_a_name_of_other_contents_is_refused(tmp_path):
    path = learn_universal("gradient", VICTIM, BATCH, LABELS, bins=3).save(tmp_path)
    other = learn_universal("gradient", VICTIM, BATCH, LABELS, bins=2).save(tmp_path)
    # Otherwise results of one map would be stored under the name of another.
    path.write_bytes(other.read_bytes())
    with pytest.raises(ExplainerError, match=f"the name of its contents is {other.name}"):
        make_explainer("universal", path=str(path))
    renamed = other.rename(tmp_path / "mine.safetensors")
    for wrong in (renamed, tmp_path, tmp_path / "..", tmp_path / "../no/universal.safetensors", ""):
        with pytest.raises(ExplainerError, match=r"learn_universal\(\.\.\.\)\.save"):
            make_explainer("universal", path=str(wrong))
    for maps in ({"0": torch.zeros(3)}, {}, {"angry": torch.zeros(2, 3)}):
        save_file(maps, tmp_path / "odd.safetensors")
        with pytest.raises(ExplainerError, match="is not a universal map"):
            make_explainer("universal", path=str(tmp_path / "odd.safetensors"))


def test_errors_name_the_missing_class_or_file(tmp_path):
    learned = learn_universal("gradient", VICTIM, BATCH, LABELS)
    with pytest.raises(ExplainerError, match="class 2"):
        learned(VICTIM, BATCH, LABELS + 1)
    with pytest.raises(ExplainerError, match="channels"):
        learned(VICTIM, FeatureBatch(torch.zeros(4, 8, 5), LENGTHS), LABELS)
    with pytest.raises(ExplainerError, match="learn_universal"):
        UniversalMap.load(tmp_path / "nothing.safetensors")
    with pytest.raises(ShapeError, match="at least one map"):
        UniversalMap({})
    with pytest.raises(ShapeError, match="bins"):
        learn_universal("gradient", VICTIM, BATCH, LABELS, bins=0)


def test_maps_that_differ_in_any_element_have_different_names():
    # The key of a mask bank contains the repr of the explainer; torch abbreviates large tensors.
    one = torch.rand(10, 400, generator=torch.Generator().manual_seed(0))
    other = one.clone()
    other[5, 200] += 1
    assert repr(UniversalMap({0: one})) != repr(UniversalMap({0: other}))
    assert repr(UniversalMap({0: one})) == repr(UniversalMap({0: one.clone()}))
