"""Classes that a victim does not know: the advice fits the victim and what it shares."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sigma_ser.core.errors import ConfigError
from sigma_ser.corpora.folds import Fold
from sigma_ser.runs.layout import RunLayout
from sigma_ser.study.artifacts import Artifacts
from sigma_ser.study.steps import Setting, VictimStep

SETTING = Setting("c", "p", "e", "-1", "f", Path("f"), 0.02)
CORPUS = ("angry", "happy", "sad")


def with_classes(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> Artifacts:
    """Artefacts whose victim has these classes."""
    victim = SimpleNamespace(class_names=names)
    monkeypatch.setattr(Artifacts, "victim", lambda *given: victim)
    return Artifacts(RunLayout(Path("run")))


@pytest.mark.parametrize(
    ("source", "knows", "said", "unsaid"),
    [
        (None, ("angry", "sad"), r'corpus\.classes = \["angry", "sad"\]', "class_names ="),
        (None, ("calm",), "trained on these classes", "corpus.classes"),
        ("hf:some/model", ("LABEL_0", "LABEL_1"), r"class_names = \[\.\.\.\]", "corpus.classes"),
        (
            "mine:Model",
            ("sad", "joy"),
            r'class_names = .*corpus\.classes = \["sad"\]',
            "trained on",
        ),
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
    artifacts = with_classes(monkeypatch, knows)
    with pytest.raises(ConfigError, match=said) as result:
        artifacts.class_indices(step, torch.tensor([0]), CORPUS)
    assert unsaid not in str(result.value)


def test_classes_in_another_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = Fold("f", ["a"], [], ["b"])
    step = VictimStep("k", SETTING, "v", fold, "mlp", {}, {}, 0)
    knows = ("sad", "calm", "angry", "happy")
    artifacts = with_classes(monkeypatch, knows)
    found = artifacts.class_indices(step, torch.tensor([0, 1, 2]), CORPUS)
    assert found.tolist() == [2, 3, 0]
