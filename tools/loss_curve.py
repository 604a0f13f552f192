"""Draw a pretraining run's ``loss.csv``: python tools/loss_curve.py loss.csv loss.svg"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt


def draw(source: Path, target: Path) -> None:
    """Cross-entropy on the left; masked and visible regression error on the right."""
    with source.open() as file:
        rows = list(csv.DictReader(file))
    steps = [int(row["step"]) for row in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    left.plot(steps, [float(row["entropy"]) for row in rows], lw=1, color="#264653")
    left.set(xlabel="step", ylabel="cross-entropy (nats, mean of 4 books)")
    for key, colour in (("error_masked", "#e76f51"), ("error_seen", "#2a9d8f")):
        label = {"error_masked": "masked frames", "error_seen": "visible frames"}[key]
        right.plot(steps, [float(row[key]) for row in rows], lw=1, color=colour, label=label)
    right.set(xlabel="step", ylabel="squared error (variance 1)")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    # no date in the file: the same curve gives the same bytes
    plt.rcParams["svg.hashsalt"] = "loss"
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
