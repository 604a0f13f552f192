"""The store holds what the encoder gave, survives interruption, and finds damage."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import random
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sigma_ser.audio.reading import read_audio
from sigma_ser.core.errors import DamagedStoreError, StoreError
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.encoders.encoder import Encoder, load_encoder
from sigma_ser.encoders.extraction import extract
from sigma_ser.encoders.index import read_card, read_index, shard_path
from sigma_ser.encoders.moments import Moments
from sigma_ser.encoders.store import FeatureStore
from sigma_ser.execution.executor import Executor, entered, load_executor


@pytest.fixture(scope="module")
def encoder(tiny: Callable[..., Path]) -> Encoder:
    """A real HubertModel, tiny."""
    return load_encoder(tiny("hubert"), layer=2)


@pytest.fixture(scope="module")
def finished(
    corpus: Corpus, encoder: Encoder, tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    """An undisturbed store of five shards."""
    folder = tmp_path_factory.mktemp("stores") / "finished"
    return extract(corpus, encoder, folder, shard_size=5)


@pytest.fixture
def copy(finished: FeatureStore, tmp_path: Path) -> Path:
    """A store to damage."""
    return Path(shutil.copytree(finished.folder, tmp_path / "copy"))


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a store."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_store_holds_what_the_encoder_gives(
    corpus: Corpus, encoder: Encoder, finished: FeatureStore, tmp_path: Path
) -> None:
    exact = extract(corpus, encoder, tmp_path / "exact", dtype="float32")
    names = [one.id for one in corpus.utterances]
    assert sorted(exact.ids) == sorted(finished.ids) == names
    assert exact.class_names == corpus.class_names
    batch, halves = exact.batch(names), finished.batch(names)
    for row, utterance in enumerate(corpus.utterances):
        expected = encoder.encode([read_audio(utterance.path)])[0]
        frames = len(expected)
        assert batch.lengths[row] == frames == exact.lengths([utterance.id])[0]
        torch.testing.assert_close(batch.x[row, :frames], expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(halves.x[row, :frames], expected, rtol=1e-3, atol=1e-4)
        assert not batch.x[row, frames:].any()
        assert corpus.class_names[exact.labels(names)[row]] == utterance.label
    assert exact.seconds(names)[0] == corpus.utterances[0].seconds
    assert exact.key != finished.key
    assert exact.card["encoder"] == encoder.card


def test_a_finished_store_is_not_touched_again(
    corpus: Corpus, encoder: Encoder, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(encoder), "encode", lambda *_: pytest.fail("computed again"))
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.*") if path.suffix}
    reported: list[tuple[int, int]] = []
    extract(corpus, encoder, copy, shard_size=5, progress=lambda *now: reported.append(now))
    assert reported == [(23, 23)]
    assert {path: path.stat().st_mtime_ns for path in before} == before


class Backwards:
    """An executor elsewhere whose last task ends first."""

    workers, in_process = 3, False

    def completed(
        self, function: Callable[[Any], Any], tasks: Sequence[Any]
    ) -> Iterator[tuple[int, Any]]:
        """Yield in reverse."""
        with entered(function):
            for position in reversed(range(len(tasks))):
                yield position, function(pickle.loads(pickle.dumps(tasks[position])))


@pytest.mark.parametrize(
    "executor", [Backwards(), load_executor("processes", workers=1)], ids=["backwards", "processes"]
)
def test_the_bytes_do_not_depend_on_the_executor(
    executor: Executor, corpus: Corpus, encoder: Encoder, finished: FeatureStore, tmp_path: Path
) -> None:
    reported: list[int] = []
    extract(corpus, encoder, tmp_path / "p", shard_size=5, executor=executor,
            progress=lambda done, _: reported.append(done))  # fmt: skip
    assert contents(tmp_path / "p") == contents(finished.folder)
    assert reported[0] == 0
    assert reported[-1] == 23
    assert reported == sorted(reported)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_killed_ten_times_it_has_the_bytes_of_an_undisturbed_one(
    corpus: Corpus, encoder: Encoder, finished: FeatureStore, tmp_path: Path
) -> None:
    folder, rng = tmp_path / "killed", random.Random(5)
    kills = 0
    # Short lives at first, then longer ones, so that some work gets done between the kills.
    for attempt in range(10):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            extract(corpus, encoder, folder, shard_size=5)
            os._exit(0)
        time.sleep(rng.uniform(0, 0.02 + 0.02 * attempt))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += os.WIFSIGNALED(status)
    assert kills >= 3
    extract(corpus, encoder, folder, shard_size=5)
    assert contents(folder) == contents(finished.folder)


def test_an_interrupted_extraction_goes_on_at_the_shard(
    corpus: Corpus, encoder: Encoder, finished: FeatureStore, tmp_path: Path
) -> None:
    folder = tmp_path / "interrupted"

    def stop(done: int, _: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(corpus, encoder, folder, shard_size=5, progress=stop)
    reader = FeatureStore(folder)
    assert not reader.complete
    assert len(reader) == 10
    early = reader.batch(reader.ids[:3])
    missing = next(name for name in finished.ids if name not in reader)
    with pytest.raises(StoreError, match="not finished"):
        reader.batch([missing])
    reported: list[int] = []
    extract(corpus, encoder, folder, shard_size=5, progress=lambda done, _: reported.append(done))
    assert reported[0] == 10
    assert contents(folder) == contents(finished.folder)
    # The reader was open all the while, and sees the rest when it looks again.
    reader.refresh()
    assert reader.complete
    assert torch.equal(reader.batch(early.ids).x, early.x)
    assert len(reader.batch([missing])) == 1


def test_statistics_equal_numpy_in_float64(finished: FeatureStore) -> None:
    names = finished.ids[3:17]
    frames = torch.cat([finished.batch([name]).x[0] for name in names]).double().numpy()
    found = finished.statistics(names)
    np.testing.assert_allclose(found.mean.numpy(), frames.mean(0), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(found.std.numpy(), frames.std(0), rtol=1e-6)
    np.testing.assert_array_equal(found.min.numpy(), frames.min(0).astype(np.float32))
    np.testing.assert_array_equal(found.max.numpy(), frames.max(0).astype(np.float32))
    again = finished.statistics([*names[::-1], names[0]])
    assert torch.equal(found.mean, again.mean)
    assert torch.equal(found.std, again.std)
    with pytest.raises(StoreError, match="at least one frame"):
        finished.statistics([])


def test_statistics_keep_a_small_spread_beside_a_large_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = [1e6 + torch.randn(n, 4, generator=generator).double() for n in (1, 40, 7, 300)]
    moments = Moments(4)
    for block in blocks:
        moments.add(block)
    whole = torch.cat(blocks)
    torch.testing.assert_close(moments.statistics().std.double(), whole.std(0, correction=0),
                               rtol=1e-6, atol=0)  # fmt: skip
    # The control: sums of squares in float32 lose it altogether.
    naive = whole.float().square().mean(0) - whole.float().mean(0).square()
    assert (naive - 1).abs().max() > 0.5


def test_damage_is_found_named_and_repaired(
    corpus: Corpus, encoder: Encoder, finished: FeatureStore, copy: Path
) -> None:
    flipped = shard_path(copy, 1)
    data = bytearray(flipped.read_bytes())
    data[-7] ^= 1
    flipped.write_bytes(data)
    cut = shard_path(copy, 2)
    cut.write_bytes(cut.read_bytes()[:-100])
    shard_path(copy, 4).unlink()
    store = FeatureStore(copy)
    assert sorted(store.damaged()) == [1, 2, 4]
    for shard, what in ((1, "has changed"), (2, "has changed|damaged"), (4, "missing")):
        lost = next(entry.id for entry in store._entries.values() if entry.shard == shard)
        with pytest.raises(DamagedStoreError, match=f"part-0000{shard}.* ({what})") as raised:
            store.batch([lost])
        assert raised.value.path == shard_path(copy, shard)
    extract(corpus, encoder, copy, shard_size=5)
    # What is missing comes back by itself; checking every byte is asked for.
    assert sorted(FeatureStore(copy).damaged()) == [1, 2]
    repaired = extract(corpus, encoder, copy, shard_size=5, repair=True)
    assert not repaired.damaged()
    assert contents(copy) == contents(finished.folder)


def test_no_flipped_bit_of_card_or_index_passes_unnoticed(copy: Path) -> None:
    rng = random.Random(3)
    card, entries = read_card(copy), list(read_index(copy)[0])
    for name in ("store.json", "index.parquet") * 40:
        whole = (copy / name).read_bytes()
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        (copy / name).write_bytes(changed)
        with contextlib.suppress(DamagedStoreError):
            assert read_card(copy) == card
            # A changed digest of a shard is found when the shard is read.
            assert list(read_index(copy)[0]) == entries
        (copy / name).write_bytes(whole)


def test_what_a_killed_extraction_leaves_is_cleared_by_the_next(
    corpus: Corpus, encoder: Encoder, finished: FeatureStore, copy: Path
) -> None:
    # A folder of `whole_file`, a file inside that safetensors began, and that of earlier versions.
    for name in (".index.parquet.0a1b2c3d/index.parquet", "shards/.tmpAb3dE9",
                 "shards/.part-00001.safetensors.89abcdef/.tmpAb3dE9"):  # fmt: skip
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"half")
    extract(corpus, encoder, copy, shard_size=5)
    assert contents(copy) == contents(finished.folder)


def test_a_folder_that_belongs_to_others_is_left_alone(
    corpus: Corpus, encoder: Encoder, tiny: Callable[..., Path], copy: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="another encoder"):
        extract(corpus, load_encoder(tiny("hubert"), layer=1), copy, shard_size=5)
    with pytest.raises(StoreError, match="another dtype"):
        extract(corpus, encoder, copy, shard_size=5, dtype="float32")
    with pytest.raises(StoreError, match="another shard_size"):
        extract(corpus, encoder, copy)
    fewer = dataclasses.replace(corpus, utterances=corpus.utterances[:-1])
    with pytest.raises(StoreError, match="another corpus"):
        extract(fewer, encoder, copy, shard_size=5)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.tex").touch()
    with pytest.raises(StoreError, match="has other files"):
        extract(corpus, encoder, tmp_path / "own")
    with pytest.raises(StoreError, match="not a feature store"):
        FeatureStore(tmp_path / "own")
    with pytest.raises(StoreError, match="dtype must be one of"):
        extract(corpus, encoder, tmp_path / "new", dtype="float64")
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such lock")
def test_two_writers_do_not_meet(corpus: Corpus, encoder: Encoder, tmp_path: Path) -> None:
    def second(*_: int) -> None:
        extract(corpus, encoder, tmp_path / "store")

    with pytest.raises(StoreError, match="another process is extracting"):
        extract(corpus, encoder, tmp_path / "store", progress=second)


def test_a_full_disk_is_noticed_before_the_start(
    corpus: Corpus, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: space)
    with pytest.raises(StoreError, match=r"need about 0\.1 GB"):
        extract(corpus, encoder, tmp_path / "store")


def test_recordings_that_cannot_be_read_are_named(
    corpus: Corpus, encoder: Encoder, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.wav"
    empty.touch()
    bad = dataclasses.replace(corpus.utterances[4], path=empty)
    some = dataclasses.replace(corpus, utterances=(*corpus.utterances[:4], bad))
    store = extract(some, encoder, tmp_path / "store")
    assert list(store.quarantine) == [bad.id]
    assert len(store) == 4
    with pytest.raises(StoreError, match=r"has no features: .*empty"):
        store.batch([bad.id])
    with pytest.raises(StoreError, match="no utterance 'nobody'"):
        store.labels(["nobody"])


def test_values_beyond_float16_are_refused(
    corpus: Corpus, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = type(encoder).encode
    monkeypatch.setattr(
        type(encoder), "encode", lambda self, waves: [1e5 * x for x in plain(self, waves)]
    )
    with pytest.raises(StoreError, match='dtype="float32"'):
        extract(corpus, encoder, tmp_path / "half")
    assert len(extract(corpus, encoder, tmp_path / "whole", dtype="float32")) == 23


def test_batches_hold_similar_lengths_and_every_id_once(finished: FeatureStore) -> None:
    plain = list(finished.batches(finished.ids, 4))
    shuffled = list(finished.batches(finished.ids, 4, seed=1))
    for batches in (plain, shuffled):
        assert sorted(name for batch in batches for name in batch) == sorted(finished.ids)
        assert {len(batch) for batch in batches} == {4, 3}
    assert shuffled == list(finished.batches(finished.ids, 4, seed=1))
    assert shuffled != list(finished.batches(finished.ids, 4, seed=2))

    def padding(batches: list[tuple[str, ...]]) -> int:
        lengths = [finished.lengths(batch) for batch in batches]
        return sum(int((row.max() - row).sum()) for row in lengths)

    order = sorted(finished.ids)
    careless = [tuple(order[start : start + 4]) for start in range(0, len(order), 4)]
    assert padding(plain) <= padding(shuffled) < padding(careless)


def test_a_weighted_sum_of_all_layers_is_a_store_of_its_own(
    corpus: Corpus, tiny: Callable[..., Path], finished: FeatureStore, tmp_path: Path
) -> None:
    every = extract(corpus, load_encoder(tiny("hubert"), layer="all"), tmp_path, dtype="float32")
    assert (every.layers, every.dim, finished.layers) == (4, 128, 1)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    summed = every.weighted(weights)
    ids = every.ids[:3]
    whole = every.batch(ids)
    expected = sum(w * part for w, part in zip(weights, whole.x.split(32, dim=2), strict=True))
    torch.testing.assert_close(summed.batch(ids).x, expected)
    assert summed.dim == 32
    assert len({summed.key, every.key, every.weighted(weights.flip(0)).key}) == 3
    again = pickle.loads(pickle.dumps(summed))
    assert torch.equal(again.batch(ids).x, summed.batch(ids).x)
    # One weight of one picks a layer out, with its statistics.
    last = every.weighted(torch.tensor([0.0, 0.0, 0.0, 1.0])).statistics(ids)
    torch.testing.assert_close(last.std, every.statistics(ids).std[96:], rtol=1e-6, atol=0)
    with pytest.raises(StoreError, match="2 weights do not fit a store of 4 layers"):
        every.weighted(torch.ones(2))
    with pytest.raises(StoreError, match="a store of 1 layers"):
        finished.weighted(torch.ones(1))
