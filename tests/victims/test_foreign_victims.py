"""Classifiers of `transformers` and Python code as victims: equal to the whole model."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

import sigma_ser as ss
from sigma_ser.core.errors import VictimError
from sigma_ser.core.features import pad

_SMALL = {
    "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24,
    "conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (80, 4),
    "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 12,
    "num_labels": 4, "id2label": dict(enumerate(["neu", "hap", "ang", "sad"])),
    "label2id": {"neu": 0, "hap": 1, "ang": 2, "sad": 3},
}  # fmt: skip
_PLAIN = {"feat_extract_norm": "group"}
_PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_DATA2VEC = {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5}
FAMILIES = {
    "wav2vec2": ("Wav2Vec2", _PLAIN),
    "wav2vec2-pre-norm": ("Wav2Vec2", _PRE_NORM),
    "hubert": ("Hubert", _PLAIN),
    "hubert-pre-norm": ("Hubert", _PRE_NORM),
    "wavlm": ("WavLM", _PLAIN),
    "wavlm-pre-norm": ("WavLM", _PRE_NORM),
    "unispeech": ("UniSpeech", _PLAIN),
    "unispeech-sat": ("UniSpeechSat", _PLAIN),
    "data2vec-audio": ("Data2VecAudio", _DATA2VEC),
}
LABELS = ("neu", "hap", "ang", "sad")


def _save(folder: Path, family: str, **more: object) -> torch.nn.Module:
    import transformers

    name, settings = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**_SMALL, **settings, **more})
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config).eval()
    with torch.no_grad():
        # Identity norms would hide a norm that is left out or applied twice.
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    return model


@pytest.fixture(params=FAMILIES)
def saved(request: pytest.FixtureRequest, tmp_path: Path):
    return tmp_path, _save(tmp_path, request.param)


def _waves() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.standard_normal(samples).astype(np.float32) for samples in (6400, 4321)]


@pytest.mark.slow
def test_encoder_and_rest_together_are_the_whole_model(saved) -> None:
    folder, model = saved
    waves = _waves()
    with torch.no_grad():
        expected = torch.cat([model(torch.from_numpy(wave)[None]).logits for wave in waves])
    for layer in (0, 1, 2, 3, -1):
        encoder = ss.load_encoder(str(folder), layer=layer)
        victim = ss.load_victim(f"hf:{folder}", layer=layer)
        assert victim.class_names == LABELS
        features = [encoder.encode([wave])[0] for wave in waves]
        batch = ss.FeatureBatch(
            torch.nn.utils.rnn.pad_sequence(features, batch_first=True),
            torch.tensor([len(item) for item in features]),
        )
        # The encoder was called for each utterance; here they share a padded batch.
        torch.testing.assert_close(victim(batch.x, batch.lengths), expected, atol=1e-5, rtol=1e-5)


def test_padding_has_no_influence_and_no_gradient(saved) -> None:
    folder, _ = saved
    victim = ss.load_victim(f"hf:{folder}", layer=1)
    x = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([9, 5])
    loud = x.clone()
    loud[1, 5:] = 1e3
    loud.requires_grad_()
    logits = victim(loud, lengths)
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), loud)
    assert (gradient[1, 5:] == 0).all()
    assert (gradient[1, :5] != 0).any()
    alone = x[1:, :5].clone().requires_grad_()
    own = victim(alone, lengths[1:])
    torch.testing.assert_close(logits[1], own[0], atol=1e-5, rtol=1e-5)
    (slope,) = torch.autograd.grad(own[:, 1].sum(), alone)
    torch.testing.assert_close(gradient[1, :5], slope[0], atol=1e-5, rtol=1e-4)


def test_the_whole_model_is_a_victim_of_waves(saved) -> None:
    folder, model = saved
    whole = ss.load_victim(f"hf:{folder}", surface="waveform")
    assert (whole.class_names, whole.box) == (LABELS, (-1.0, 1.0))
    batch = pad([torch.from_numpy(one)[:, None] for one in _waves()])
    found = whole(batch.x, batch.lengths)
    encoder = ss.load_encoder(folder)
    for row, wave in enumerate(_waves()):
        with torch.no_grad():
            expected = model(encoder.prepare(wave)[None]).logits[0]
        torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=0.0)
    x = batch.x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(whole(x, batch.lengths).sum(), x)
    # The first convolution of these models reads 10 of every 80 samples.
    assert (gradient[batch.valid] != 0).float().mean() > 0.1
    assert not gradient[~batch.valid].any()
    for given in ({"layer": 1}, {"scale": 2.0}, {"mean": torch.zeros(4)}):
        with pytest.raises(VictimError, match="leave out layer, mean and scale"):
            ss.load_victim(f"hf:{folder}", surface="waveform", **given)


def test_other_surfaces_are_refused() -> None:
    with pytest.raises(VictimError, match="one of features, waveform, got 'audio'"):
        ss.load_victim("hf:some/model", surface="audio")
    with pytest.raises(VictimError, match=r"use ss.on_waveform\(encoder, victim\)"):
        ss.load_victim("folder", surface="waveform")


def test_the_sum_of_layers_of_a_classifier_is_the_surface(tmp_path: Path) -> None:
    from sigma_ser.victims.layers import weighted_sum

    model = _save(tmp_path, "wavlm", use_weighted_layer_sum=True)
    wave = _waves()[0]
    with pytest.raises(ss.errors.VictimError, match='layer="all"'):
        ss.load_victim(f"hf:{tmp_path}", layer=2)
    victim = ss.load_victim(f"hf:{tmp_path}", layer="all")
    states = ss.load_encoder(str(tmp_path), layer="all").encode([wave])[0]
    x = weighted_sum(states[None], victim.layer_weights)
    assert x.shape[2] == 16
    with torch.no_grad():
        expected = model(torch.from_numpy(wave)[None]).logits
    torch.testing.assert_close(victim(x, torch.tensor([x.shape[1]])), expected)


def test_an_attack_runs_on_a_classifier_behind_a_layer(tmp_path: Path) -> None:
    _save(tmp_path, "wavlm")
    batch = ss.FeatureBatch(torch.randn(3, 12, 16), torch.tensor([12, 7, 9]))
    victim = ss.load_victim(f"hf:{tmp_path}", layer=2, scale=batch.x.std((0, 1)))
    labels = victim(batch.x, batch.lengths).argmax(1)
    attack = ss.make_attack("dual-averaging", steps=5)
    result = attack(victim, batch, labels, ss.Budget(sparsity=0.2, epsilon=1.0))
    assert (result.x_adv != batch.x).any()


def test_classifiers_that_cannot_be_cut_are_refused(tmp_path: Path) -> None:
    _save(tmp_path / "one", "hubert")
    with pytest.raises(ss.errors.VictimError, match="no layer 4"):
        ss.load_victim(f"hf:{tmp_path / 'one'}", layer=4)
    with pytest.raises(ss.errors.VictimError, match="no layer follows 'mean'"):
        ss.load_victim(f"hf:{tmp_path / 'one'}", layer="mean")
    config = tmp_path / "one" / "config.json"
    original = json.loads(config.read_text())
    for changed, message in (
        ({"model_type": "whisper"}, "of the family 'whisper'"),
        ({"add_adapter": True}, "has an adapter"),
    ):
        config.write_text(json.dumps({**original, **changed}))
        with pytest.raises(ss.errors.VictimError, match=message):
            ss.load_victim(f"hf:{tmp_path / 'one'}")
    _save(tmp_path / "two", "hubert-pre-norm", use_weighted_layer_sum=True)
    with pytest.raises(ss.errors.VictimError, match="versions of transformers differ"):
        ss.load_victim(f"hf:{tmp_path / 'two'}", layer="all")


def test_a_model_without_its_head_or_without_safetensors_is_refused(tmp_path: Path) -> None:
    model = _save(tmp_path / "whole", "wav2vec2")
    model.wav2vec2.save_pretrained(tmp_path / "headless")
    with pytest.raises(ss.errors.VictimError, match="would stay random"):
        ss.load_victim(f"hf:{tmp_path / 'headless'}")
    shutil.copytree(tmp_path / "whole", tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ss.errors.VictimError, match="pickled"):
        ss.load_victim(f"hf:{tmp_path / 'pickled'}")
    with pytest.raises(ss.errors.VictimError, match="no folder"):
        ss.load_victim(f"hf:{tmp_path / 'nowhere'}")


_MINE = """
import torch

class Mine(torch.nn.Linear):
    class_names = ("angry", "sad")

    def __init__(self, channels=4):
        super().__init__(channels, 2)

    def forward(self, x, lengths):
        return super().forward(x.sum(1) / lengths[:, None])

def nothing():
    return 3
"""


def test_a_class_in_python_code_is_a_victim(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_own_recogniser.py").write_text(_MINE)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    victim = ss.load_victim("my_own_recogniser:Mine", settings={"channels": 6}, scale=2.0)
    assert victim.class_names == ("angry", "sad")
    assert victim(torch.zeros(3, 5, 6), torch.tensor([5, 4, 1])).shape == (3, 2)
    assert float(victim.scale) == 2.0
    assert sys.path == path
    with pytest.raises(ss.errors.VictimError, match="cannot be created"):
        ss.load_victim("my_own_recogniser:Mine", settings={"chanels": 6})
    with pytest.raises(ss.errors.VictimError, match="returned an object of type int"):
        ss.load_victim("my_own_recogniser:nothing")
    for absent in ("my_own_recogniser:Yours", "my_other_recogniser:Mine"):
        with pytest.raises(ss.errors.VictimError, match="cannot be imported"):
            ss.load_victim(absent)


class Answers(nn.Module):
    """Returns the output that it is created with."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.answer


@pytest.mark.parametrize("answer", [(torch.zeros(2, 3), None), {"logits": torch.zeros(2, 3)}, None])
def test_a_module_that_returns_more_than_logits_is_refused(answer: Any) -> None:
    victim = ss.wrap(Answers(answer).eval())
    with pytest.raises((VictimError, TypeCheckError), match="logits"):
        victim(torch.zeros(2, 4, 5), torch.tensor([4, 4]))


class Features(nn.Linear):
    """Accepts no lengths, and features of one width only."""

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        return super().forward(x).mean(1)


def test_an_error_names_a_module_that_fails_on_the_features() -> None:
    victim = ss.wrap(Features(8, 3).eval())
    with pytest.raises(VictimError, match=r"Features failed on features \(2, 4, 5\)") as caught:
        victim(torch.zeros(2, 4, 5), torch.tensor([4, 4]))
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(VictimError, match=r"Sequential failed .* lengths"):
        ss.wrap(nn.Sequential(nn.Linear(5, 3)).eval())(torch.zeros(2, 4, 5), torch.tensor([4, 4]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"module": len}, "torch.nn.Module"),
        ({"class_names": "abc"}, "list of class names"),
        ({"class_names": {0: "angry", 1: "sad"}}, "different strings"),
        ({"class_names": ["angry", "angry"]}, "different strings"),
        ({"mean": math.nan}, "mean must be finite"),
        ({"scale": "wide"}, "scale must be a number"),
        ({"scale": torch.ones(2, 5)}, r"for each channel \(D,\), got shape \(2, 5\)"),
        ({"scale": 0.0}, "above 0"),
    ],
)
def test_what_cannot_be_wrapped_is_refused(given: dict, message: str) -> None:
    module = given.pop("module", Answers(None).eval())
    with pytest.raises((VictimError, TypeCheckError), match=f"{message}|wrap"):
        ss.wrap(module, **given)


class Recogniser(nn.Module):
    """A small classifier with dropout that masks its padding."""

    def __init__(self, kind: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.drop, self.classify = nn.Dropout(0.5), nn.Linear(5, 3, dtype=kind)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        valid = torch.arange(x.shape[1]) < lengths[:, None]
        mean = (x * valid[:, :, None]).sum(1) / lengths[:, None]
        return self.classify(self.drop(mean.to(self.classify.weight.dtype)))


_X, _LENGTHS = torch.linspace(-1, 1, 40).view(2, 4, 5), torch.tensor([4, 3])


def test_a_submodule_in_training_mode_is_an_error() -> None:
    # Past fault: with active dropout every attack succeeded by chance, without a warning.
    module = Recogniser().eval()
    victim = ss.wrap(module)
    module.drop.train()
    assert not module.training
    for call in (lambda: ss.wrap(module), lambda: victim(_X, _LENGTHS)):
        with pytest.raises(VictimError, match=r"the module Dropout is in training mode.*eval"):
            call()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_logits_of_another_type_are_converted_to_float32(kind: torch.dtype) -> None:
    # Past fault: these methods mixed them with features of float32 and failed.
    victim = ss.wrap(Recogniser(kind).eval())
    logits = victim(_X, _LENGTHS)
    assert logits.dtype == torch.float32
    batch, labels = ss.FeatureBatch(_X, _LENGTHS), logits.argmax(1)
    assert torch.isfinite(ss.explain("feature-ablation", victim, batch, labels)).all()
    for name in ("sigma-lambda", "sparsefool"):
        result = ss.make_attack(name)(victim, batch, labels, ss.Budget(sparsity=0.2))
        assert result.x_adv.dtype == torch.float32


class InPlace(Recogniser):
    """Subtracts the mean of its features in place."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(x.sub_(x.mean()), lengths)


def test_a_module_that_changes_its_features_is_refused() -> None:
    # Past fault: the attack compared its result with changed features.
    with pytest.raises(VictimError, match=r"InPlace changes the features.*clone"):
        ss.wrap(InPlace().eval())(_X.clone(), _LENGTHS)
    # Tensors created in inference mode have no version counter.
    with torch.inference_mode():
        assert ss.wrap(Recogniser().eval())(_X + 0, _LENGTHS).shape == (2, 3)


class Looks(nn.Module):
    """Raises a KeyError."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return {"x": x}["logits"]


def test_any_error_of_a_module_becomes_an_error_that_names_it() -> None:
    with pytest.raises(VictimError, match=r"Looks failed .*KeyError: 'logits'"):
        ss.wrap(Looks().eval())(_X, _LENGTHS)
