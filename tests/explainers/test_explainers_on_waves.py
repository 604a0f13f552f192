"""Every explainer on waves: one channel, many more frames than features have."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.core.features import pad, valid_frames

NAMES = registry.names("explainer")
# Those that need layers which a model on waves need not have.
MAY_REFUSE = {"deeplift", "deeplift-shap", "guided-backprop", "grad-cam", "attention"}


class WaveHead(nn.Module):
    """A smooth victim of waves, which ignores padding."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Conv1d(1, 6, 9, padding=4), nn.Linear(6, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_frames(lengths, x.shape[1])[:, None, :]
        hidden = torch.tanh(4 * self.mix(x.transpose(1, 2))) * valid
        return self.out(hidden.sum(2) / lengths[:, None])


@pytest.mark.parametrize("name", NAMES)
def test_a_map_of_waves_is_zero_on_padding_and_the_same_alone(name: str) -> None:
    torch.manual_seed(2)
    victim = ss.wrap(WaveHead().eval(), box=(-1, 1))
    rng = torch.Generator().manual_seed(3)
    batch = pad([0.3 * torch.randn(size, 1, generator=rng) for size in (40, 28)])
    labels = victim(batch.x, batch.lengths).argmax(1)
    fields = getattr(registry.get("explainer", name), "__dataclass_fields__", {})
    settings: dict[str, Any] = {"samples": 8} if "samples" in fields else {}
    try:
        together = ss.explain(name, victim, batch, labels, **settings)
    except ss.errors.ExplainerError:
        assert name in MAY_REFUSE
        return
    assert together.shape == batch.x.shape
    assert together.isfinite().all()
    assert not together[~batch.valid].any()
    assert together.any()
    one = batch.select(torch.tensor([1]))
    alone = ss.explain(name, victim, one, labels[1:], **settings)
    torch.testing.assert_close(together[1:, :28], alone, atol=1e-5, rtol=1e-3)
