"""Paired comparisons of attacks on the same utterances: exact tests with Holm's correction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from sigma_ser.statistics.mcnemar import holm, mcnemar_counts
from sigma_ser.statistics.sign_flip import sign_flip

from .rates import UTTERANCE, attacks_only, correct_rows

if TYPE_CHECKING:
    import polars as pl

# Victim and budget: methods are compared within these.
CONTEST: tuple[str, ...] = (
    "corpus", "protocol", "encoder", "layer", "victim", "surface",
    "granularity", "sparsity", "epsilon", "budget_snr",
)  # fmt: skip
# Columns that identify a method.
METHOD: tuple[str, ...] = ("attack", "attack_settings", "explainer", "mask_source", "scope")
# Columns that identify a trial of a method; trials of one utterance stay together in every test.
TRIAL: tuple[str, ...] = ("fold", "victim_seed", "attack_seed", "utterance")


def paired_comparisons(rows: pl.DataFrame) -> pl.DataFrame:
    """Compare every pair of methods on each victim and budget.

    Args:
        rows: the columns of `core.rows`; natural corruptions are left out.

    Returns:
        The columns of `CONTEST`; those of `METHOD` with the prefixes `first_` and `second_`; then
        `utterances` (correctly classified before, attacked by both), `trials` (the same, counted
        once for every seed and fold that both have), `only_first` and `only_second` (trials in
        which only one method succeeded), `difference` (of the success rates), `p` (exact: McNemar
        1947 where each utterance has one trial, else `statistics.sign_flip`, which keeps the
        trials of an utterance together) and `p_holm` (Holm 1979, over the pairs of the same victim
        and budget).
    """
    import polars as pl

    wanted = (*CONTEST, *METHOD, *TRIAL, *UTTERANCE, "success")
    correct = correct_rows(attacks_only(rows), *wanted)
    kinds = {"_contest": CONTEST, "_method": METHOD, "_trial": TRIAL, "_utterance": UTTERANCE}
    for name, columns in kinds.items():
        known = correct.select(columns).unique(maintain_order=True).with_row_index(name)
        correct = correct.join(known, on=columns, nulls_equal=True, maintain_order="left")
    numbers = correct.select(*kinds, "success").to_numpy().astype(np.int64)
    contests = correct.select(CONTEST).unique(maintain_order=True).rows()
    methods = correct.select(METHOD).unique(maintain_order=True).to_dicts()
    lines: list[dict[str, Any]] = []
    for number, contest in enumerate(contests):
        here = numbers[numbers[:, 0] == number]
        named, method = _numbered(here[:, 1])
        trials, trial = _numbered(here[:, 2])
        utterances, utterance = _numbered(here[:, 3])
        owner = np.zeros(len(trials), dtype=np.int64)
        owner[trial] = utterance
        tried = np.zeros((len(named), len(trials)))
        flipped = np.zeros_like(tried)
        tried[method, trial] = 1.0
        flipped[method, trial] = here[:, 4]
        # Counts of all pairs at once: trials of both, and successes of only one of them.
        both, alone = tried @ tried.T, flipped @ (tried - flipped).T
        first, second = np.triu_indices(len(named), 1)
        met = both[first, second] > 0
        first, second = first[met], second[met]
        if not len(first):
            continue
        ahead, behind = alone[first, second], alone[second, first]
        repeated = len(trials) > len(utterances)
        if repeated:
            pairs = zip(first.tolist(), second.tolist(), strict=True)
            p = np.array([_by_utterance(tried, flipped, owner, *pair) for pair in pairs])
        else:
            p = mcnemar_counts(ahead, behind)
        adjusted = holm(p)
        for at, (one, other) in enumerate(zip(first, second, strict=True)):
            count = int(both[one, other])
            met_in = tried[one] * tried[other] > 0
            lines.append(
                dict(zip(CONTEST, contest, strict=True))
                | {f"first_{name}": methods[named[one]][name] for name in METHOD}
                | {f"second_{name}": methods[named[other]][name] for name in METHOD}
                | {
                    "utterances": len(np.unique(owner[met_in])) if repeated else count,
                    "trials": count,
                    "only_first": int(ahead[at]),
                    "only_second": int(behind[at]),
                    "difference": float(ahead[at] - behind[at]) / count,
                    "p": float(p[at]),
                    "p_holm": float(adjusted[at]),
                }
            )
    return pl.DataFrame(lines, infer_schema_length=None)


def _by_utterance(
    tried: Float[np.ndarray, "M K"],
    flipped: Float[np.ndarray, "M K"],
    owner: Int[np.ndarray, "K"],
    one: int,
    other: int,
) -> float:
    """The sign-flip test of two methods; `owner` is the utterance of each trial."""
    ahead = tried[one] * tried[other] * (flipped[one] - flipped[other])
    return sign_flip(np.rint(np.bincount(owner, weights=ahead)).astype(np.int64))


def _numbered(
    values: Int[np.ndarray, "N"],
) -> tuple[Int[np.ndarray, "K"], Int[np.ndarray, "N"]]:
    """Unique values in order of first occurrence, and the index into them of each value."""
    found, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return found[order], place[inverse]
