"""The record of an audit: its verdict with everything that it rests on, as plain data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser.core.errors import RunError
from sigma_ser.core.files import file_digest, write_json
from sigma_ser.core.gradient_signs import SIGN_MEANINGS
from sigma_ser.evaluate.criteria.declared import Criteria
from sigma_ser.evaluate.criteria.findings import audit_findings
from sigma_ser.evaluate.criteria.loading import load_criteria
from sigma_ser.evaluate.criteria.outcome import Outcome, overall
from sigma_ser.evaluate.criteria.results import outcomes_of
from sigma_ser.evaluate.rates import UTTERANCE, attacks_only
from sigma_ser.runs.files import read_object
from sigma_ser.runs.layout import RunLayout

from .audit_rates import attack_lines, corruption_lines, group_lines, wrong_anyway_line
from .certificates import brackets
from .inputs import ReportInputs, load_inputs

if TYPE_CHECKING:
    import polars as pl

_AGAIN = "run the audit again, which is quick where everything is finished"
# Least number of recognised utterances without criteria.
_WANTED = 20
_MODEL = ("name", "uar", "uar_low", "uar_high", "test_utterances")
CLAUSES: Mapping[str, str] = {
    "EU AI Act, Article 15": "accuracy and robustness of the model, and its behaviour under "
    "inputs that were made to mislead it",
    "EU AI Act, Annex IV, 2 (g)": "validation and testing procedures, their metrics, and test logs",
    "NIST AI RMF, MEASURE 2.5": "validity and reliability on the stated data, with intervals",
    "NIST AI RMF, MEASURE 2.6": "behaviour under worst-case changes of the input",
    "NIST AI RMF, MEASURE 2.7": "security and resilience against adversarial examples",
}
_THREATS = {
    "features": "The attacker knows the model completely and changes a limited number of values of "
    "the speech features between encoder and classifier, each by a limited amount. Nobody outside "
    "the system can do this directly: it is a test of the classifier, and an upper limit for "
    "attackers who change the features only through the audio within the same limits.",
    "waveform": "The attacker knows the model completely and changes the digital recording itself: "
    "a limited share of its samples, with a limited power compared to that of the recording. An "
    "attack counts only if the changed recording, saved as a 16-bit file and read again, is "
    "misclassified. Playing a recording over the air is not covered.",
}
_LIMITS = (
    "The figures hold for the stated model, recordings, budgets and attacks, and for no others.",
    "An attack that fails proves nothing: a stronger attack may succeed. Only a proven bound "
    "excludes every attack within its budget.",
    "The intervals describe the choice of recordings, not a change of speakers, microphones or "
    "languages.",
)


def write_record(folder: Path) -> dict[str, Any]:
    """Compute the record of a finished audit from its run folder, and write `audit.json`.

    Args:
        folder: the run folder of `sigma-ser audit`.

    Returns:
        The record; `verdict` is `None` where no criteria were declared.

    Raises:
        RunError: if the folder is not that of a finished audit, or a file is damaged.
        ConfigError: if the criteria in the folder are not valid.
    """
    layout = RunLayout(folder)
    record = audit_record(load_inputs(folder), layout)
    write_json(layout.audit_record, record)
    return record


def audit_record(inputs: ReportInputs, layout: RunLayout) -> dict[str, Any]:
    """The record of an audit; see `write_record`."""
    rows, victim = inputs.rows, _the_victim(inputs, layout)
    criteria, declared = _declared(layout)
    bounds = brackets(rows, inputs.certificates)
    attacked = _attacked_surfaces(rows)
    checks = {
        surface: one.get("gradient_check") or {}
        for one in inputs.victims
        if (surface := str(one.get("surface", "features"))) in attacked
    }
    # On the waveform fewer utterances may be attacked; criteria require their number one by one.
    own = attacks_only(rows)
    own = own.filter(surface=attacked[0]) if attacked else own
    correct = own.filter("correct_before").select(UTTERANCE).n_unique()
    found = audit_findings(
        victim,
        recognised=correct,
        wanted=criteria.utterances if criteria else _WANTED,
        corpus_classes=_classes(inputs.corpus_card, victim),
        training=int(victim.get("known_from_training") or 0),
        contradictions=sum(one.contradictions for one in bounds if one.proven),
        criteria_changed=bool(declared.get("changed")),
        signs={surface: check.get("signs", ()) for surface, check in checks.items()},
    )
    masked = [surface for surface, check in checks.items() if check.get("signs")]
    outcomes = (
        outcomes_of(criteria, rows, victim, inputs.certificates, found, masked=masked)
        if criteria
        else []
    )
    return {
        "format": 1,
        "verdict": overall(outcomes) if criteria else None,
        "findings": [{"code": one.code, "text": one.text} for one in found],
        "criteria": [outcome_line(one) for one in outcomes],
        "gradient_check": _gradient_check(checks),
        "certificates": [dataclasses.asdict(one) for one in bounds],
        "attacks": attack_lines(rows),
        "corruptions": corruption_lines(rows),
        "wrong_anyway": wrong_anyway_line(rows),
        "groups": [line for column in ("label", "speaker") for line in group_lines(rows, column)],
        "model": {
            **{name: victim[name] for name in _MODEL},
            "class_names": list(victim["class_names"]),
            "encoder": inputs.encoder_card,
        },
        "data": {
            **inputs.corpus_card,
            "attacked_utterances": own.select(UTTERANCE).n_unique(),
            "classified_correctly_before": correct,
            "leakage": inputs.leakage,
        },
        "threat_model": {
            "surface": attacked[0] if len(attacked) == 1 else "both",
            "text": "\n\n".join(_THREATS[surface] for surface in attacked),
        },
        "versions": inputs.environment,
        "hashes": {
            "criteria": declared.get("hash"),
            "rows": file_digest(layout.rows),
            "study": file_digest(layout.study),
        },
        "clauses": [{"clause": name, "evidence": text} for name, text in CLAUSES.items()],
        "limits": list(_LIMITS),
    }


def _the_victim(inputs: ReportInputs, layout: RunLayout) -> Mapping[str, Any]:
    """The line of the audited model; on both surfaces it has the same scores."""
    surfaces = [str(one.get("surface", "features")) for one in inputs.victims]
    if not surfaces or len(set(surfaces)) < len(surfaces):
        raise RunError(
            f"{layout.folder} has {len(surfaces)} victims, and an audit has one; give the "
            "run folder of sigma-ser audit"
        )
    return min(inputs.victims, key=lambda one: str(one.get("surface", "features")))


def _attacked_surfaces(rows: pl.DataFrame) -> list[str]:
    """The surfaces with attacks, features first."""
    return sorted(attacks_only(rows)["surface"].unique())


def _gradient_check(checks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The checks of all attacked surfaces, and the signs that occur on any."""
    signs = list(dict.fromkeys(sign for one in checks.values() for sign in one.get("signs", ())))
    return {
        "masked": bool(signs),
        "signs": signs,
        "meanings": {sign: SIGN_MEANINGS.get(sign, "") for sign in signs},
        "surfaces": {surface: dict(check) for surface, check in checks.items()},
    }


def outcome_line(outcome: Outcome) -> dict[str, Any]:
    """One criterion as plain data; what is unknown is `None`."""
    figure = outcome.figure
    values = {"measured": figure.value, "low": figure.low, "high": figure.high}
    return {
        "name": outcome.name,
        "kind": outcome.kind,
        "limit": outcome.limit,
        "direction": "at least" if outcome.at_least else "at most",
        **{name: None if math.isnan(value) else value for name, value in values.items()},
        "n": figure.n,
        "result": outcome.result,
        "reason": outcome.reason,
        "more_utterances": outcome.more,
    }


def _declared(layout: RunLayout) -> tuple[Criteria | None, dict[str, Any]]:
    """The criteria in the run folder, and what was recorded when they were declared."""
    if not layout.criteria.is_file():
        return None, {}
    record = read_object(layout.declaration, ("hash", "changed"), _AGAIN)
    now = file_digest(layout.criteria)
    changed = record["changed"] or now != record["hash"]
    return load_criteria(layout.criteria), {"hash": now, "changed": changed}


def _classes(corpus: Mapping[str, Any], victim: Mapping[str, Any]) -> Sequence[str]:
    """Class names of the audited recordings; where they are not recorded, those that occur."""
    names = corpus.get("class_names")
    if isinstance(names, Sequence) and not isinstance(names, str):
        return list(names)
    occurring = zip(victim["class_names"], victim["confusion"], strict=True)
    return [name for name, counts in occurring if sum(counts)]
