"""The results of an audit in sentences, for a reader who is no engineer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sigma_ser.core.gradient_signs import masked_warning
from sigma_ser.evaluate.groups import worst_case

if TYPE_CHECKING:
    import polars as pl

# A class with fewer attacked utterances is too small for a statement.
_ENOUGH = 3
_WHERE = {"features": "this recogniser", "waveform": "this recogniser on the waveform"}
_NATURAL = {
    "white-noise": "steady hiss (white noise)",
    "speech-shaped-noise": "noise with the sound of many voices (speech-shaped noise)",
    "reverberation": "the echo of a room (reverberation)",
    "gain": "a lower volume (gain)",
    "telephone": "a telephone line",
    "mp3": "MP3 coding",
    "opus": "Opus coding, as in internet calls",
    "resampling": "a lower sample rate",
}


def summary(record: Mapping[str, Any]) -> str:
    """The verdict as one sentence.

    A finding comes first, since it decides how every figure is to be read.
    """
    name, findings = record["model"]["name"], record["findings"]
    results = [line["result"] for line in record["criteria"]]
    failed = [line["name"] for line in record["criteria"] if line["result"] == "fail"]
    match record["verdict"]:
        case "pass":
            sentence = f"{name} meets all {len(results)} declared criteria."
        case "fail":
            sentence = (
                f"{name} does not meet {len(failed)} of {len(results)} declared criteria: "
                f"{'; '.join(failed)}."
            )
        case "inconclusive":
            passed = results.count("pass")
            sentence = (
                f"Inconclusive: these results do not decide whether {name} meets the declared "
                f"criteria: {passed} of {len(results)} are passed, the others are not decided."
            )
        case _:
            sentence = "No criteria were declared, so there is no verdict."
    return " ".join([*(finding["text"] for finding in findings[:1]), sentence])


def verdict(
    rows: pl.DataFrame,
    uar: float,
    checks: Mapping[str, Mapping[str, Any] | None] = MappingProxyType({}),
) -> str:
    """The result of an audit: smallest harmful budget on each surface, weakest class, explanations.

    Where there are signs of masked gradients, a warning precedes it.

    Args:
        rows: of the audit's run.
        uar: of the victim on clean recordings.
        checks: the record of the gradient check on each surface.
    """
    import polars as pl

    signs = {where: (check or {}).get("signs", ()) for where, check in checks.items()}
    sentences = [masked_warning(_WHERE[where], found) for where, found in signs.items() if found]
    attacked = rows.filter(pl.col("granularity").is_not_null())["surface"].unique().sort()
    for number, surface in enumerate(attacked):
        beginning = f"It recognises the emotions with {100 * uar:.0f} % UAR, and" * (number == 0)
        here = rows.filter(pl.col("surface") == surface)
        sentences.append(_on_surface(here, surface, beginning or "On the audio itself,"))
    return " ".join(sentences)


def _on_surface(rows: pl.DataFrame, surface: str, beginning: str) -> str:
    import polars as pl

    cases = worst_case(rows).drop_nulls("worst_case_asr")
    if not len(cases):
        return "It classifies none of the attacked recordings correctly, so no attack is possible."
    case = _most_informative(cases.to_dicts())
    same = [pl.col(name).eq_missing(case[name]) for name in ("sparsity", "epsilon", "budget_snr")]
    here = rows.filter(same)
    sentence = (
        f"{beginning} changing {_change(case)} misclassifies {case['flipped']} of "
        f"{case['utterances']} utterances ({100 * case['worst_case_asr']:.0f} %)"
    )
    labels = worst_case(here, ["label"]).filter(pl.col("utterances") >= _ENOUGH)
    if len(labels) > 1:
        weakest = labels.sort("worst_case_asr", descending=True).row(0, named=True)
        sentence += f", most easily {weakest['label']} ({100 * weakest['worst_case_asr']:.0f} %)"
    flipped_rows = here.filter(pl.col("correct_before") & pl.col("success"))
    kept = flipped_rows["topk_intersection"].mean()
    floor = flipped_rows["topk_intersection_floor"].mean()
    if isinstance(kept, float) and isinstance(floor, float):
        sentence += (
            f", while its explanations keep {100 * kept:.0f} % of their most salient values "
            f"(random perturbations of that size leave {100 * floor:.0f} %)"
        )
    return sentence + "."


def _change(case: Mapping[str, Any]) -> str:
    """What a budget allows to change, in words."""
    share = f"{100 * case['sparsity']:g} %"
    if case["surface"] == "features":
        return f"{share} of its feature values by at most {case['epsilon']:g} standard deviations"
    if case["budget_snr"] is None:
        return f"{share} of the samples by at most {case['epsilon']:g} of full scale"
    return (
        f"{share} of the samples at a signal-to-noise ratio of at least {case['budget_snr']:g} dB"
    )


def _size(case: Mapping[str, Any]) -> tuple[float, float, float]:
    """The order of budgets, smallest first: fewer elements, then smaller or quieter changes."""
    return case["sparsity"], case["epsilon"] or 0.0, -(case["budget_snr"] or 0.0)


def _most_informative(cases: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The smallest budget at which half of the utterances are misclassified.

    Where there is none, the smallest with the largest share.
    """
    cases = sorted(cases, key=_size)
    half = [case for case in cases if case["worst_case_asr"] >= 0.5]
    return half[0] if half else max(cases, key=lambda case: case["worst_case_asr"])


def under_attack(record: Mapping[str, Any]) -> str:
    """What the strongest attack achieves at each surface, as sentences; empty without a rate."""
    lines = [line for line in record["attacks"] if line["worst_case_asr"] is not None]
    sentences = []
    for surface in dict.fromkeys(line["surface"] for line in lines):
        case = _most_informative([line for line in lines if line["surface"] == surface])
        sentences.append(
            f"An attacker who may change {_change(case)} gets {case['flipped']} of "
            f"{case['utterances']} recordings misclassified ({100 * case['worst_case_asr']:.0f} %)."
        )
    return " ".join(sentences)


def natural_words(corruption: str, snr: float | None) -> str:
    """A natural corruption in words, with its ratio where it has one."""
    name = _NATURAL.get(corruption, corruption)
    return name if snr is None else f"{name}, {snr:g} dB"


def wrong_anyway(record: Mapping[str, Any]) -> str:
    """What natural corruptions do to a model, as one or two sentences; empty if not measured."""
    lines = [line for line in record["corruptions"] if line["rate"] is not None]
    every = record["wrong_anyway"]
    if not lines or every is None:
        return ""
    worst = max(lines, key=lambda line: line["rate"])
    if not every["misclassified"]:
        return (
            "No ordinary change of the recordings, such as "
            f"{natural_words(worst['corruption'], worst['snr'])}, makes the model misclassify any "
            f"of the {every['n']} recordings that it recognises unchanged."
        )
    return (
        f"Without any attacker, the model misclassifies {worst['misclassified']} of {worst['n']} "
        f"recordings ({100 * worst['rate']:.0f} %) after "
        f"{natural_words(worst['corruption'], worst['snr'])}, the most harmful of {len(lines)} "
        f"ordinary changes, and {every['misclassified']} of {every['n']} "
        f"({100 * every['rate']:.0f} %) after at least one of them."
    )
