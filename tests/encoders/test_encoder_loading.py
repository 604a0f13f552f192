"""Where encoders come from, what identifies them, and one clear sentence for every fault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sigma_ser.core.errors import AudioError, EncoderError, UnknownNameError
from sigma_ser.encoders.batches import cut, group_equal, group_padded
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.encoders.family import Encoder
from sigma_ser.encoders.source import find_source

Tiny = Callable[..., Path]
Wave = Callable[..., np.ndarray]


@pytest.fixture
def copy(tiny: Tiny, tmp_path: Path) -> Path:
    """A folder of a tiny HuBERT to damage."""
    return Path(shutil.copytree(tiny("hubert"), tmp_path / "hubert"))


def change_json(path: Path, **changes: Any) -> None:
    """Change fields of a JSON file; `None` takes one away."""
    value = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: v for name, v in value.items() if v is not None}))


def test_the_key_follows_what_determines_features_and_no_names(tiny: Tiny, copy: Path) -> None:
    encoder = load_encoder(tiny("hubert"))
    assert load_encoder(copy).key == encoder.key
    assert load_encoder(copy, layer=3).key == encoder.key  # -1 by another name
    assert json.loads(json.dumps(encoder.card)) == encoder.card
    keys = {encoder.key}
    for changed in ({"layer": 1}, {"layer": "mean"}, {"dtype": "float16"}, {"normalise": False},
                    {"chunk_seconds": 20.0}, {"batch_seconds": 3.0}):  # fmt: skip
        keys.add(load_encoder(copy, **changed).key)
    tensors = load_file(copy / "model.safetensors")
    tensors["feature_projection.projection.bias"] += 1e-6
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    keys.add(load_encoder(copy).key)
    assert len(keys) == 8


def test_an_encoder_describes_itself_without_its_model(
    family: str, tiny: Tiny, wave: Wave, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_encoder(tiny(family), layer=1)
    features = loaded.encode([wave(4000)])[0]

    def refuse(_: Encoder) -> Any:
        raise AssertionError("the model was loaded")

    lazy = load_encoder(tiny(family), layer=1)
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "load", refuse)
        if family != "generic":  # whose frames are measured
            lazy = load_encoder(tiny(family), layer=1)
        assert (lazy.card, lazy.key) == (loaded.card, loaded.key)
        assert (lazy.dim, lazy.frame_seconds) == (features.shape[1], loaded.frame_seconds)
        assert lazy.frames(4000) == loaded.frames(4000)
        lazy.check(wave(4000))
    assert torch.equal(lazy.encode([wave(4000)])[0], features)


def test_weights_that_change_between_opening_and_encoding_are_refused(
    copy: Path, wave: Wave
) -> None:
    early, late = load_encoder(copy), load_encoder(copy)
    early.load()
    tensors = load_file(copy / "model.safetensors")
    tensors["feature_projection.projection.bias"] += 1e-6
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    # The hash would not be that of the features.
    with pytest.raises(EncoderError, match="changed after the encoder was opened"):
        late.encode([wave(4000)])
    with pytest.raises(EncoderError, match="changed after the encoder was opened"):
        early.card  # noqa: B018


def test_several_threads_load_one_model(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder(tiny("hubert"))
    build, built = type(encoder).build, []

    def count(self: Any) -> Any:
        built.append(self)
        return build(self)

    monkeypatch.setattr(type(encoder), "build", count)
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: encoder.model, range(8)))
    assert len(built) == 1
    assert all(one is models[0] for one in models)


def test_fields_that_a_config_omits_have_the_defaults_of_transformers(copy: Path) -> None:
    expected = load_encoder(copy)
    change_json(copy / "config.json", conv_kernel=None, conv_stride=None)
    encoder = load_encoder(copy)
    assert (encoder.hop, encoder.receptive_field) == (expected.hop, expected.receptive_field)
    change_json(copy / "config.json", conv_kernel=[10, 3], conv_stride=[5])
    with pytest.raises(EncoderError, match="two lists of integers of the same length"):
        load_encoder(copy)
    change_json(copy / "config.json", model_type="nothing-known", hidden_size=None)
    with pytest.raises(EncoderError, match="has no valid hidden_size"):
        find_source(copy).setting("hidden_size")


def test_the_spec_loads_the_same_encoder(copy: Path) -> None:
    encoder = load_encoder(copy, layer="mean", normalise=False, chunk_seconds=9.0)
    assert load_encoder(**encoder.spec).card == encoder.card


def test_float16_weights_are_computed_in_float32(copy: Path, wave: Wave) -> None:
    tensors = {n: t.half() for n, t in load_file(copy / "model.safetensors").items()}
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    encoder = load_encoder(copy)
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}
    assert encoder.encode([wave(4000)])[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("dmeo", "did you mean demo"),
        ("wav2vec2", "no encoder is called 'wav2vec2'"),
    ],
)
def test_a_name_that_is_none(name: str, sentence: str) -> None:
    with pytest.raises(UnknownNameError, match=sentence):
        load_encoder(name)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("LocalEntryNotFoundError", "cannot be reached; connect, or copy the model here"),
        ("GatedRepoError", "accept its terms on https://huggingface.co/lab/model"),
        ("RepositoryNotFoundError", "there is no model lab/model"),
        ("RevisionNotFoundError", "has no revision 'v9'"),
    ],
)
def test_what_the_hub_may_answer(
    fault: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error_class = getattr(huggingface_hub.errors, fault)

    def refuse(*_: Any, **__: Any) -> None:
        # Their own constructors want a response of the HTTP library of the day.
        raise error_class.__new__(error_class)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(EncoderError, match=sentence):
        load_encoder("lab/model", revision="v9")


def test_without_network_the_sentence_is_clear(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub,
        "snapshot_download",
        lambda name, **named: real(
            name, **named, endpoint="http://127.0.0.1:9", cache_dir=tmp_path, etag_timeout=1
        ),
    )
    with pytest.raises(EncoderError, match="hub cannot be reached"):
        load_encoder("lab/model")


def test_a_snapshot_of_the_hub_keeps_its_commit(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = Path(shutil.copytree(tiny("hubert"), tmp_path / "0123abcd"))
    asked: dict[str, Any] = {}

    def download(name: str, **named: Any) -> str:
        asked.update(named, name=name)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    encoder = load_encoder("lab/model", revision="main")
    assert encoder.card["revision"] == "0123abcd"
    assert encoder.card["name"] == "lab/model"
    assert asked["revision"] == "main"
    assert not any("bin" in pattern for pattern in asked["allow_patterns"])
    monkeypatch.undo()
    assert load_encoder(**encoder.spec).key == encoder.key


def test_faults_of_a_folder(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="there is no folder"):
        load_encoder(tmp_path / "nowhere")
    with pytest.raises(EncoderError, match="has no revisions"):
        load_encoder(copy, revision="main")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match=r"has no config\.json"):
        load_encoder(tmp_path / "empty")
    for settings, sentence in (
        ({"layer": 4}, "no layer 4; give 0"),
        ({"layer": -5}, "no layer -5"),
        ({"layer": "last"}, "no layer 'last'"),
        ({"dtype": "int8"}, "dtype must be one of"),
        ({"context": "utterance"}, "context='utterance' is not possible"),
        ({"chunk_seconds": 3.0}, "more than twice overlap_seconds"),
    ):
        with pytest.raises(EncoderError, match=sentence):
            load_encoder(copy, **settings)  # type: ignore[arg-type]
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(EncoderError, match="pass normalise=True or False"):
        load_encoder(copy).card  # noqa: B018
    assert load_encoder(copy, normalise=True).card["preprocessing"] == {"normalise": True}
    change_json(copy / "config.json", model_type="alien", auto_map={"AutoModel": "alien.Model"})
    with pytest.raises(EncoderError, match="code that comes with a model is never run"):
        load_encoder(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(EncoderError, match="not readable JSON"):
        load_encoder(copy)


def test_faults_of_weights(copy: Path) -> None:
    weights = copy / "model.safetensors"
    tensors = load_file(weights)
    tensors.pop("encoder.layer_norm.weight")
    save_file(tensors, weights, metadata={"format": "pt"})
    # transformers alone would go on with a random layer.
    with pytest.raises(EncoderError, match=r"lack 1 parameters .*encoder\.layer_norm\.weight"):
        load_encoder(copy).load()
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(EncoderError, match="download or export the model again"):
        load_encoder(copy)
    weights.unlink()
    with pytest.raises(EncoderError, match="has no weights"):
        load_encoder(copy)


def test_pickled_weights_are_read_only_when_the_user_insists(copy: Path, wave: Wave) -> None:
    expected = load_encoder(copy).encode([wave(4000)])[0]
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"only pickled weights .* allow_pickle=True"):
        load_encoder(copy)
    # A caller without this setting does not offer it.
    with pytest.raises(EncoderError, match=r"convert them to safetensors$"):
        find_source(copy, allow_pickle=None)
    assert torch.equal(load_encoder(copy, allow_pickle=True).encode([wave(4000)])[0], expected)


def test_memory_that_runs_out_halves_the_batch(
    tiny: Tiny, wave: Wave, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(tiny("hubert"))
    waves = [wave(4000, seed) for seed in range(5)]
    expected = encoder.encode(waves, batched=False)
    plain, sizes = type(encoder).run, []

    def limited(self: Any, inputs: torch.Tensor, lengths: list[int] | None) -> torch.Tensor:
        sizes.append(len(inputs))
        if len(inputs) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return plain(self, inputs, lengths)

    monkeypatch.setattr(type(encoder), "run", limited)
    limit = 1
    for mine, states in zip(encoder.encode(waves), expected, strict=True):
        torch.testing.assert_close(mine, states, rtol=0, atol=1e-5)
    assert sizes == [5, 2, 1, 1, 3, 1, 2, 1, 1]
    limit = 0
    with pytest.raises(EncoderError, match="not enough memory"):
        encoder.encode(waves[:1])


def test_waves_that_are_not_finite(tiny: Tiny, wave: Wave) -> None:
    samples = wave(4000)
    samples[17] = np.nan
    with pytest.raises(AudioError, match="NaN") as caught:
        load_encoder(tiny("hubert")).encode([samples])
    assert caught.value.reason == "non-finite"


def test_numbers_that_overflow_are_refused(copy: Path, wave: Wave) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["feature_projection.projection.bias"] += 1e5
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match='use dtype="float32"'):
        load_encoder(copy, layer=0, dtype="float16").encode([wave(4000)])


@given(frames=st.integers(1, 5000), chunk=st.integers(5, 1500), overlap=st.integers(0, 2))
def test_pieces_cover_an_utterance_once(frames: int, chunk: int, overlap: int) -> None:
    pieces = cut(frames, chunk, overlap)
    kept = [list(range(p.first + p.skip, p.first + p.skip + p.keep)) for p in pieces]
    assert [frame for part in kept for frame in part] == list(range(frames))
    for piece in pieces:
        assert piece.last - piece.first <= chunk
        assert piece.first == 0 or piece.skip == overlap
        assert piece.last == frames or piece.last - piece.first - piece.skip - piece.keep == overlap


@given(sizes=st.lists(st.integers(1, 60), max_size=40), budget=st.integers(1, 300))
def test_groups_hold_every_position_once_within_the_budget(sizes: list[int], budget: int) -> None:
    for groups in (group_equal(sizes, budget), group_padded(sizes, budget)):
        assert sorted(row for group in groups for row in group) == list(range(len(sizes)))
        for group in groups:
            assert len(group) == 1 or max(sizes[row] for row in group) * len(group) <= budget
    assert all(len({sizes[row] for row in group}) == 1 for group in group_equal(sizes, budget))
