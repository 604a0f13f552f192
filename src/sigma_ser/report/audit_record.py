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
from sigma_ser.evaluate.groups import worst_case
from sigma_ser.evaluate.rates import UTTERANCE
from sigma_ser.runs.files import read_object
from sigma_ser.runs.layout import RunLayout

from .certificates import brackets
from .inputs import ReportInputs, load_inputs

if TYPE_CHECKING:
    import polars as pl

_AGAIN = "run the audit again, which is quick where everything is finished"
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
    """The record of an audit; see :func:`write_record`."""
    if len(inputs.victims) != 1:
        raise RunError(
            f"{layout.folder} has {len(inputs.victims)} victims, and an audit has one; give the "
            "run folder of sigma-ser audit"
        )
    rows, victim = inputs.rows, inputs.victims[0]
    criteria, declared = _declared(layout)
    bounds = brackets(rows, inputs.certificates)
    correct = rows.filter("correct_before").select(UTTERANCE).n_unique()
    found = audit_findings(
        victim,
        recognised=correct,
        wanted=criteria.utterances if criteria else 20,
        corpus_classes=_classes(inputs.corpus_card, victim),
        training=int(victim.get("known_from_training") or 0),
        contradictions=sum(one.contradictions for one in bounds if one.proven),
        criteria_changed=bool(declared.get("changed")),
    )
    outcomes = outcomes_of(criteria, rows, victim, inputs.certificates, found) if criteria else []
    check = victim.get("gradient_check") or {}
    signs = list(check.get("signs", ()))
    return {
        "format": 1,
        "verdict": overall(outcomes) if criteria else None,
        "findings": [{"code": one.code, "text": one.text} for one in found],
        "criteria": [outcome_line(one) for one in outcomes],
        "gradient_check": {
            **check,
            "masked": bool(signs),
            "signs": signs,
            "meanings": {sign: SIGN_MEANINGS.get(sign, "") for sign in signs},
        },
        "certificates": [dataclasses.asdict(one) for one in bounds],
        "attacks": _attacks(rows),
        "groups": [line for column in ("label", "speaker") for line in _groups(rows, column)],
        "model": {
            **{name: victim[name] for name in _MODEL},
            "class_names": list(victim["class_names"]),
            "encoder": inputs.encoder_card,
        },
        "data": {
            **inputs.corpus_card,
            "attacked_utterances": rows.select(UTTERANCE).n_unique(),
            "classified_correctly_before": correct,
            "leakage": inputs.leakage,
        },
        "threat_model": {"surface": "features", "text": _THREATS["features"]},
        "versions": inputs.environment,
        "hashes": {
            "criteria": declared.get("hash"),
            "rows": file_digest(layout.rows),
            "study": file_digest(layout.study),
        },
        "clauses": [{"clause": name, "evidence": text} for name, text in CLAUSES.items()],
        "limits": list(_LIMITS),
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


_BUDGET = ("granularity", "sparsity", "epsilon")


def _attacks(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """The strongest case over all attacks at each budget."""
    table = worst_case(rows).sort(_BUDGET)
    columns = ("attacks", "utterances", "flipped", "worst_case_asr", "worst_case_asr_low",
               "worst_case_asr_high")  # fmt: skip
    return table.select(*_BUDGET, *columns).to_dicts()


def _groups(rows: pl.DataFrame, column: str) -> list[dict[str, Any]]:
    """The strongest case within each emotion or speaker, the worst group first."""
    table = worst_case(rows, [column]).drop_nulls([column, "worst_case_asr"])
    order = [*_BUDGET, "worst_case_asr"]
    table = table.sort(order, descending=[False, False, False, True])
    return [
        {
            "group": column,
            "value": line[column],
            **{name: line[name] for name in _BUDGET},
            "n": line["utterances"],
            "success": line["worst_case_asr"],
            "low": line["worst_case_asr_low"],
            "high": line["worst_case_asr_high"],
        }
        for line in table.to_dicts()
    ]
