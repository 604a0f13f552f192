"""What extraction costs beside the encoder itself: throughput, and memory as the corpus grows.

    python benchmarks/extraction.py [--corpus demo] [--root FOLDER] [--encoder demo] ...

Throughput: `extract` (reading, batching, encoding, writing) against a bare loop that has all audio
in memory and does nothing but encode the same groups. Both run in turns, the best of each counts.
`ratio` is of wall time; `ratio_of_main_thread` of the processor time of the thread that encodes,
which is what the wall shows where a core is free for the thread that reads.
Memory: peak RssAnon of a fresh process for 500 utterances and for all, or for a quarter of
`--utterances` and all of these (Linux).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from measuring import peak_anonymous, record, write_records
from sigma_ser.audio.reading import read_utterance
from sigma_ser.corpora.corpus import Corpus, load_corpus
from sigma_ser.encoders.encoder import Encoder, load_encoder
from sigma_ser.encoders.extraction import extract
from sigma_ser.encoders.read_ahead import read_groups


def first(corpus: Corpus, count: int | None) -> Corpus:
    """Every n-th utterance, `count` in all."""
    if count is None or count >= len(corpus.utterances):
        return corpus
    step = len(corpus.utterances) / count
    chosen = tuple(corpus.utterances[int(step * n)] for n in range(count))
    return dataclasses.replace(corpus, utterances=chosen)


def throughput(corpus: Corpus, encoder: Encoder, rounds: int) -> dict[str, float]:
    """Utterances a second: extraction, the bare loop, and their ratio."""
    ordered = sorted(corpus.utterances, key=lambda one: (one.seconds, one.id))
    shards = [ordered[start : start + 250] for start in range(0, len(ordered), 250)]
    groups = [
        [read_utterance(shard[row]) for row in rows]
        for shard in shards
        for rows in read_groups(shard, encoder)
    ]
    best = {"extract": float("inf"), "bare": float("inf")}
    own = dict(best)

    def timed(side: str, work: Callable[[], object]) -> None:
        wall, thread = time.perf_counter(), time.thread_time()
        work()
        best[side] = min(best[side], time.perf_counter() - wall)
        own[side] = min(own[side], time.thread_time() - thread)

    for _ in range(rounds):
        timed("bare", lambda: [encoder.encode(waves) for waves in groups])
        with tempfile.TemporaryDirectory() as folder:
            timed("extract", lambda: extract(corpus, encoder, Path(folder) / "store"))
    count = len(ordered)
    return {
        "utterances": count,
        "extract_per_second": count / best["extract"],
        "bare_per_second": count / best["bare"],
        "ratio": best["bare"] / best["extract"],
        "ratio_of_main_thread": own["bare"] / own["extract"],
    }


def peak_memory(corpus: Corpus, encoder: Encoder) -> int:
    """The largest RssAnon that is seen while the corpus is extracted."""

    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = extract(corpus, encoder, Path(folder) / "store")
            store.statistics(store.ids)

    return peak_anonymous(work, every=0.02)


def main() -> None:
    """Run and print one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", default="demo")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--encoder", default="demo")
    parser.add_argument("--layer", type=int, default=-1)
    parser.add_argument("--context")
    parser.add_argument("--utterances", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--out", type=Path, help="figures as flat records, JSON")
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory:
        peaks = {}
        given = arguments.utterances
        for count in (given // 4, given) if given else (500, 10**9):
            command = [
                sys.executable,
                __file__,
                *sys.argv[1:],
                "--peak",
                "--utterances",
                str(count),
            ]
            command.remove("--memory")
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = json.loads(out)
            peaks[found["utterances"]] = found["peak_bytes"]
        # A corpus of at most 500 utterances gives one figure.
        growth = max(peaks.values()) / peaks[min(peaks)] - 1
        print(json.dumps({"peak_bytes": peaks, "growth": growth}))
        write_records(arguments.out, [
            *(record("peak memory of extraction", f"{arguments.corpus}, {count} utterances",
                     peak / 1e6, "MB") for count, peak in peaks.items()),
        ])  # fmt: skip
        return
    corpus = first(load_corpus(arguments.corpus, arguments.root), arguments.utterances)
    encoder = load_encoder(arguments.encoder, arguments.layer, context=arguments.context)
    if arguments.peak:
        peak = peak_memory(corpus, encoder)
        print(json.dumps({"utterances": len(corpus.utterances), "peak_bytes": peak}))
        return
    found = throughput(corpus, encoder, arguments.rounds)
    print(json.dumps(found))
    units = {"utterances": "", "extract_per_second": "/s", "bare_per_second": "/s"}
    write_records(arguments.out, [
        record(f"extraction, {name.replace('_', ' ')}", arguments.corpus, value,
               units.get(name, "x")) for name, value in found.items()
    ])  # fmt: skip


if __name__ == "__main__":
    main()
