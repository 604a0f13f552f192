"""How much of an attack on features a recording can cause, between a floor and a ceiling.

    python benchmarks/realisation.py --work WORK --out OUT --corpus tess tess-loso2 DATA/tess \\
        [--encoder demo] [--layer -1] [--context utterance] [--head mlp] [--utterances 24] \\
        [--steps 60] [--snr 34] [--sparsity 0.001 0.01 0.1] [--epsilon 0.5 2] [--table]

Trains the head on the first fold of the corpus, chooses recognised utterances of its test part, and
attacks their features with dual averaging. `ss.realise` then searches the recordings, within the
ratio `--snr`, whose features are closest to the perturbed ones. The floor is the same search for
random signs on the same support, and the ceiling is dual averaging on the recordings themselves at
the same ratio. All searches have `--steps` gradient steps.

Features and heads in WORK are used again. Each cell is written to OUT as soon as it is computed,
so a run continues where it was stopped; OUT also has `realisation.json` (flat records),
`realisation.md` and `realisation.png`. `--table` computes nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sigma_ser as ss
from measuring import record, write_records
from sigma_ser.core.files import safe_name, write_json
from sigma_ser.core.seeds import derive_seed
from sigma_ser.statistics.bootstrap import mean_interval
from sigma_ser.statistics.proportion import wilson_interval

CEILING = "on the recording"
Cell = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """An encoder with a head on its features, and the attacked utterances."""

    encoder: ss.Encoder
    victim: ss.Victim
    waves: ss.FeatureBatch
    batch: ss.FeatureBatch
    labels: Tensor


def prepare(given: argparse.Namespace) -> Setting:
    """Extract, train, and choose recognised utterances; what is in WORK is used again."""
    name, protocol, root = given.corpus
    corpus = ss.load_corpus(name, root or None)
    context = {} if given.encoder == "demo" else {"context": given.context or None}
    encoder = ss.load_encoder(given.encoder, layer=given.layer, **context)
    stem = safe_name(f"{name}-{Path(given.encoder).name}-{given.head}")
    store = ss.extract(corpus, encoder, given.work / f"{stem}-features")
    fold, folder = ss.make_folds(corpus, protocol)[0], given.work / f"{stem}-victim"
    if not (folder / "card.json").is_file():
        ss.train(store, fold, head=given.head).save(folder)
    victim = ss.load_victim(folder)
    order = sorted(fold.test, key=derive_seed)[: 4 * given.utterances]
    batch, labels = store.batch(order), store.labels(order)
    with torch.no_grad():
        right = victim(batch.x, batch.lengths).argmax(1) == labels
    rows = right.nonzero()[: given.utterances, 0]
    # Recordings of similar length share the batches of the attack on them.
    waves = ss.waveforms(corpus, [order[row] for row in rows.tolist()])
    sorted_rows = waves.lengths.argsort(stable=True)
    rows = rows[sorted_rows]
    return Setting(encoder, victim, waves.select(sorted_rows), batch.select(rows), labels[rows])


def tasks(given: argparse.Namespace) -> Iterator[Cell]:
    """The cells; those of the largest epsilon and of 1 % first."""
    shares = sorted(given.sparsity, key=lambda share: share != 0.01)
    for epsilon, share, unit in itertools.product(
        sorted(given.epsilon, reverse=True), shares, ("element", "frame")
    ):
        yield {"granularity": unit, "sparsity": share, "epsilon": epsilon}


def search(here: Setting, result: ss.AttackResult, given: argparse.Namespace) -> Cell:
    """The realisation of a result as columns."""
    found = ss.realise(
        here.encoder, here.victim, here.waves, here.batch, here.labels, result,
        snr=given.snr, steps=given.steps,
    )  # fmt: skip
    return {name: getattr(found, name).tolist() for name in ("realised", "reach", "leak")}


def on_features(here: Setting, task: Mapping[str, Any], given: argparse.Namespace) -> Cell:
    """Attack the features under one budget, and search recordings for it and for its floor."""
    attack = ss.make_attack("dual-averaging", steps=given.steps, rounds=1)
    result = ss.attack(attack, here.victim, here.batch, here.labels, ss.Budget(**task))
    random = ss.random_counterpart(here.victim, here.batch, here.labels, result)
    return {
        **task,
        "success": result.success.tolist(),
        "random_success": random.success.tolist(),
        "attack": search(here, result, given),
        "floor": search(here, random, given),
    }


def on_recordings(here: Setting, given: argparse.Namespace, at_once: int = 6) -> Cell:
    """The ceiling: dual averaging on all samples at the same ratio."""
    whole = ss.on_waveform(here.encoder, here.victim)
    attack = ss.make_attack("dual-averaging", steps=given.steps, rounds=1)
    realised: list[bool] = []
    for rows in torch.arange(len(here.labels)).split(at_once):
        waves = here.waves.select(rows)
        budget = ss.Budget.from_snr(waves, snr=given.snr, sparsity=1.0)
        found = ss.attack(attack, whole, waves, here.labels[rows], budget)
        realised += found.success.tolist()
    return {"granularity": CEILING, "attack": {"realised": realised}}


def share(hits: Sequence[bool]) -> tuple[float, float, float]:
    """A rate with its Wilson interval."""
    low, high = wilson_interval(np.array([sum(hits)]), np.array([len(hits)]))
    return sum(hits) / len(hits), float(low[0]), float(high[0])


def mean(values: Sequence[float]) -> tuple[float, float, float]:
    """A mean over utterances with its bootstrap interval; those without a value are left out."""
    known = np.array(values, float)
    if np.isnan(known).all():
        return math.nan, math.nan, math.nan
    return float(np.nanmean(known)), *mean_interval(known)


def figures(cell: Cell) -> dict[str, tuple[float, float, float]]:
    """The figures of a cell, each with its interval."""
    if cell["granularity"] == CEILING:
        return {"realised": share(cell["attack"]["realised"])}
    found = {"success on features": share(cell["success"])}
    for kind, title in (("attack", ""), ("floor", ", random signs")):
        found[f"realised{title}"] = share(cell[kind]["realised"])
        found[f"reach{title}"] = mean(cell[kind]["reach"])
        found[f"leak{title}"] = mean(cell[kind]["leak"])
    return found


def title(cell: Cell) -> str:
    """The budget of a cell in words."""
    if cell["granularity"] == CEILING:
        return "end-to-end attack on the recording"
    return f"{cell['granularity']}, {cell['sparsity']:.1%}, epsilon {cell['epsilon']:g}"


def table(cells: Sequence[Cell], given: argparse.Namespace) -> str:
    """Markdown: realised share, reach and leak, beside the floor and the ceiling."""

    def shown(value: tuple[float, float, float] | None) -> str:
        return "" if value is None else f"{value[0]:.0%} ({value[1]:.0%} to {value[2]:.0%})"

    count = len(cells[0]["attack"]["realised"])
    names = ("success on features", "realised", "reach", "leak", "realised, random signs",
             "reach, random signs")  # fmt: skip
    lines = [
        f"{given.corpus[0]}, encoder {Path(given.encoder).name}, head {given.head}: {count} "
        f"recognised test utterances, ratio at least {given.snr:g} dB, {given.steps} steps; "
        "95 % intervals\n",
        "| attack | " + " | ".join(names) + " |",
        "|---|" + "--:|" * len(names),
    ]
    for cell in cells:
        found = figures(cell)
        values = " | ".join(shown(found.get(name)) for name in names)
        lines.append(f"| {title(cell)} | {values} |")
    return "\n".join(lines) + "\n"


def plot(path: Path, cells: Sequence[Cell]) -> None:
    """Realised share against sparsity, with the floor dashed and the ceiling as a band."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    budgets = [cell for cell in cells if cell["granularity"] != CEILING]
    epsilons = sorted({cell["epsilon"] for cell in budgets})
    figure, panels = plt.subplots(
        1, len(epsilons), figsize=(3.4 * len(epsilons), 2.8), sharey=True, squeeze=False
    )
    for panel, epsilon in zip(panels[0], epsilons, strict=True):
        for unit, colour, marker in (("element", "#0072B2", "o"), ("frame", "#D55E00", "D")):
            row = sorted(
                (c for c in budgets if (c["epsilon"], c["granularity"]) == (epsilon, unit)),
                key=lambda c: c["sparsity"],
            )
            x = [100 * cell["sparsity"] for cell in row]
            for name, style in (("realised", "-"), ("realised, random signs", ":")):
                y = [figures(cell)[name] for cell in row]
                middle = [100 * value[0] for value in y]
                ends = [[100 * (v[0] - v[1]) for v in y], [100 * (v[2] - v[0]) for v in y]]
                bars = {"yerr": ends, "capsize": 2} if style == "-" else {}
                label = unit if style == "-" else f"{unit}, random signs"
                panel.errorbar(x, middle, color=colour, marker=marker, linestyle=style,
                               label=label, markersize=4, linewidth=1.2, **bars)  # fmt: skip
        for cell in cells:
            if cell["granularity"] == CEILING:
                value, low, high = (100 * one for one in figures(cell)["realised"])
                panel.axhspan(low, high, color="#DDDDDD", zorder=0)
                panel.axhline(value, color="#555555", linewidth=1, label="attack on the recording")
        panel.set(xscale="log", ylim=(-3, 103), title=f"epsilon {epsilon:g}",
                  xlabel="share of elements or frames, %")  # fmt: skip
    panels[0][0].set_ylabel("realised, % of utterances")
    panels[0][-1].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Compute the missing cells, and write what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="features and heads; reused")
    parser.add_argument("--out", type=Path, required=True, help="cells, records, table and plot")
    parser.add_argument("--corpus", nargs=3, metavar=("NAME", "PROTOCOL", "ROOT"),
                        default=("demo", "demo-voices", ""))  # fmt: skip
    parser.add_argument("--encoder", default="demo")
    parser.add_argument("--layer", type=int, default=-1)
    parser.add_argument("--context", default="utterance", help="of Whisper; '' for other encoders")
    parser.add_argument("--head", default="mlp")
    parser.add_argument("--utterances", type=int, default=24)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--snr", type=float, default=34.0)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.001, 0.01, 0.1])
    parser.add_argument("--epsilon", type=float, nargs="+", default=[0.5, 2.0])
    parser.add_argument("--table", action="store_true", help="use the cells that there are")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    here = None if given.table else prepare(given)
    cells = []
    for task in ({"granularity": CEILING}, *tasks(given)):
        path = given.out / (safe_name("-".join(map(str, task.values()))) + ".json")
        if here is not None and not path.exists():
            cell = on_recordings(here, given) if len(task) == 1 else on_features(here, task, given)
            write_json(path, {**cell, "ids": list(here.waves.ids)})
        if path.exists():
            cells.append(json.loads(path.read_text("utf-8")))
            shown = ", ".join(f"{k} {v[0]:.2f}" for k, v in figures(cells[-1]).items())
            print(f"{title(cells[-1])}: {shown}", flush=True)
    cells.sort(key=lambda c: (c["granularity"], c.get("epsilon", 0.0), c.get("sparsity", 0.0)))
    records = [
        record(name, title(cell), value, "", low=low, high=high)
        for cell in cells
        for name, (value, low, high) in figures(cell).items()
    ]
    write_records(given.out / "realisation.json", records)
    (given.out / "realisation.md").write_text(table(cells, given), "utf-8")
    plot(given.out / "realisation.png", cells)
    print(table(cells, given))


if __name__ == "__main__":
    main()
