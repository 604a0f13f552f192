"""Write the report of a run, unless the one that lies there tells the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sigma_ser import __version__
from sigma_ser.core.files import content_key, write_json
from sigma_ser.core.progress import Progress
from sigma_ser.corpora.leakage import leakage_report
from sigma_ser.evaluate.tables import write_analysis
from sigma_ser.report.inputs import ReportInputs
from sigma_ser.report.writer import write_report
from sigma_ser.runs.files import read_object
from sigma_ser.runs.provenance import environment

from .artifacts import RunPaths
from .collecting import Collected
from .exemplars import make_exemplars
from .inputs import Scene
from .steps import Plan, VictimStep


@dataclass(frozen=True)
class Provenance:
    """What the page says about corpora and encoders, without a recording of them."""

    leakage: Sequence[Mapping[str, Any]]
    corpus_card: Mapping[str, Any]
    encoder_card: Mapping[str, Any]


def provenance(scenes: Sequence[Scene]) -> Provenance:
    """Look at the recordings once, so that they need not be kept while the attacks run."""
    return Provenance(
        _leakage(scenes),
        _joined([_corpus_card(scene) for scene in scenes]),
        _joined([scene.encoder.card for scene in scenes]),
    )


def report_run(
    plan: Plan,
    paths: RunPaths,
    known: Provenance,
    collected: Collected,
    *,
    text: str,
    seconds: float,
    progress: Progress,
) -> None:
    """Page, tables, figures and `analysis/`; `sigma-ser report` writes the page again whatever
    lies there."""
    import polars as pl

    progress.stage("report", 1)
    folder = paths.folder
    scores = victim_scores(plan, paths)
    stamp = {"key": content_key([collected.key, text, scores, environment(), __version__])}
    page, told = folder / "report" / "index.html", folder / "report" / "written.json"
    if not (page.exists() and _read(told) == stamp):
        rows = pl.read_parquet(folder / "rows.parquet")
        kept = folder / "replays.parquet"
        replays = pl.read_parquet(kept) if kept.exists() else None
        write_analysis(folder, rows, replays)
        inputs = ReportInputs(
            name=plan.study.name,
            rows=rows,
            victims=scores,
            leakage=list(known.leakage),
            corpus_card=dict(known.corpus_card),
            encoder_card=dict(known.encoder_card),
            environment=environment(),
            study_text=text,
            exemplars=make_exemplars(plan, paths, collected.flipped),
            replays=replays,
            seconds=seconds,
        )
        write_report(folder, inputs)
        write_json(told, stamp)
    progress.advance()


def victim_scores(plan: Plan, paths: RunPaths) -> list[dict[str, Any]]:
    """What the page and the table say about each victim that could be made."""
    return [
        _scores(paths, step)
        for step in plan.victims
        if (paths.victim(step) / "timing.json").exists()
    ]


def _scores(paths: RunPaths, step: VictimStep) -> dict[str, Any]:
    folder = paths.victim(step)
    again = f"delete the folder {folder} and run again"
    metrics = read_object(folder / "card.json", ["metrics"], again)["metrics"]
    timing = read_object(folder / "timing.json", ["train_seconds"], again)
    return {
        "name": step.name,
        "fold": step.fold.name,
        "head": step.head,
        "seed": step.seed,
        "corpus": step.setting.corpus,
        "protocol": step.setting.protocol,
        "encoder": step.setting.encoder,
        "layer": step.setting.layer,
        **metrics["test"],
        **timing,
    }


def _corpus_card(scene: Scene) -> dict[str, Any]:
    corpus = scene.corpus
    return {
        "name": corpus.name,
        "utterances": len(corpus),
        **vars(corpus.card),
        "differences": "; ".join(corpus.differences),
        "quarantined": len(corpus.quarantine),
    }


def _joined(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One card for several: what they agree on as it is, the rest side by side."""
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for card in cards for name in card):
        values = list({str(card.get(name)): card.get(name) for card in cards}.values())
        joined[name] = values[0] if len(values) == 1 else ", ".join(map(str, values))
    return joined


def _leakage(scenes: Sequence[Scene]) -> list[dict[str, Any]]:
    seen, lines = set(), []
    for scene in scenes:
        for protocol, folds in scene.folds.items():
            if (scene.corpus.key, protocol) not in seen:
                seen.add((scene.corpus.key, protocol))
                lines += list(leakage_report(scene.corpus, list(folds)))
    return lines


def _read(path: Any) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
