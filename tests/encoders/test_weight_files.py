"""Which files of a model folder are read, and configs that describe another model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sigma_ser.core.errors import EncoderError, SigmaError, UnknownNameError
from sigma_ser.core.json_text import parse_json
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.encoders.index import read_card
from sigma_ser.victims.checkpoint import read_card as read_victim_card

Tiny = Callable[..., Path]
Wave = Callable[..., np.ndarray]


@pytest.fixture
def folder(tiny: Tiny, tmp_path: Path) -> Path:
    """A folder of a tiny HuBERT to change."""
    return Path(shutil.copytree(tiny("hubert"), tmp_path / "hubert"))


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def shifted(path: Path) -> dict[str, torch.Tensor]:
    return {name: value + 0.05 for name, value in load_file(path).items()}


@pytest.mark.parametrize("name", ["whisper", "hubert"])
def test_weights_beside_those_of_the_model_are_ignored(
    name: str, tiny: Tiny, tmp_path: Path, wave: Wave
) -> None:
    # Past fault: Whisper took its parameters from whichever file came last (a difference of 4).
    folder = Path(shutil.copytree(tiny(name), tmp_path / name))
    before = load_encoder(folder)
    features, key = before.encode([wave(4000)])[0], before.key
    save_file(shifted(folder / "model.safetensors"), folder / "model_ema.safetensors")
    after = load_encoder(folder)
    assert after.key == key
    assert torch.equal(after.encode([wave(4000)])[0], features)


@pytest.mark.parametrize("name", ["whisper", "hubert"])
def test_shards_are_those_of_the_index(name: str, tiny: Tiny, tmp_path: Path, wave: Wave) -> None:
    folder = Path(shutil.copytree(tiny(name), tmp_path / name))
    expected = load_encoder(folder).encode([wave(4000)])[0]
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    listed = {}
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), start=1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({n: tensors[n] for n in names}, folder / shard, metadata={"format": "pt"})
        listed |= dict.fromkeys(names, shard)
    save_file({n: t + 1 for n, t in tensors.items()}, folder / "zz.safetensors")
    index = folder / "model.safetensors.index.json"
    with pytest.raises(EncoderError, match=r"has 3 weight files .* neither"):
        load_encoder(folder)
    index.write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    assert torch.equal(load_encoder(folder).encode([wave(4000)])[0], expected)
    for names in ({}, {"a": "absent.safetensors"}, {"a": "../hubert/zz.safetensors"}, {"a": 3}):
        index.write_text(json.dumps({"weight_map": names}))
        with pytest.raises(EncoderError, match=r"model\.safetensors\.index\.json"):
            load_encoder(folder)


def test_the_file_that_a_config_names_is_the_one(folder: Path, wave: Wave) -> None:
    save_file(shifted(folder / "model.safetensors"), folder / "other.safetensors", {"format": "pt"})
    plain = load_encoder(folder)
    change(folder / "config.json", transformers_weights="other.safetensors")
    named = load_encoder(folder)
    assert named.key != plain.key
    parameter = "feature_projection.projection.bias"
    expected = load_file(folder / "other.safetensors")[parameter]
    assert torch.equal(named.model.get_parameter(parameter), expected)
    change(folder / "config.json", transformers_weights="pytorch_model.bin")
    with pytest.raises(EncoderError, match="must name a safetensors file"):
        load_encoder(folder)


def test_a_mismatch_names_the_parameter_and_both_shapes(folder: Path, tiny: Tiny) -> None:
    # Past fault: the message referred to a report that was suppressed.
    change(folder / "config.json", intermediate_size=50)
    with pytest.raises(EncoderError, match=r"9 parameters differ .*\(48,\) .*\(50,\) in the model"):
        load_encoder(folder).load()
    whisper = Path(shutil.copytree(tiny("whisper"), folder.parent / "whisper"))
    change(whisper / "config.json", encoder_ffn_dim=50)
    with pytest.raises(EncoderError, match=r"9 parameters, .*\(48,\) .*\(50,\) in the model"):
        load_encoder(whisper).load()


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("hubert", {"num_hidden_layers": 1 << 30}, "num_hidden_layers in .* is 1073741824, and"),
        ("hubert", {"hidden_size": 1 << 30}, "hidden_size in .* is 1073741824, and the weights"),
        ("hubert", {"conv_dim": [1 << 30] * 7}, "conv_dim in"),
        ("hubert", {"intermediate_size": 1 << 19}, "describes a model of 102262816 parameters"),
        ("generic", {"hidden_size": 1 << 30}, "hidden_size in"),
        ("whisper", {"encoder_layers": 1 << 30}, "encoder_layers in"),
        ("whisper", {"d_model": 1 << 30}, "d_model in"),
        ("whisper", {"encoder_ffn_dim": 1 << 19}, "parameters, first: .* is .* in the weights"),
    ],
)
def test_a_config_larger_than_its_weights_reserves_no_memory(
    name: str, changes: dict[str, Any], sentence: str, tiny: Tiny, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny(name), tmp_path / name))
    change(folder / "config.json", **changes)
    with pytest.raises(EncoderError, match=sentence):
        load_encoder(folder, layer=0).load()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_size": "wide"}, "hidden_size in .* must be a whole number above 0, got 'wide'"),
        ({"num_hidden_layers": -3}, "num_hidden_layers in .* must be a whole number above 0"),
        ({"conv_stride": [0, 2, 2, 2, 2, 2, 2]}, "all above 0"),
        ({"conv_kernel": 3}, "two lists of integers"),
    ],
)
def test_fields_of_another_type_are_named(
    changes: dict[str, Any], sentence: str, folder: Path
) -> None:
    change(folder / "config.json", **changes)
    with pytest.raises(EncoderError, match=sentence):
        load_encoder(folder).card  # noqa: B018


@pytest.mark.parametrize("depth", [101, 100_000])
def test_nested_json_is_one_sentence(depth: int, folder: Path, tmp_path: Path) -> None:
    # Past fault: the recursion limit of Python was reached, in this package or in transformers.
    deep = '{"a":' * depth + "1" + "}" * depth
    assert parse_json("[" * 100 + "]" * 100)
    for name, read in (
        ("preprocessor_config.json", lambda: load_encoder(folder)),
        ("config.json", lambda: load_encoder(folder)),
        ("store.json", lambda: read_card(folder)),
        ("card.json", lambda: read_victim_card(folder)),
    ):
        (folder / name).write_text(deep)
        with pytest.raises(SigmaError, match=f"{name} .*nested more than 100 levels"):
            read()
    with pytest.raises(ValueError, match="nested more than"):
        parse_json(deep)


def test_an_encoder_is_named_without_the_prefix_of_victims() -> None:
    with pytest.raises(UnknownNameError, match="write 'lab/model'"):
        load_encoder("hf:lab/model")
