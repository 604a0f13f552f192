"""Fronts of success against consistency of explanations, and the alarms of the same studies.

    python benchmarks/fronts.py --runs tess=RUN ravdess=RUN --out OUT

RUN is a finished run of `benchmarks/fronts.toml`: several weights of `sigma-lambda`, `sigma-mu`,
other attacks and `[alarm]`, at one budget. OUT receives `fronts.md` and `fronts.png`: for each
victim the points of the front with their 95 % intervals, the other attacks that pass the front,
and the alarms.

An attack passes the front on a measure where no point of `sigma-lambda` or `sigma-mu` has both at
least its success rate and at least its consistency. Its distance is then that to the most
consistent point of at least its success rate, with a paired bootstrap interval over utterances.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from sigma_ser.evaluate.alarm.table import EVASION, NONE
from sigma_ser.report.display_names import method_names
from sigma_ser.statistics.bootstrap import bootstrap_interval
from sigma_ser.statistics.proportion import wilson_interval

MEASURES = {
    "topk_intersection": "top-k overlap", "cosine": "cosine", "spearman": "rank correlation",
}  # fmt: skip
FRONT = ("sigma-lambda", "sigma-mu")
METHOD = ("attack", "attack_settings", "explainer", "mask_source", "scope")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Point:
    """One attack on one victim: outcomes and consistencies of the utterances."""

    attack: str
    title: str
    success: np.ndarray
    kept: dict[str, np.ndarray]

    @property
    def rate(self) -> float:
        """Success rate."""
        return float(self.success.mean())

    def mean(self, measure: str) -> float:
        """Mean consistency."""
        return float(self.kept[measure].mean())


def interval(values: np.ndarray) -> tuple[float, float]:
    """The ends of the bootstrap interval of a mean."""
    low, high = bootstrap_interval(
        lambda weights: weights @ values / weights.sum(1), len(values), resamples=2000
    )
    return float(low), float(high)


def points(rows: pl.DataFrame) -> Iterator[tuple[str, list[Point]]]:
    """The attacks on each victim, over the utterances that it classifies correctly."""
    right = rows.filter("correct_before").sort("utterance")
    for victim in rows["victim"].unique(maintain_order=True):
        part = right.filter(pl.col("victim") == victim)
        others = part.select("attack", "attack_settings").unique(maintain_order=True).to_dicts()
        found = []
        for _, one in part.group_by(METHOD, maintain_order=True):
            attack, explanation, mask = method_names(one.row(0, named=True), others)
            title = attack if explanation == "–" else f"{attack} in {explanation}, {mask}"
            kept = {name: one[name].to_numpy() for name in MEASURES}
            success = one["success"].to_numpy().astype(float)
            found.append(Point(one["attack"][0], title, success, kept))
        yield str(victim), sorted(found, key=_place)


def _place(point: Point) -> tuple[int, float]:
    """The front first, in the order of its weights."""
    place = FRONT.index(point.attack) if point.attack in FRONT else len(FRONT)
    _, _, weight = point.title.partition("(weight ")
    return place, float(weight.rstrip(")")) if weight else 0.0


def passing(found: list[Point], measure: str) -> Iterator[str]:
    """The attacks that pass the front, with their distance to it."""
    front = [point for point in found if point.attack in FRONT]
    for other in found:
        if other.attack in (*FRONT, "random"):
            continue
        rivals = [point for point in front if point.rate >= other.rate]
        if not rivals:
            yield f"{other.title} (success {100 * other.rate:.0f} %, above every point)"
            continue
        best = max(rivals, key=lambda point: point.mean(measure))
        gap = other.kept[measure] - best.kept[measure]
        if gap.mean() > 0:
            low, high = interval(gap)
            yield f"{other.title} (+{gap.mean():.3f}, {low:.3f} to {high:.3f})"


def tables(corpus: str, rows: pl.DataFrame, alarms: pl.DataFrame) -> Iterator[str]:
    """Fronts, attacks that pass them, and alarms of one run as Markdown."""
    names = list(MEASURES.values())
    yield "| corpus, victim | attack | success | " + " | ".join(names) + " |"
    yield "|---|---|--:|" + "--:|" * len(names)
    passed: list[str] = []
    for victim, found in points(rows):
        count = len(found[0].success)
        for point in found:
            hits = int(point.success.sum())
            low, high = (100 * float(one[0]) for one in
                         wilson_interval(np.array([hits]), np.array([count])))  # fmt: skip
            figures = [f"{100 * point.rate:.0f} ({low:.0f} to {high:.0f})"]
            for name in MEASURES:
                ends = " to ".join(f"{one:.3f}" for one in interval(point.kept[name]))
                figures.append(f"{point.mean(name):.3f} ({ends})")
            yield f"| {corpus}, {victim} ({count}) | {point.title} | {' | '.join(figures)} |"
        for name, title in MEASURES.items():
            listed = "; ".join(passing(found, name)) or "none"
            passed.append(f"| {corpus}, {victim} | {title} | {listed} |")
    yield from ("", "| corpus, victim | measure | attacks that pass the front |", "|---|---|---|")
    yield from passed
    yield from alarm_lines(corpus, alarms)


def alarm_lines(corpus: str, alarms: pl.DataFrame) -> Iterator[str]:
    """Success, AUROC and rate at 5 % false alarms of each alarm."""
    kinds = ("map", "margin", "all")
    yield ""
    yield "| corpus, victim | attack | success | " + " | ".join(f"`{k}`" for k in kinds) + " |"
    yield "|---|---|--:|" + "--:|" * len(kinds)
    for (victim,), part in alarms.group_by("victim", maintain_order=True):
        others = part.select("attack", "attack_settings").unique(maintain_order=True).to_dicts()
        for _, one in part.group_by(METHOD, maintain_order=True):
            first = one.row(0, named=True)
            title = {EVASION: "attack that knows the alarm", NONE: "other clean utterances"}.get(
                first["attack"]
            )
            if title is None:
                attack, explanation, mask = method_names(first, others)
                title = attack if explanation == "–" else f"{attack} in {explanation}, {mask}"
            by_kind = {line["alarm"]: line for line in one.to_dicts()}
            rates = [by_kind[kind]["asr"] for kind in kinds if kind in by_kind]
            shown = rates if first["attack"] == EVASION else rates[:1]
            success = ", ".join(f"{100 * rate:.0f}" for rate in shown if rate is not None)
            figures = [detected(by_kind.get(kind)) for kind in kinds]
            yield f"| {corpus}, {victim} | {title} | {success} | {' | '.join(figures)} |"


def detected(line: dict[str, float] | None) -> str:
    """AUROC with its interval, and in brackets the rate at 5 % false alarms with its interval."""
    if line is None or line["auroc"] is None:
        return ""
    ends = f"{line['auroc_low']:.2f} to {line['auroc_high']:.2f}"
    rate, low, high = (100 * line[name] for name in ("rate", "rate_low", "rate_high"))
    return f"{line['auroc']:.2f}, {ends} ({rate:.0f} %, {low:.0f} to {high:.0f})"


def plot(path: Path, runs: dict[str, pl.DataFrame]) -> None:
    """Success against each measure, with the front of each victim and the other attacks."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        len(runs), len(MEASURES), figsize=(10.5, 3.2 * len(runs)), squeeze=False
    )
    for row, (corpus, rows) in zip(panels, runs.items(), strict=True):
        for colour, (victim, found) in zip(COLOURS, points(rows), strict=False):
            for panel, (name, title) in zip(row, MEASURES.items(), strict=True):
                for attack, style in ((FRONT[0], "o-"), (FRONT[1], "D")):
                    here = [one for one in found if one.attack == attack]
                    x = [100 * one.rate for one in here]
                    y = [one.mean(name) for one in here]
                    ends = np.array([interval(one.kept[name]) for one in here])
                    bars = np.abs(ends.T - np.array(y)) if here else None
                    label = victim if attack == FRONT[0] else None
                    panel.errorbar(x, y, yerr=bars, fmt=style, color=colour, markersize=4,
                                   linewidth=1.2, capsize=2, label=label)  # fmt: skip
                others = [one for one in found if one.attack not in (*FRONT, "random")]
                panel.plot([100 * one.rate for one in others], [one.mean(name) for one in others],
                           "x", color=colour, markersize=4, alpha=0.7)  # fmt: skip
                panel.set(xlim=(-4, 104), title=f"{corpus}: {title}")
                panel.grid(alpha=0.2)
        row[0].legend(fontsize=8, frameon=False, loc="lower right")
    for panel in panels[-1]:
        panel.set_xlabel("success, % of utterances")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="+", required=True, help="NAME=RUN")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    folders = {name: Path(folder) for name, _, folder in
               (one.partition("=") for one in options.runs)}  # fmt: skip
    runs = {name: pl.read_parquet(folder / "rows.parquet") for name, folder in folders.items()}
    options.out.mkdir(parents=True, exist_ok=True)
    texts = [
        "\n".join(tables(name, runs[name], pl.read_csv(folder / "analysis" / "alarm.csv")))
        for name, folder in folders.items()
    ]
    (options.out / "fronts.md").write_text("\n\n".join(texts) + "\n", "utf-8")
    plot(options.out / "fronts.png", runs)
    print("\n\n".join(texts))


if __name__ == "__main__":
    main()
