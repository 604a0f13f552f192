"""Every test checks types and shapes in the first calls of each function that it uses."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from sigma_ser.attacks.losses import margin


@pytest.mark.parametrize("test", [1, 2])
def test_a_wrong_shape_is_seen_in_the_first_calls_of_every_test(test: int) -> None:
    logits, labels = torch.eye(3), torch.arange(3)
    for _ in range(2):
        margin(logits, labels)
    with pytest.raises(TypeCheckError):
        margin(logits.flatten(), labels)
    for _ in range(50):
        margin(logits, labels)
    with pytest.raises(IndexError):
        margin(logits.flatten(), labels)
