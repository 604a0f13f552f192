"""Laws of every head: exact under padding and batch composition, no gradient on padding."""

from __future__ import annotations

import pytest
import torch

from sigma_ser.core import registry

CHANNELS, CLASSES = 12, 5


@pytest.fixture(params=registry.names("head"))
def head(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(3)
    return registry.get("head", request.param)(CHANNELS, CLASSES).eval()


def _utterances() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(frames, CHANNELS, generator=generator) for frames in (17, 4, 1, 23)]


def _answer(head: torch.nn.Module, x: torch.Tensor, lengths: torch.Tensor):
    x = x.clone().requires_grad_()
    logits = head(x, lengths)
    # A weight for each class, so that no gradient cancels between them.
    loss = (logits * torch.linspace(-1, 2, CLASSES)).sum()
    return logits.detach(), torch.autograd.grad(loss, x)[0]


def test_an_utterance_is_judged_alike_alone_and_in_any_batch(head: torch.nn.Module) -> None:
    items = _utterances()
    lengths = torch.tensor([len(item) for item in items])
    padded = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        # What lies on padding must not matter, be it zero or large.
        for filler in (0.0, 1e3):
            x = padded[order].clone()
            padding = torch.arange(x.shape[1])[None] >= lengths[order][:, None]
            x[padding] = filler
            logits, gradient = _answer(head, x, lengths[order])
            assert (gradient[padding] == 0).all()
            for row, item in enumerate(order):
                alone, slope = _answer(head, items[item][None], lengths[item : item + 1])
                torch.testing.assert_close(logits[row], alone[0], atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(
                    gradient[row, : len(items[item])], slope[0], atol=1e-5, rtol=1e-4
                )


def test_a_head_uses_every_frame_and_channel(head: torch.nn.Module) -> None:
    x = _utterances()[0][None]
    gradient = _answer(head, x, torch.tensor([17]))[1]
    assert (gradient.abs().sum(2) > 0).all()
    assert (gradient.abs().sum(1) > 0).all()


def test_settings_change_the_head() -> None:
    make = registry.get("head", "mlp")
    small, large = (sum(p.numel() for p in make(8, 3, hidden=h).parameters()) for h in (4, 16))
    assert small < large
