"""Messages that a first user may meet: each says what is wrong, and what to do in this case."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

import sigma_ser as ss
from sigma_ser.core import registry
from sigma_ser.encoders.layers import resolve_layer
from sigma_ser.encoders.source import find_source
from sigma_ser.evaluate.size import sizes
from sigma_ser.report.inputs import load_inputs
from sigma_ser.study.audit import audit_study


@pytest.fixture(autouse=True)
def _as_without_a_type_checker() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Mean(torch.nn.Linear):
    """A linear classifier of the mean frame."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return super().forward(x.sum(1) / lengths[:, None])


VICTIM = ss.wrap(Mean(8, 3).eval())
BATCH = ss.FeatureBatch(torch.ones(2, 5, 8), torch.tensor([5, 5]), ["a", "b"])
LABELS = VICTIM(BATCH.x, BATCH.lengths).argmax(1)
BUDGET = ss.Budget(sparsity=0.1)
NOWHERE: Any = "nowhere"
THREE: Any = 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (ss.Budget, "give exactly one of sparsity= (a share) and count= (a number"),
        (lambda: ss.Budget(sparsity=NOWHERE), "sparsity must be a number, got 'nowhere'"),
        (lambda: ss.Budget(count=NOWHERE), "count must be a number, got 'nowhere'"),
        (lambda: ss.Budget(count=1, epsilon=NOWHERE), "epsilon must be a number, got 'nowhere'"),
        (lambda: ss.Budget(count=1, epsilon=-1.0), "epsilon must be finite and at least 0, got -1"),
        (lambda: ss.Budget(count=1, epsilon=torch.ones(1, 1, 1)),
         "of shape (D,), (B, 1) or (B, D), got (1, 1, 1)"),
        (lambda: ss.explain(THREE, VICTIM, BATCH, LABELS),
         "explainer must be a name or the result of make_explainer, got 3"),
        (lambda: ss.extract(ss.load_corpus("demo"), NOWHERE, "store"),
         "encoder must be an encoder from ss.load_encoder, got 'nowhere'"),
        (lambda: ss.load_corpus("demo", "nowhere"), "leave 'root' out"),
        (lambda: ss.load_corpus("tess"), "with --root (root= in Python, corpus.root in a study)"),
        (lambda: ss.load_corpus("tess", "nowhere"), "nowhere does not exist; give the folder"),
        (lambda: audit_study("x:y", "nowhere"), "give the path of a manifest or of a folder with"),
        (lambda: audit_study("x:y", "tes"), "did you mean tess? or give the path of a manifest"),
        (lambda: ss.attack("pgd0", VICTIM, BATCH, LABELS),
         "called without budget; to build an attack without running it, use make_attack(name)"),
        (lambda: ss.attack("pgd0", VICTIM, BATCH, LABELS, BUDGET, target=LABELS),
         "target must differ from the label of each utterance; it equals it for utterance 'a'"),
        (lambda: ss.check_gradients(VICTIM, BATCH, LABELS[:1], BUDGET),
         "labels (class indices) must be an integer tensor of shape (2,), got torch.int64 (1,)"),
        (lambda: sizes(BATCH, BATCH.x[:, :3], VICTIM.scale),
         "x_adv must have the shape of the batch, (2, 5, 8), got (2, 3, 8)"),
        (lambda: ss.consistency("gradient", VICTIM, BATCH, BATCH.x[:, :3], LABELS, BUDGET),
         "x_adv must have the shape of the batch, (2, 5, 8), got (2, 3, 8)"),
        (lambda: resolve_layer(99, 4), "give 0 (before the first transformer layer) to 4, a"),
        (lambda: find_source("nothere"), "give demo (part of the package), a local folder, or a"),
        (lambda: load_inputs(Path("nowhere")), "there is no folder nowhere; give the folder of a"),
    ],
)  # fmt: skip
def test_a_message_says_what_to_do(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ss.SigmaError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("x", "remedy"),
    [
        (torch.ones(5, 8), "(5, 8); add the batch axis with x[None]"),
        (torch.ones(2, 5, 8).double(), "(2, 5, 8); call .float()"),
        (torch.ones(5), "(5,)"),
    ],
)
def test_only_the_remedy_of_the_fault_is_named(x: torch.Tensor, remedy: str) -> None:
    given: Any = x
    with pytest.raises(ss.errors.ShapeError, match=re.escape(remedy) + "$"):
        ss.FeatureBatch(given, torch.tensor([5, 5]))


def test_an_attack_is_called_by_its_registered_name() -> None:
    class Unregistered:
        """Not registered."""

    assert registry.name_of("attack", registry.get("attack", "dual-averaging")) == "dual-averaging"
    assert registry.name_of("attack", Unregistered).endswith("Unregistered")
