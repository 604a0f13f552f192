"""How time and memory of an attack grow: with the work, and with attacks that share a mask.

    python benchmarks/growth.py [--part time memory sharing] [--heads ...] [--quick] [--out FILE]

The victim is one that nothing fools (`overhead.py`), so that every step is made; the attack is one
round of `dual-averaging` on the margin. CPU time of one thread, works in turns, medians and
quartiles over rounds. T 80, D 384, C 7, B 16, k 1 % where nothing else is said.

- `time`: seconds for each unit of work at every size, over those at the smallest. At most 1.15 in
  utterances N and, the transformer and other attention between frames excepted, in frames T, when
  these grow 8 times; channels D, classes C and the batch B are printed without a target. A figure
  below 1 says that what an attack pays once is spread over more work.
- `memory`: what an attack adds to the memory of its process (RssAnon, its peak over what is there
  when the victim is ready), over what a training step of the same batch adds (forward, backward
  with gradients of the parameters, AdamW): at most 2. Then what eight times as many batches add
  over what two add: at most 1.15. Each figure is from processes of its own, warmed up on a tiny
  batch. glibc's allocator is set to give every large tensor pages of its own
  (MALLOC_MMAP_THRESHOLD_), so that the figure is what is needed and not how its heap happens to be
  cut; what an attack adds inside its usual heap is printed beside it, as are the peaks of the whole
  processes, which are mostly imports.
- `sharing`: A attacks (B 4) inside one mask, explained once through a `MaskBank`, beside
  explaining for each. The cost of A over A times the cost of one is below 1, in passes and in
  seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from measuring import (
    anonymous_bytes,
    in_turns,
    peak_anonymous,
    ratio,
    record,
    table,
    write_records,
)
from overhead import CHANNELS, CLASSES, FRAMES, unfoolable
from sigma_ser.attacks.factory import make_attack
from sigma_ser.attacks.sigma import Sigma
from sigma_ser.core import registry
from sigma_ser.core.budget import Budget
from sigma_ser.core.features import FeatureBatch
from sigma_ser.explainers.explanation import make_explainer
from sigma_ser.masks.bank import MaskBank

# Heads whose own cost is quadratic in T.
QUADRATIC = {"transformer"}
BUDGET = Budget(sparsity=0.01, epsilon=0.5)


@dataclass(frozen=True)
class Size:
    """What is attacked: so many utterances, in batches."""

    utterances: int = 16
    frames: int = FRAMES
    channels: int = CHANNELS
    classes: int = CLASSES
    batch: int = 16

    def batches(self) -> Iterator[tuple[FeatureBatch, Tensor]]:
        """Random features, made as they are asked for, and the class that they keep."""
        rng = torch.Generator().manual_seed(0)
        for start in range(0, self.utterances, self.batch):
            rows = min(self.batch, self.utterances - start)
            x = torch.randn(rows, self.frames, self.channels, generator=rng)
            names = [f"u{start + row}" for row in range(rows)]
            lengths = torch.full((rows,), self.frames)
            yield FeatureBatch(x, lengths, names), torch.zeros(rows, dtype=torch.long)


# Axis: by field of Size, the values, and whether 8 times the work may take 8 times the seconds.
AXES: dict[str, tuple[str, tuple[int, ...]]] = {
    "N": ("utterances", (16, 32, 64, 128)),
    "T": ("frames", (40, 80, 160, 320)),
    "D": ("channels", (96, 192, 384, 768)),
    "C": ("classes", (2, 4, 8, 16)),
    "B": ("batch", (1, 4, 16, 64)),
}


def attacked(head: str, size: Size, steps: int) -> Callable[[], None]:
    """An attack on all utterances of a size."""
    victim = unfoolable(head, size.channels, size.classes)
    made = make_attack("dual-averaging", steps=steps, losses=("margin",), rounds=1)

    def work() -> None:
        for batch, labels in size.batches():
            made(victim, batch, labels, BUDGET)

    return work


def trained(head: str, size: Size) -> Callable[[], None]:
    """A bare training step on the first batch of a size."""
    module = unfoolable(head, size.channels, size.classes).module.train()
    optimizer = torch.optim.AdamW(module.parameters())

    def work() -> None:
        batch, labels = next(size.batches())
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(module(batch.x, batch.lengths), labels).backward()
        optimizer.step()

    return work


def time(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """How the seconds grow along every axis."""
    for head in options.heads:
        for axis in options.axes:
            field, values = AXES[axis]
            if options.quick:
                values = (values[0], values[-1])
            # As many utterances as the largest batch, so that B alone changes.
            usual = Size(utterances=64) if axis == "B" else Size()
            sizes = [replace(usual, **{field: value}) for value in values]
            works = [attacked(head, size, options.steps) for size in sizes]
            times = in_turns(works, options.rounds)
            yield record(f"seconds, {axis} {values[0]}", head, statistics.median(times[0]), "s")
            for value, taken in zip(values[1:], times[1:], strict=True):
                # The batch and the classes are no more work for each utterance.
                times_more = 1 if axis in {"B", "C"} else value / values[0]
                each = [seconds / times_more for seconds in taken]
                linear = axis == "N" or (axis == "T" and head not in QUADRATIC)
                last = linear and value == values[-1]
                yield record(
                    f"seconds for each unit of work, {axis} {value} over {axis} {values[0]}",
                    head, ratio(each, times[0]), "x", at_most=1.15 if last else None,
                )  # fmt: skip


def child(what: str, head: str, utterances: int, steps: int) -> None:
    """What a work adds to the memory of this process; prints it."""
    size = Size(utterances=utterances)
    tiny = Size(utterances=2, batch=2, frames=3)
    # What is loaded at the first use of anything is nobody's peak.
    (trained(head, tiny) if what == "training" else attacked(head, tiny, 2))()
    if what == "training":
        step = trained(head, size)

        def work() -> None:
            for _ in range(10):  # one alone may end between two looks at its memory
                step()
    else:
        work = attacked(head, size, steps)
    before = anonymous_bytes()
    print(json.dumps({"before": before, "peak": peak_anonymous(work)}))


def memory(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Peaks of an attack, of training, and of an attack on more utterances."""

    def whole(peaks: list[dict[str, float]]) -> list[float]:
        return [report["peak"] / 1e6 for report in peaks]

    def added(peaks: list[dict[str, float]]) -> list[float]:
        return [(report["peak"] - report["before"]) / 1e6 for report in peaks]

    def peaks(
        what: str, head: str, utterances: int, *, heap: bool = False
    ) -> list[dict[str, float]]:
        found = []
        pages = {} if heap else {"MALLOC_MMAP_THRESHOLD_": "65536"}
        for _ in range(options.processes):
            command = [sys.executable, __file__, "--child", what, head, str(utterances),
                       "--steps", str(options.steps)]  # fmt: skip
            report = subprocess.check_output(command, text=True, env={**os.environ, **pages})
            found.append(json.loads(report.splitlines()[-1]))
        return found

    for head in options.heads:
        training, one = peaks("training", head, 16), peaks("attack", head, 16)
        two, many = peaks("attack", head, 32), peaks("attack", head, 256)
        for name, found in (("a training step", training), ("an attack", one)):
            setting = f"{head}, B 16"
            yield record(f"peak of {name}", setting, statistics.median(whole(found)), "MB")
            yield record(f"added by {name}", setting, statistics.median(added(found)), "MB")
        heap = added(peaks("attack", head, 16, heap=True))
        yield record("added by an attack, usual heap", f"{head}, B 16", statistics.median(heap),
                     "MB")  # fmt: skip
        yield record("added by an attack over training", f"{head}, B 16",
                     ratio(added(one), added(training)), "x", at_most=2)  # fmt: skip
        yield record("added by an attack, N 256 over N 32", head, ratio(added(many), added(two)),
                     "x", at_most=1.15)  # fmt: skip


def sharing(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A attacks inside one mask, and inside a mask of each one's own."""
    explainer = make_explainer("integrated-gradients")
    batch, labels = next(Size(utterances=4).batches())
    counts = (1, 8) if options.quick else (1, 2, 4, 8)
    for head in options.heads:
        victim = unfoolable(head)
        inner = make_attack("dual-averaging", losses=("margin",), rounds=1)
        alone = Sigma(explainer, inner, scope=8)

        def shared(count: int, head: str = head, victim: Any = victim, inner: Any = inner) -> int:
            """The passes of an utterance."""
            with tempfile.TemporaryDirectory() as folder:
                bank = MaskBank(folder, explainer, victim, features="noise", fingerprint=head)
                report = bank.explain(batch, labels)
                passes = int(report.forwards[0] + report.backwards[0])
                for number in range(count):
                    mask = bank.mask(batch, labels, BUDGET, 8)
                    seeds = torch.arange(len(batch)) + number
                    result = inner(victim, batch, labels, BUDGET, mask=mask, seeds=seeds)
                    passes += int(result.forwards[0] + result.backwards[0])
            return passes

        def each(count: int, victim: Any = victim, alone: Any = alone) -> int:
            results = [
                alone(victim, batch, labels, BUDGET, seeds=torch.arange(len(batch)) + number)
                for number in range(count)
            ]
            return sum(int(result.forwards[0] + result.backwards[0]) for result in results)

        works = [lambda count=count: shared(count) for count in counts]
        times = in_turns([*works, lambda: each(1), lambda: each(counts[-1])], options.rounds)
        first = shared(1)
        for count, taken in zip(counts[1:], times[1:], strict=False):
            below = {"at_most": 1.0} if count == counts[-1] else {}
            yield record(f"passes, {count} attacks on one mask over {count} times one", head,
                         shared(count) / (count * first), "x", **below)  # fmt: skip
            yield record(
                f"seconds, {count} attacks on one mask over {count} times one", head,
                ratio([seconds / count for seconds in taken], times[0]), "x", **below,
            )  # fmt: skip
        yield record(f"passes, {counts[-1]} attacks on one mask over a mask for each", head,
                     shared(counts[-1]) / each(counts[-1]), "x")  # fmt: skip
        yield record(
            f"seconds, {counts[-1]} attacks on one mask over a mask for each", head,
            ratio(times[len(counts) - 1], times[-1]), "x",
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
        "time": time, "memory": memory, "sharing": sharing,
    }  # fmt: skip
    parser.add_argument("--part", nargs="+", choices=parts, default=list(parts))
    parser.add_argument("--heads", nargs="+", default=list(registry.names("head")))
    parser.add_argument("--axes", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=3, help="fresh ones for each peak")
    parser.add_argument("--quick", action="store_true", help="the ends of every axis alone")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        what, head, utterances = options.child
        child(what, head, int(utterances), options.steps)
        return
    found = []
    for part in options.part:
        print(f"\n## {part}\n", flush=True)
        lines = []
        for line in parts[part](options):
            lines.append(line)
            print(f"{line['name']}, {line['setting']}", file=sys.stderr, flush=True)
        print(table(lines), flush=True)
        found += lines
        write_records(options.out, found)


if __name__ == "__main__":
    main()
