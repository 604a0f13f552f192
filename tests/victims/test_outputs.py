"""Models whose outputs are not classes: refused, or divided by a threshold that the user names."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import sigma_ser as ss
from sigma_ser.core.errors import VictimError

_NAMES = {0: "arousal", 1: "dominance", 2: "valence"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small model with three outputs."""
    import transformers

    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        conv_dim=(8, 8), conv_kernel=(10, 8), conv_stride=(80, 4), num_feat_extract_layers=2,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, classifier_proj_size=12,
        id2label=_NAMES, label2id={name: index for index, name in _NAMES.items()},
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.Wav2Vec2ForSequenceClassification(config).eval().save_pretrained(tmp_path)
    return tmp_path


def configured(folder: Path, **changes: Any) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return f"hf:{folder}"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"problem_type": "regression"}, "is a regression model.*arousal, dominance, valence"),
        ({"problem_type": "multi_label_classification"}, "is a multi-label model"),
        # Past fault: the largest of three dimensions was the predicted emotion.
        ({"problem_type": None}, "is a regression model"),
        ({"id2label": {"0": "joy"}, "label2id": {"joy": 0}}, "is a regression model"),
    ],
)
def test_outputs_that_are_not_classes_are_refused(
    changes: dict[str, Any], sentence: str, folder: Path
) -> None:
    with pytest.raises(VictimError, match=rf"{sentence}.*name an output and a threshold"):
        ss.load_victim(configured(folder, **changes), layer=1)


@pytest.mark.parametrize(
    ("kind", "value", "limit"),
    [("regression", 0.05, 0.05), ("multi_label_classification", 0.6, math.log(0.6 / 0.4))],
)
def test_a_threshold_makes_two_classes_of_one_output(
    kind: str, value: float, limit: float, folder: Path
) -> None:
    # The same head, read as classes of other names, gives the outputs themselves.
    classes = {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    outputs = ss.load_victim(configured(folder, problem_type=None, **classes), layer=1)
    x = torch.randn(6, 9, 16, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([9, 4, 7, 9, 2, 9])
    expected = outputs(x, lengths)[:, 2] - limit
    named = {"id2label": {str(i): name for i, name in _NAMES.items()}}
    source = configured(folder, problem_type=kind, **named)
    victim = ss.load_victim(source, layer=1, threshold={"valence": value})
    assert victim.class_names == ("low-valence", "high-valence")
    logits = victim(x, lengths)
    torch.testing.assert_close(logits, torch.stack([-expected, expected], 1))
    renamed = ss.load_victim(
        source, layer=1, threshold={"valence": value}, class_names=["sad", "happy"]
    )
    assert renamed.class_names == ("sad", "happy")
    batch = ss.FeatureBatch(x, lengths)
    attack = ss.make_attack("dual-averaging", steps=2)
    result = attack(victim, batch, logits.argmax(1), ss.Budget(sparsity=0.2, epsilon=1.0))
    assert (result.x_adv != x).any()


@pytest.mark.parametrize(
    ("kind", "threshold", "sentence"),
    [
        ("regression", {"joy": 0.5}, "has no output 'joy'; .* arousal, dominance, valence"),
        ("regression", {"arousal": 0.5, "valence": 0.5}, "must name one output"),
        ("regression", {}, "must name one output"),
        ("regression", {"arousal": math.nan}, "must be a finite number"),
        ("multi_label_classification", {"arousal": 1.0}, "a probability between 0 and 1"),
        ("single_label_classification", {"arousal": 0.5}, "one of its classes; remove"),
    ],
)
def test_thresholds_that_divide_nothing_are_refused(
    kind: str, threshold: dict[str, Any], sentence: str, folder: Path
) -> None:
    other = {"0": "a", "1": "b", "2": "c"} if kind.startswith("single") else {}
    source = configured(folder, problem_type=kind, **({"id2label": other} if other else {}))
    with pytest.raises(VictimError, match=sentence):
        ss.load_victim(source, layer=1, threshold=threshold)


def test_only_models_of_transformers_have_thresholds(tmp_path: Path) -> None:
    with pytest.raises(VictimError, match="only those have a threshold"):
        ss.load_victim(tmp_path, threshold={"arousal": 0.5})


def test_a_model_of_transformers_is_named_with_its_prefix(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Past fault: the message was that card.json is missing.
    with pytest.raises(VictimError, match=f"use hf:{folder}$"):
        ss.load_victim(folder)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VictimError, match=r"no folder lab/model; .*use hf:lab/model$"):
        ss.load_victim("lab/model")
