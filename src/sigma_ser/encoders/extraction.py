"""Extraction of a feature store from a corpus: shard by shard, resumable and deterministic."""

from __future__ import annotations

import contextlib
import shutil
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import EncoderError, StoreError
from sigma_ser.core.files import remove_unfinished, whole_file
from sigma_ser.core.locks import exclusive
from sigma_ser.core.progress import stage
from sigma_ser.core.records import Records
from sigma_ser.core.utterance import Utterance
from sigma_ser.corpora.corpus import Corpus
from sigma_ser.execution.executor import Executor
from sigma_ser.execution.inline import Inline

from .family import Encoder
from .index import (
    CARD,
    FORMAT,
    INDEX,
    read_card,
    read_table,
    shard_path,
    store_key,
    table_of,
    write_card,
    write_index,
)
from .read_ahead import ReadAhead
from .shards import DTYPES, ShardMaker, ShardReport, ShardTask, encode_shard
from .store import FeatureStore

if TYPE_CHECKING:
    import pyarrow as pa

# Disk space that must stay free beyond the estimate, for the index and other processes.
_SPARE_BYTES = 64 << 20

Progress = Callable[[int, int], None]


def extract(
    corpus: Corpus,
    encoder: Encoder,
    out: str | Path,
    dtype: str = "float16",
    *,
    shard_size: int = 250,
    executor: Executor | None = None,
    repair: bool = False,
    progress: Progress | None = None,
) -> FeatureStore:
    """Extract the features of a corpus into a folder, or resume an earlier extraction.

    Shards hold utterances of similar length. The batches depend on the corpus and the encoder only,
    so a store that was interrupted and resumed has the same bytes as one that was not.

    Args:
        corpus: recordings with labels.
        encoder: from `load_encoder`.
        out: folder of the store; it is created if it does not exist.
        dtype: data type of the stored features, `float16` or `float32`.
        shard_size: number of utterances of a shard, at least 1.
        executor: runs the shards; `None` runs them in this process and reads audio ahead in a
            thread. Other executors load the encoder once in each worker.
        repair: whether to check finished shards against their checksums and extract damaged ones
            again. Missing shards are always extracted again.
        progress: called with the numbers of finished and of all utterances, after each batch
            (inline) or shard.

    Returns:
        The finished store. Recordings that cannot be read are in its `quarantine`.

    Raises:
        StoreError: if `out` contains files that are not this store, or disk space is insufficient.
        EncoderError: if `encoder` is not an encoder.
    """
    if not isinstance(encoder, Encoder):
        raise EncoderError(f"encoder must be an encoder from ss.load_encoder, got {encoder!r}")
    folder = Path(out).absolute()
    if dtype not in DTYPES:
        raise StoreError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if shard_size < 1:
        raise StoreError(f"shard_size must be at least 1, got {shard_size}")
    executor = executor or Inline()
    shards = _shards(corpus.utterances, shard_size)
    card = {
        "format": FORMAT,
        "corpus": {
            "name": corpus.name,
            "key": corpus.key,
            "labels": list(corpus.class_names),
            "utterances": len(corpus.utterances),
        },
        "encoder": encoder.card,
        "encoder_key": encoder.key,
        "dtype": dtype,
        "shards": len(shards),
        "shard_size": shard_size,
    }
    classes = {label: position for position, label in enumerate(corpus.class_names)}
    tasks = [
        ShardTask(
            folder=folder,
            shard=shard,
            utterances=utterances,
            labels=array("i", (classes[label] for label in utterances.column("label"))),
            dtype=dtype,
        )
        for shard, utterances in enumerate(shards)
    ]
    if executor.in_process and not (folder / CARD).exists():
        # An encoder that cannot be loaded must not claim a folder.
        encoder.load()
    with _only_writer(folder, card), stage("features", len(corpus)) as advance:
        tables, digests = _finished(folder, repair)
        tasks = [task for task in tasks if task.shard not in digests]
        missing = sum(len(task.utterances) for task in tasks)
        count = _Counter(progress, advance, len(corpus))
        count(len(corpus) - missing)
        if missing:
            unread = chain.from_iterable(task.utterances for task in tasks)
            _check_space(folder, unread, encoder, dtype)
        for report in _made(executor, tasks, encoder, count):
            rows = sorted(report.entries, key=lambda entry: (entry.offset, entry.id))
            tables[report.shard], digests[report.shard] = table_of(rows), report.digest
            with whole_file(folder / INDEX) as aside:
                write_index(aside, [tables[shard] for shard in sorted(tables)], digests)
    return FeatureStore(folder)


def _made(
    executor: Executor, tasks: Sequence[ShardTask], encoder: Encoder, count: _Counter
) -> Iterator[ShardReport]:
    """Yield finished shards; in this process with one reader for all, in workers one for each."""
    if not executor.in_process:
        maker = ShardMaker(tuple(sorted(encoder.spec.items())))
        for position, report in executor.completed(maker, tasks):
            count(len(tasks[position].utterances))
            yield report
        return
    positions = {task.shard: position for position, task in enumerate(tasks)}
    with ReadAhead([task.utterances for task in tasks], encoder) as ahead:

        def make(task: ShardTask) -> ShardReport:
            return encode_shard(task, encoder, ahead.groups(positions[task.shard]), count)

        for _, report in executor.completed(make, tasks):
            yield report


def _shards(utterances: Sequence[Utterance], size: int) -> list[Records[Utterance]]:
    """Utterances sorted by length and divided into shards, so that batches are full."""
    lengths = ((one.seconds, one.id, row) for row, one in enumerate(utterances))
    order = array("q", (row for _, _, row in sorted(lengths)))
    records = utterances if isinstance(utterances, Records) else Records.of(Utterance, utterances)
    return [records.take(order[start : start + size]) for start in range(0, len(order), size)]


@contextlib.contextmanager
def _only_writer(folder: Path, card: dict[str, Any]) -> Iterator[None]:
    """Claim and lock the folder for this store, and remove partial files."""
    _claim(folder, card)
    busy = StoreError(
        f"another process is extracting into {folder}; wait for it, or choose another folder"
    )
    with exclusive(folder / ".lock", busy):
        remove_unfinished(folder)
        yield


def _claim(folder: Path, card: dict[str, Any]) -> None:
    if not (folder / CARD).exists():
        # A process that was killed while it wrote the card leaves a hidden file.
        if folder.exists() and (
            not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())
        ):
            raise StoreError(
                f"{folder} is not a feature store and has other files; "
                "choose an empty or new folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_card(folder, card)
        return
    old = read_card(folder)
    if (store_key(old), old["shard_size"]) == (store_key(card), card["shard_size"]):
        return
    differences = [
        f"another {what}"
        for what, found, wanted in (
            ("corpus", old["corpus"]["key"], card["corpus"]["key"]),
            ("encoder or setting of it", old["encoder_key"], card["encoder_key"]),
            ("dtype", old["dtype"], card["dtype"]),
            ("shard_size", old["shard_size"], card["shard_size"]),
        )
        if found != wanted
    ]
    raise StoreError(
        f"{folder} holds the features of {' and '.join(differences)}; choose another folder"
    )


def _finished(folder: Path, repair: bool) -> tuple[dict[int, pa.Table], dict[int, str]]:
    """Rows and checksums of the finished shards."""
    import pyarrow.compute as pc

    table, digests = read_table(folder)
    damaged = set(FeatureStore(folder).damaged()) if repair else {
        shard for shard in digests if not shard_path(folder, shard).is_file()
    }  # fmt: skip
    kept = {shard: value for shard, value in digests.items() if shard not in damaged}
    # The rows of a shard are contiguous.
    runs = zip(*pc.value_counts(table["shard"]).flatten(), strict=True)
    tables, start = {}, 0
    for shard, count in ((shard.as_py(), count.as_py()) for shard, count in runs):
        if shard in kept:
            tables[shard] = table.slice(start, count)
        start += count
    return tables, kept


def _check_space(
    folder: Path, utterances: Iterable[Utterance], encoder: Encoder, dtype: str
) -> None:
    frames = sum(encoder.frames(round(one.seconds * SAMPLE_RATE)) for one in utterances)
    needed = frames * encoder.dim * DTYPES[dtype].itemsize + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"the features need about {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB "
            "are free; choose another folder, a single layer, or float16"
        )


class _Counter:
    """Counts finished utterances and reports the progress."""

    def __init__(
        self, progress: Progress | None, advance: Callable[[int], None], total: int
    ) -> None:
        self._progress, self._advance, self._done, self._total = progress, advance, 0, total

    def __call__(self, more: int) -> None:
        self._done += more
        self._advance(more)
        if self._progress is not None:
            self._progress(self._done, self._total)
