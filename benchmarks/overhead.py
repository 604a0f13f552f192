"""What a step of an attack costs beside the victim's own forward and backward pass.

    python benchmarks/overhead.py [--attack dual-averaging] [--batches 1 16 64]

Prints, for every registered head and batch size, the seconds of one forward and backward pass and
of one attack step (T 80, D 384, a random victim that nothing fools), and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sigma_ser.attacks.factory import attack
from sigma_ser.core import registry
from sigma_ser.core.budget import Budget
from sigma_ser.core.features import FeatureBatch
from sigma_ser.victims.victim import wrap

FRAMES, CHANNELS, CLASSES = 80, 384, 7


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time after one call to warm up."""
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


class Stubborn(torch.nn.Module):
    """A head that answers class 0 whatever happens, so that every step is made."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.head(x, lengths)
        return logits + torch.tensor([1e4] + [0.0] * (CLASSES - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attack", default="dual-averaging")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("head            B   forward+backward ms   step ms   ratio")
    for name in registry.names("head"):
        torch.manual_seed(0)
        victim = wrap(Stubborn(registry.get("head", name)(CHANNELS, CLASSES)).eval())
        for size in options.batches:
            measure(name, victim, size, options)


def measure(name: str, victim: object, size: int, options: argparse.Namespace) -> None:
    """Print the line of one head and batch size."""
    batch = FeatureBatch(torch.randn(size, FRAMES, CHANNELS), torch.full((size,), FRAMES))
    labels = torch.zeros(size, dtype=torch.long)
    made = attack(options.attack, steps=options.steps, losses=("margin",))
    fewer = attack(options.attack, steps=1, losses=("margin",))
    budget = Budget(sparsity=0.01, epsilon=0.5)

    def once() -> None:
        x = batch.x.clone().requires_grad_()
        logits = victim(x, batch.lengths)  # type: ignore[operator]
        torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)

    plain = seconds(once, options.repeats)
    # The difference of two runs leaves out what an attack pays once.
    long = seconds(lambda: made(victim, batch, labels, budget), options.repeats)
    short = seconds(lambda: fewer(victim, batch, labels, budget), options.repeats)
    step = (long - short) / (options.steps - 1)
    print(f"{name:14s} {size:3d} {1e3 * plain:21.2f} {1e3 * step:9.2f} {step / plain:7.2f}")


if __name__ == "__main__":
    main()
