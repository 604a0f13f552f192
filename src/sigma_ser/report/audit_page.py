"""The page of an audit: the verdict on top, in words, and what it rests on; it can be printed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sigma_ser.core.files import whole_file
from sigma_ser.runs.layout import RunLayout

from .audit_sentences import natural_words, summary, under_attack, wrong_anyway
from .page import asset, render

_BUDGET = ("surface", "granularity", "sparsity", "epsilon", "budget_snr")
_SURFACES = {"features": "On the speech features", "waveform": "On the audio itself"}
_WORDS = {"pass": "Passed", "fail": "Failed", "inconclusive": "Inconclusive", None: "No verdict"}


def write_audit_page(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write the page of an audit beside the report.

    Args:
        folder: the run folder.
        record: the record of `report.audit_record`.

    Returns:
        Path of the page, one HTML file that needs no other file and no network.
    """
    path = RunLayout(folder).audit_page
    with whole_file(path) as aside:
        aside.write_text(render("audit.html", page_values(record)), "utf-8")
    return path


def page_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs besides the record."""
    groups: dict[tuple[Any, ...], dict[str, list[Any]]] = {}
    for line in record["groups"]:
        place = tuple(line[name] for name in _BUDGET)
        groups.setdefault(place, {}).setdefault(line["group"], []).append(line)
    bars = _bars(record)
    surfaces = dict.fromkeys(bar["surface"] for bar in bars)
    return {
        "title": f"Audit of {record['model']['name']}",
        "record": record,
        "audit_css": asset("audit.css"),
        "word": _WORDS[record["verdict"]],
        "summary": summary(record),
        "under_attack": under_attack(record),
        "bars": {name: [bar for bar in bars if bar["surface"] == name] for name in surfaces},
        "surface_titles": _SURFACES,
        "natural": [
            {**line, "words": natural_words(line["corruption"], line["snr"])}
            for line in record["corruptions"]
        ],
        "wrong_anyway": wrong_anyway(record),
        "groups": groups,
        "group_names": {"label": "Emotion", "speaker": "Speaker"},
    }


def _bars(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each budget the shares certified, misclassified by an attack, and undecided.

    All are shares of the utterances that were classified correctly before the attack.
    """
    bars = []
    for line in record["attacks"]:
        success = line["worst_case_asr"]
        if success is None:
            continue
        proven = [
            one["certified"] / line["utterances"]
            for one in record["certificates"]
            if one["proven"]
            and one["explainer"] is None
            and line["surface"] == "features"
            and all(one[name] == line[name] for name in ("granularity", "sparsity", "epsilon"))
        ]
        bars.append(
            {
                **{name: line[name] for name in _BUDGET},
                "utterances": line["utterances"],
                "success": success,
                "low": line["worst_case_asr_low"],
                "high": line["worst_case_asr_high"],
                "certified": max(proven, default=None),
                "undecided": 1 - success - max(proven, default=0.0),
            }
        )
    return bars
