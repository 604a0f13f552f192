"""Figures that claims about masked attacks rest on, each a function of bootstrap weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from sigma_ser.statistics.bootstrap import bootstrap_interval

from .paired import CONTEST, METHOD, TRIAL
from .rates import UTTERANCE

if TYPE_CHECKING:
    import polars as pl

MEASURE = "cosine"
# Values for weights `(R, N)` of the utterances, and the number of these.
Figure = tuple[Callable[[Float[np.ndarray, "R N"]], Float[np.ndarray, "R"]], int]
_ATTACK = ("attack", "attack_settings")
_DRAWS = 1000


class UntestableError(Exception):
    """The rows lack what a claim compares; the message says what."""


def reuse_cost(rows: pl.DataFrame) -> Figure:
    """Passes of attacks in masks, with each map once, over those of the same native attacks."""
    import polars as pl

    passes = (pl.col("forwards") + pl.col("backwards")).alias("passes")
    source = (
        pl.when(pl.col("mask_source") == "own")
        .then(pl.col("victim"))
        .otherwise(pl.col("mask_source"))
        .alias("source")
    )
    free = _native(rows).with_columns(passes)
    inside = _guided(rows, "own", "others").with_columns(passes, source)
    pairs = _joined(inside, free, [*CONTEST, *_ATTACK, *TRIAL], ["passes"])
    # A map serves every attack, budget, scope and victim.
    image = ["corpus", "encoder", "layer", "surface", "source", "explainer", "fold", "victim_seed",
             "utterance"]  # fmt: skip
    maps = pairs.unique(image, maintain_order=True).select(
        *UTTERANCE,
        (pl.col("mask_forwards") + pl.col("mask_backwards")).alias("passes"),
    )
    sums = _sums(pairs, "passes", "passes_other")
    of_maps = maps.group_by(UTTERANCE).agg(pl.col("passes").sum().alias("maps"))
    sums = sums.join(of_maps, on=UTTERANCE, how="left", maintain_order="left")
    whole = (sums["passes"] + sums["maps"]).to_numpy().astype(float)
    return _ratio(whole, sums["passes_other"].to_numpy().astype(float)), len(sums)


def carried_gain(rows: pl.DataFrame) -> Figure:
    """Gain over a random mask in masks of other victims, over that in the own mask."""
    import polars as pl

    place = [*CONTEST, *_ATTACK, *TRIAL, "scope"]
    own = _guided(rows, "own")
    pairs = _joined(_guided(rows, "others"), own, [*place, "explainer"], ["success"])
    pairs = _joined(pairs, _random(rows), place, ["success"], suffix="_random")
    pairs = pairs.with_columns(
        (pl.col("success").cast(float) - pl.col("success_random")).alias("gain"),
        (pl.col("success_other").cast(float) - pl.col("success_random")).alias("gain_own"),
    )
    sums = _sums(pairs, "gain", "gain_own")
    own_gain = sums["gain_own"].to_numpy()
    low, _ = bootstrap_interval(lambda weights: weights @ own_gain, len(sums), resamples=_DRAWS)
    if not low > 0:
        raise UntestableError("the own masks are not better than random ones of the same size")
    return _ratio(sums["gain"].to_numpy(), own_gain), len(sums)


def least_gain(rows: pl.DataFrame) -> Figure:
    """The smallest gain of an attack in own masks over random masks of the same size."""
    import polars as pl

    place = [*CONTEST, *_ATTACK, *TRIAL, "scope"]
    pairs = _joined(_guided(rows, "own"), _random(rows), place, ["success"])
    attacks = pairs["attack"].unique(maintain_order=True).to_list()
    if len(attacks) < 2:
        raise UntestableError("fewer than two attacks have both kinds of masks")
    pairs = pairs.with_columns((pl.col("success").cast(float) - pl.col("success_other")).alias("_"))
    known = pairs.select(UTTERANCE).unique(maintain_order=True)
    sums, counts = [], []
    for attack in attacks:
        here = pairs.filter(pl.col("attack") == attack).group_by(UTTERANCE)
        each = here.agg(pl.col("_").sum().alias("sum"), pl.len().alias("count"))
        each = known.join(each, on=UTTERANCE, how="left", maintain_order="left").fill_null(0)
        sums.append(each["sum"].to_numpy().astype(float))
        counts.append(each["count"].to_numpy().astype(float))
    total, count = np.stack(sums, 1), np.stack(counts, 1)

    def smallest(weights: Float[np.ndarray, "R N"]) -> Float[np.ndarray, "R"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(((weights @ total) / (weights @ count)).min(1))

    return smallest, len(known)


def success_loss(rows: pl.DataFrame) -> Figure:
    """Success of native attacks minus success in own masks, in the largest scope of the run."""
    import polars as pl

    guided = _guided(rows, "own")
    guided = guided.filter(pl.col("scope") == pl.col("scope").max().over("corpus", "surface"))
    place = [*CONTEST, *_ATTACK, *TRIAL]
    return _difference(_joined(guided, _native(rows), place, ["success"]), "success", sign=-1.0)


def consistency_gain(rows: pl.DataFrame) -> Figure:
    """Consistency after attacks in own masks minus that after the native attack."""
    measured = _measured(rows)
    place = [*CONTEST, *_ATTACK, *TRIAL]
    return _difference(
        _joined(_guided(measured, "own"), _native(measured), place, [MEASURE]), MEASURE
    )


def rank_correlation(rows: pl.DataFrame) -> Figure:
    """Kendall's rank correlation of success and consistency over methods of equal budget.

    Only methods that attack the prediction are compared: `sigma-mu` keeps it by definition.
    """
    import polars as pl

    measured = _measured(rows).filter(
        ~pl.col("attack").is_in(["random", "sigma-mu"]),
        pl.col("explainer").fill_null("") != "random",
    )
    known = measured.select(UTTERANCE).unique(maintain_order=True).with_row_index("_row")
    measured = measured.join(known, on=UTTERANCE, maintain_order="left")
    contests: list[tuple[Float[np.ndarray, "N M"], ...]] = []
    for _, part in measured.group_by(CONTEST, maintain_order=True):
        methods = part.select(METHOD).unique(maintain_order=True).with_row_index("_method")
        if len(methods) < 3:
            continue
        at = part.join(methods, on=METHOD, nulls_equal=True, maintain_order="left")
        place = at["_row"].to_numpy(), at["_method"].to_numpy()
        found = np.zeros((3, len(known), len(methods)))
        np.add.at(found[0], place, 1.0)
        np.add.at(found[1], place, at["success"].to_numpy().astype(float))
        np.add.at(found[2], place, at[MEASURE].to_numpy())
        contests.append(tuple(found))
    if not contests:
        raise UntestableError("fewer than three methods have a consistency at the same budget")

    def correlation(weights: Float[np.ndarray, "R N"]) -> Float[np.ndarray, "R"]:
        agreeing, pairs = np.zeros(len(weights)), 0
        for count, success, consistency in contests:
            one, other = np.triu_indices(count.shape[1], 1)
            with np.errstate(invalid="ignore", divide="ignore"):
                means = [
                    (weights @ values) / (weights @ count) for values in (success, consistency)
                ]
            signs = [np.sign(mean[:, one] - mean[:, other]) for mean in means]
            agreeing += np.nansum(signs[0] * signs[1], axis=1)
            pairs += len(one)
        return agreeing / pairs

    return correlation, len(known)


def _native(rows: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return rows.filter(pl.col("explainer").is_null() & (pl.col("attack") != "random"))


def _random(rows: pl.DataFrame) -> pl.DataFrame:
    """One random mask for each trial."""
    import polars as pl

    found = rows.filter(pl.col("explainer") == "random")
    return found.unique([*CONTEST, *_ATTACK, *TRIAL, "scope"], maintain_order=True)


def _guided(rows: pl.DataFrame, *sources: str) -> pl.DataFrame:
    """Rows of attacks in the masks of explanations, of the attacked or of other victims."""
    import polars as pl

    source, victim = pl.col("mask_source"), pl.col("victim")
    own = (source == "own") | (source == victim)
    other = ~own & ~source.is_in(["consensus", "universal"])
    kept = pl.any_horizontal([{"own": own, "others": other}[name] for name in sources])
    real = pl.col("explainer").is_not_null() & (pl.col("explainer") != "random")
    return rows.filter(real & kept)


def _measured(rows: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    return rows.filter(pl.col(MEASURE).fill_nan(None).is_not_null())


def _joined(
    rows: pl.DataFrame,
    other: pl.DataFrame,
    on: Sequence[str],
    values: Sequence[str],
    *,
    suffix: str = "_other",
) -> pl.DataFrame:
    """Rows beside the values of their counterparts."""
    import polars as pl

    key = list(dict.fromkeys(on))
    there = other.select(*key, *(pl.col(one).alias(f"{one}{suffix}") for one in values))
    pairs = rows.join(there, on=key, how="inner", nulls_equal=True, maintain_order="left")
    if pairs.is_empty():
        raise UntestableError("the run has no pair of attacks that this claim compares")
    return pairs


def _sums(pairs: pl.DataFrame, *columns: str) -> pl.DataFrame:
    import polars as pl

    return pairs.group_by(UTTERANCE, maintain_order=True).agg(pl.col(columns).sum())


def _difference(pairs: pl.DataFrame, column: str, *, sign: float = 1.0) -> Figure:
    """The mean of `column - column_other`, times a sign."""
    import polars as pl

    gap = sign * (pl.col(column).cast(float) - pl.col(f"{column}_other").cast(float))
    sums = pairs.group_by(UTTERANCE, maintain_order=True).agg(
        gap.sum().alias("gap"), pl.len().alias("count")
    )
    return _ratio(sums["gap"].to_numpy(), sums["count"].to_numpy().astype(float)), len(sums)


def _ratio(
    over: Float[np.ndarray, "N"], under: Float[np.ndarray, "N"]
) -> Callable[[Float[np.ndarray, "R N"]], Float[np.ndarray, "R"]]:
    def ratio(weights: Float[np.ndarray, "R N"]) -> Float[np.ndarray, "R"]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ over) / (weights @ under))

    return ratio
