"""Classes that a victim does not know: the advice fits the victim and what it shares."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sigma_ser.core.errors import ConfigError
from sigma_ser.corpora.folds import Fold
from sigma_ser.study import artifacts as opened
from sigma_ser.study.artifacts import RunPaths, class_indices
from sigma_ser.study.steps import Setting, VictimStep

SETTING = Setting("c", "p", "e", "-1", "f", 0.02)
CORPUS = ("angry", "happy", "sad")


@pytest.mark.parametrize(
    ("source", "knows", "said", "unsaid"),
    [
        (None, ("angry", "sad"), r'corpus\.classes = \["angry", "sad"\]', "labels ="),
        (None, ("calm",), "trained on these classes", "corpus.classes"),
        ("hf:some/model", ("LABEL_0", "LABEL_1"), r"labels = \[\.\.\.\]", "corpus.classes"),
        ("mine:Model", ("sad", "joy"), r'labels = .*corpus\.classes = \["sad"\]', "trained on"),
    ],
)
def test_the_advice_fits_the_case(
    monkeypatch: pytest.MonkeyPatch,
    source: str | None,
    knows: tuple[str, ...],
    said: str,
    unsaid: str,
) -> None:
    fold = Fold("f", ["a"], [], ["b"])
    step = VictimStep("k", SETTING, "v", fold, "loaded", {}, {}, 0, source)
    monkeypatch.setattr(opened, "load_victim", lambda *given: SimpleNamespace(labels=knows))
    with pytest.raises(ConfigError, match=said) as told:
        class_indices(RunPaths(Path("run")), step, torch.tensor([0]), CORPUS)
    assert unsaid not in str(told.value)


def test_classes_in_another_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = Fold("f", ["a"], [], ["b"])
    step = VictimStep("k", SETTING, "v", fold, "mlp", {}, {}, 0)
    knows = ("sad", "calm", "angry", "happy")
    monkeypatch.setattr(opened, "load_victim", lambda *given: SimpleNamespace(labels=knows))
    found = class_indices(RunPaths(Path("run")), step, torch.tensor([0, 1, 2]), CORPUS)
    assert found.tolist() == [2, 3, 0]
