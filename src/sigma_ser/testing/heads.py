"""The laws of heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core import registry
from sigma_ser.core.features import valid_frames

from .laws import require, require_close

_FRAMES = (17, 4, 1, 23)


def check_head(
    head: str | Callable[..., nn.Module],
    *,
    channels: int = 12,
    classes: int = 5,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Check the laws of a head.

    The logits and the gradient of an utterance do not depend on padding, order or company; the
    gradient on padding is zero; every frame and channel is used; utterances of one frame are
    classified; saved weights restore the head.

    Args:
        head: a registered name, or the class `Head(channels, classes, **settings)`.
        channels: number of feature channels `D`.
        classes: number of classes `C`.
        settings: further keyword arguments of the head.

    Raises:
        ConformanceError: names the first law that is broken.

    >>> from sigma_ser.testing import check_head
    >>> check_head("mlp", settings={"hidden": 8})
    """
    make = registry.get("head", head) if isinstance(head, str) else head
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = make(channels, classes, **(settings or {}))
        other = make(channels, classes, **(settings or {}))
    require(isinstance(module, nn.Module), make, "does not make a torch.nn.Module")
    module.eval()
    generator = torch.Generator().manual_seed(7)
    items = [torch.randn(frames, channels, generator=generator) for frames in _FRAMES]
    _check_padding(make, module, items, classes)
    _check_use(make, module, items[0][None], classes)
    other.load_state_dict(module.state_dict(), strict=True)
    x, lengths = items[0][None], torch.tensor([len(items[0])])
    with torch.no_grad():
        require(
            torch.equal(other.eval()(x, lengths), module(x, lengths)),
            make,
            "is not restored by its saved weights: a copy with the same state_dict differs",
        )


def _check_padding(make: object, module: nn.Module, items: list[Tensor], classes: int) -> None:
    lengths = torch.tensor([len(item) for item in items])
    padded = nn.utils.rnn.pad_sequence(items, batch_first=True)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        for filler in (0.0, 1e3):
            x = padded[order].clone()
            padding = ~valid_frames(lengths[order], x.shape[1])
            x[padding] = filler
            logits, gradient = _answer(make, module, x, lengths[order], classes)
            require(
                bool((gradient[padding] == 0).all()),
                make,
                "has a gradient that is not 0 on padding",
            )
            for row, item in enumerate(order):
                one = items[item]
                expected, slope = _answer(
                    make, module, one[None], lengths[item : item + 1], classes
                )
                law = "does not return the same logits for an utterance alone and in a padded batch"
                require_close(logits[row], expected[0], make, law, atol=1e-5, rtol=1e-5)
                law = "does not have the same gradient for an utterance alone and in a padded batch"
                require_close(gradient[row, : len(one)], slope[0], make, law, atol=1e-5, rtol=1e-4)


def _check_use(make: object, module: nn.Module, x: Tensor, classes: int) -> None:
    gradient = _answer(make, module, x, torch.tensor([x.shape[1]]), classes)[1].abs()
    require(bool((gradient.sum(2) > 0).all()), make, "does not use every frame of an utterance")
    require(bool((gradient.sum(1) > 0).all()), make, "does not use every channel of the features")


def _answer(
    make: object,
    module: nn.Module,
    x: Float[Tensor, "B T D"],
    lengths: Int[Tensor, "B"],
    classes: int,
) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of a weighted sum of them."""
    x = x.clone().requires_grad_()
    logits = module(x, lengths)
    require(
        isinstance(logits, Tensor) and logits.shape == (len(x), classes),
        make,
        f"does not return logits ({len(x)}, {classes}) for {len(x)} utterances",
    )
    require(bool(torch.isfinite(logits).all()), make, "returns logits that are not finite")
    require(logits.requires_grad, make, "passes no gradient to the features")
    # Each class has a weight of its own, so that no gradient cancels between classes.
    loss = (logits * torch.linspace(-1, 2, classes)).sum()
    return logits.detach(), torch.autograd.grad(loss, x)[0]
