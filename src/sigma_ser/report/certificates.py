"""Certificates beside attacks: certified accuracy <= robust accuracy <= accuracy under attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .charts import LABEL_ROOM, Chart, thinned
from .formats import share
from .svg import Plot

if TYPE_CHECKING:
    import polars as pl

_UTTERANCE = ("corpus", "protocol", "encoder", "layer", "victim", "fold", "utterance")
_BUDGET = ("granularity", "sparsity", "epsilon")
# Columns of the mask inside which a bound holds.
MASK = ("explainer", "mask_source", "scope")
# One chart each.
_PANEL = ("title", "method", *MASK, "granularity", "epsilon")
_TICKS = [(v, f"{round(100 * v)}") for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]


@dataclass(frozen=True)
class Bracket:
    """What certificates and attacks leave open for one victim in one condition, over all folds.

    Attributes:
        title: the victim, with what distinguishes it from others of its name.
        method: of the certificate.
        proven: whether its bounds are proven.
        explainer, mask_source, scope: the mask inside which the bound holds; `None` without one.
        granularity, sparsity, epsilon: the budget.
        utterances: number of utterances, misclassified ones included.
        certified: number of utterances that no attack can make the victim misclassify.
        fooled: number of correctly classified utterances that an attack fooled.
        undecided: number of the other correctly classified utterances.
        wrong: number of utterances that are misclassified without an attack.
        contradictions: number of utterances that are certified and fooled. It must be zero.
    """

    title: str
    method: str
    proven: bool
    explainer: str | None
    mask_source: str | None
    scope: int | None
    granularity: str
    sparsity: float
    epsilon: float
    utterances: int
    certified: int
    fooled: int
    undecided: int
    wrong: int
    contradictions: int

    @property
    def mask(self) -> str:
        """The mask in words; empty without one."""
        if self.explainer is None:
            return ""
        owner = "" if self.mask_source == "own" else f" of {self.mask_source}"
        return f"{self.explainer} ×{self.scope}{owner}"

    @property
    def certified_accuracy(self) -> float:
        """Share of all utterances that are certified: a lower bound of the robust accuracy."""
        return self.certified / self.utterances

    @property
    def attacked_accuracy(self) -> float:
        """Share that no attack of the run fooled: an upper bound of the robust accuracy."""
        return (self.certified + self.undecided) / self.utterances


def brackets(rows: pl.DataFrame, certificates: pl.DataFrame | None) -> list[Bracket]:
    """Join certificates and attacks of a run.

    Args:
        rows: `rows.parquet`.
        certificates: `certificates.parquet`; `None` without certificates.

    Returns:
        One bracket for each victim, method, mask and budget. A bound without a mask holds for every
        attack, one inside a mask for the attacks inside the same mask. Certificates of a smoothed
        victim, which is another model than the attacked one, are left out.
    """
    import polars as pl

    if certificates is None or certificates.is_empty():
        return []
    bounds = certificates.filter(pl.col("method") != "frame-ablation")
    # A certificate says nothing about a waveform under a budget of the same numbers.
    rows = rows.filter(pl.col("surface") == "features")
    success = (pl.col("success") & pl.col("correct_before")).any().alias("fooled")
    anywhere, inside = [*_UTTERANCE, *_BUDGET], [*_UTTERANCE, *_BUDGET, *MASK]
    free = pl.col("explainer").is_null()
    joined = pl.concat(
        [
            bounds.filter(free).join(rows.group_by(anywhere).agg(success), on=anywhere),
            bounds.filter(~free).join(rows.group_by(inside).agg(success), on=inside),
        ]
    )
    group = [name for name in _UTTERANCE if name not in {"utterance", "fold"}]
    varying = [name for name in group if joined[name].n_unique() > 1 and name != "victim"]
    found = []
    right, certified, lost = pl.col("correct"), pl.col("certified"), pl.col("fooled")
    summary = joined.group_by(*group, "method", "proven", *MASK, *_BUDGET, maintain_order=True).agg(
        pl.len().alias("utterances"),
        (right & certified & ~lost).sum().alias("certified"),
        (right & lost).sum().alias("fooled"),
        (right & ~certified & ~lost).sum().alias("undecided"),
        (~right).sum().alias("wrong"),
        (certified & lost).sum().alias("contradictions"),
    )
    for line in summary.sort("epsilon", "sparsity", maintain_order=True).to_dicts():
        title = " · ".join([line["victim"], *(str(line[name]) for name in varying)])
        for name in group:
            del line[name]
        found.append(Bracket(title=title, **line))
    return found


def bracket_charts(found: Sequence[Bracket]) -> list[Chart]:
    """Certified accuracy and accuracy under attack over sparsity, one chart for each victim."""
    charts = []
    panels: dict[tuple[object, ...], list[Bracket]] = {}
    for one in found:
        panels.setdefault(tuple(getattr(one, name) for name in _PANEL), []).append(one)
    for line in panels.values():
        first = line[0]
        sparsities = [one.sparsity for one in line]
        if len(line) < 2:
            continue
        plot = Plot(
            x=(min(sparsities) / 1.2, max(sparsities) * 1.2),
            y=(0.0, 1.0),
            x_ticks=thinned(sparsities, [f"{100 * value:.3g}" for value in sparsities]),
            y_ticks=_TICKS,
            x_title="sparsity: values that may change, %",
            y_title="accuracy, %",
            logarithmic=True,
            label_room=LABEL_ROOM,
        )
        for style, label, values in (
            ("native", "under attack", [one.attacked_accuracy for one in line]),
            ("mask", "certified", [one.certified_accuracy for one in line]),
        ):
            plot.line(list(zip(sparsities, values, strict=True)), style, label=label)
            for x, y in zip(sparsities, values, strict=True):
                plot.point(x, y, style, title=f"{label}: {share(y)} at {share(x)}")
        units = "" if first.granularity == "element" else f", whole {first.granularity}s"
        mask = f" in {first.mask}" if first.mask else ""
        text = f"{first.title}{mask}, ε = {first.epsilon:g} σ{units} ({first.method})"
        drawn = plot.svg(f"Certified accuracy and accuracy under attack: {text}")
        charts.append(Chart(text, drawn, names=plot.names))
    return charts
