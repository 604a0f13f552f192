"""Random reads: the feature store against one `.pt` file for each utterance.

    python benchmarks/store.py [--utterances 2798] [--dim 384] [--reads 2000]

Features are random numbers in float16, 60 to 150 frames, as TESS has. Both sides give float32
tensors in the same random order, from the page cache; each takes turns, the best round counts.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from measuring import record, write_records
from sigma_ser.core.files import file_digest, write_json
from sigma_ser.encoders.index import (
    CARD,
    FORMAT,
    INDEX,
    IndexRow,
    shard_path,
    write_index,
)
from sigma_ser.encoders.store import FeatureStore


def build(folder: Path, utterances: int, dim: int, shard_size: int = 250) -> None:
    """Write the same features as a store and as single files."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(60, 151, (utterances,), generator=generator).tolist()
    entries: list[IndexRow] = []
    digests: dict[int, str] = {}
    (folder / "files").mkdir(parents=True)
    (folder / "store" / "shards").mkdir(parents=True)
    for start in range(0, utterances, shard_size):
        shard, offset = start // shard_size, 0
        parts = []
        for number in range(start, min(start + shard_size, utterances)):
            part = torch.randn(lengths[number], dim, generator=generator).half()
            torch.save(part, folder / "files" / f"u{number}.pt")
            parts.append(part)
            entries.append(IndexRow(f"u{number}", 0, shard, offset, len(part), 320 * len(part)))
            offset += len(part)
        path = shard_path(folder / "store", shard)
        save_file({"features": torch.cat(parts)}, path)
        digests[shard] = file_digest(path)
    card = {
        "format": FORMAT,
        "corpus": {"name": "random", "key": "0", "labels": ["neutral"]},
        "encoder": {"dim": dim, "frame_seconds": 0.02},
        "encoder_key": "0",
        "dtype": "float16",
        "shards": len(digests),
        "shard_size": shard_size,
    }
    write_json(folder / "store" / CARD, card)
    write_index(folder / "store" / INDEX, entries, digests)


def seconds(read: Callable[[str], torch.Tensor], names: list[str]) -> float:
    """Time to read these one by one."""
    started = time.perf_counter()
    firsts = [float(read(name)[0, 0]) for name in names]
    spent = time.perf_counter() - started
    if not all(map(math.isfinite, firsts)):
        raise SystemExit("what was read is no number")
    return spent


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--utterances", type=int, default=2798)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--reads", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="figures as flat records, JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, arguments.utterances, arguments.dim)
        store = FeatureStore(folder / "store")
        rng = random.Random(0)
        names = [rng.choice(store.ids) for _ in range(arguments.reads)]

        def from_store(utterance: str) -> torch.Tensor:
            return store.features(utterance)

        def from_file(utterance: str) -> torch.Tensor:
            path = folder / "files" / f"{utterance}.pt"
            return torch.load(path, weights_only=True).float()

        def batch_of_32(read: Callable[[list[str]], object]) -> float:
            started = time.perf_counter()
            for start in range(0, len(names) - 31, 32):
                read(names[start : start + 32])
            return time.perf_counter() - started

        best = dict.fromkeys(("store", "files", "store_batches", "file_batches"), float("inf"))
        for _ in range(arguments.rounds):
            now = {
                "store": seconds(from_store, names),
                "files": seconds(from_file, names),
                "store_batches": batch_of_32(store.batch),
                "file_batches": batch_of_32(
                    lambda ids: torch.nn.utils.rnn.pad_sequence(
                        [from_file(utterance) for utterance in ids], batch_first=True
                    )
                ),
            }
            best = {side: min(best[side], value) for side, value in now.items()}
        setting = f"{arguments.utterances} utterances, D {arguments.dim}"
        write_records(arguments.out, [
            record("a read from the store", setting, best["store"] / len(names) * 1e6, "us"),
            record("times faster than files", setting, best["files"] / best["store"], "x"),
            record("times faster than files, batches of 32", setting,
                   best["file_batches"] / best["store_batches"], "x"),
        ])  # fmt: skip
        per_read = {side: value / len(names) * 1e6 for side, value in best.items()}
        print(
            json.dumps(
                {
                    "microseconds_per_utterance": {k: round(v, 1) for k, v in per_read.items()},
                    "times_faster": best["files"] / best["store"],
                    "times_faster_in_batches": best["file_batches"] / best["store_batches"],
                }
            )
        )


if __name__ == "__main__":
    main()
