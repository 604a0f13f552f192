"""From finished parts to a report: join the rows, record provenance, write the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser import __version__
from sigma_ser.core.errors import RunError
from sigma_ser.core.files import content_key, file_digest, whole_file, write_json
from sigma_ser.core.json_text import parse_json
from sigma_ser.core.rows import schema
from sigma_ser.corpora.leakage import leakage_report
from sigma_ser.evaluate.alarm.table import score_schema
from sigma_ser.evaluate.rates import correct_rows
from sigma_ser.report.writer import write_report
from sigma_ser.runs.digests import Digests
from sigma_ser.runs.files import MAKE_ANEW, read_object, read_part
from sigma_ser.runs.layout import RunLayout
from sigma_ser.runs.repairs import note_repairs, read_repairs

from .certificates import certificate_schema
from .inputs import StudyInput
from .scheduler import read_failures
from .steps import (
    AlarmScoreStep,
    AttackStep,
    CertificateStep,
    CorruptionStep,
    PartStep,
    Plan,
    ReplayStep,
    RowStep,
    VictimStep,
)
from .transfer import replay_schema

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Collected:
    """What `rows.parquet` holds.

    `key` is a hash of its contents, and `flipped` the number of misclassified utterances of each
    cell.
    """

    key: str
    flipped: Mapping[str, int]


def provenance(inputs: Sequence[StudyInput]) -> dict[str, Any]:
    """Cards of corpora and encoders and the leakage report, as plain data.

    Made before the attacks, so that no recordings are kept in memory while they run.
    """
    corpora = [_corpus_card(one) for one in inputs]
    record = {
        "leakage": _leakage(inputs),
        "corpus": _joined(corpora),
        "encoder": _joined([one.card for one in inputs]),
    }
    # Cards may hold paths and the like; the page shows their text.
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str))
    return plain


def victim_scores(plan: Plan, layout: RunLayout, digests: Digests) -> list[dict[str, Any]]:
    """Name, setting and test scores of each victim that could be made.

    A victim that is attacked on one surface only is listed there; one that only makes masks, on
    every surface of the study.

    Raises:
        DamagedRunError: if a file of a victim is damaged.
    """
    there = (
        step
        for step in plan.victims
        if step.setting.surface in plan.study.surface
        and (step.attacked or not step.attacked_on)
        and layout.victim_timing(step.folder).exists()
    )
    checks = {step.victim.key: layout.gradient_check(step.key) for step in plan.gradients}
    return [
        {
            **_scores(layout, step, digests),
            "gradient_check": _check(checks.get(step.key), digests),
        }
        for step in there
    ]


def collect(plan: Plan, layout: RunLayout, digests: Digests) -> Collected:
    """Write `rows.parquet`, and `replays.parquet` where perturbations were replayed.

    Rows come in the order of the plan; parts that could not be computed are left out. Nothing is
    written where the parts are those of the last time.

    Raises:
        RunError: if there is no row at all.
        DamagedRunError: if a file is damaged.
    """
    import polars as pl

    digests.refresh()  # for the parts that workers have written
    cells: list[RowStep] = [*plan.attacks, *plan.corruptions]
    rows = list(_present(cells, plan, layout))
    replays = list(_present(plan.replays, plan, layout))
    bounds = list(_present(plan.certificates, plan, layout))
    scores = list(_present(plan.alarm_scores, plan, layout))
    if not rows:
        reasons = [one["reason"] for one in read_failures(layout)]
        raise RunError(f"no attack could be computed: {reasons[0]}")
    parts = [path for _, path in (*rows, *replays, *bounds, *scores)]
    key = content_key([[path.parent.name, path.name, digests.of(path)] for path in parts])
    old = _last_collected(layout, digests)
    there = layout.rows.exists() and layout.replays.exists() == bool(replays)
    there = there and layout.certificates.exists() == bool(bounds)
    there = there and layout.alarms.exists() == bool(scores)
    if there and old is not None and old.key == key:
        return old
    flipped: dict[str, int] = {}
    for step, table in _join(layout.rows, rows, schema(), digests):
        count = len(correct_rows(pl.DataFrame(table), "success").filter("success"))
        flipped[step.key] = flipped.get(step.key, 0) + count
    for _ in _join(layout.replays, replays, replay_schema(), digests):
        pass
    for _ in _join(layout.certificates, bounds, certificate_schema(), digests):
        pass
    for _ in _join(layout.alarms, scores, score_schema(), digests):
        pass
    made = Collected(key, flipped)
    write_json(layout.collected, asdict(made), digests.seal)
    return made


def report_run(
    layout: RunLayout, digests: Digests, collected: Collected, seconds: float
) -> list[str]:
    """Write the report of a run folder, unless the one there was written from the same results.

    Args:
        layout: of the run folder, with everything that the report reads.
        digests: of the same folder.
        collected: the rows.
        seconds: wall time of the run.

    Returns:
        Files of the last report that had changed since they were written, and are written again.
    """
    stamp = _read(layout.page_stamp)
    written = stamp.get("files")
    files: dict[str, str] = written if isinstance(written, dict) else {}
    there = [layout.folder / name for name in files if (layout.folder / name).is_file()]
    changed = [path for path in there if file_digest(path) != files[_name(layout, path)]]
    names = note_repairs(layout, digests, changed) if changed else []
    sources = (layout.victims, layout.environment, layout.study_text)
    texts = [path.read_text("utf-8") for path in sources]
    key = content_key([collected.key, texts, read_repairs(layout), __version__])
    whole = len(there) == len(files) and not changed
    if layout.page.exists() and whole and stamp.get("key") == key:
        return names
    write_report(layout.folder, seconds=seconds)
    digest_of = {_name(layout, path): file_digest(path) for path in layout.report_files()}
    write_json(layout.page_stamp, {"key": key, "seconds": seconds, "files": digest_of})
    return names


def _name(layout: RunLayout, path: Path) -> str:
    return path.relative_to(layout.folder).as_posix()


def _present(
    steps: Sequence[PartStep], plan: Plan, layout: RunLayout
) -> Iterator[tuple[PartStep, Path]]:
    """Each step with the file of each of its parts that is there."""
    paths: dict[type, Callable[[str, int], Path]] = {
        AttackStep: layout.attack,
        CorruptionStep: layout.attack,
        ReplayStep: layout.replay,
        CertificateStep: layout.certificate,
        AlarmScoreStep: layout.alarm_scores,
    }
    for step in steps:
        path_of = paths[type(step)]
        for number, _ in plan.parts(step):
            path = path_of(step.key, number)
            if path.exists():
                yield step, path


def _join(
    target: Path, parts: Sequence[tuple[Any, Path]], columns: pa.Schema, digests: Digests
) -> Iterator[tuple[Any, pa.Table]]:
    """Join parts into one file, and yield each as it passes."""
    import pyarrow.parquet as pq

    if not parts:
        target.unlink(missing_ok=True)
        return
    with whole_file(target, digests.seal) as aside, pq.ParquetWriter(aside, columns) as writer:
        for step, path in parts:
            digests.check(path)
            table = read_part(path, columns)
            writer.write_table(table)
            yield step, table


def _last_collected(layout: RunLayout, digests: Digests) -> Collected | None:
    tables = (layout.rows, layout.replays, layout.certificates, layout.alarms, layout.collected)
    for path in tables:
        digests.check(path)
    try:
        return Collected(**_read(layout.collected))
    except TypeError:
        return None


def _check(path: Path | None, digests: Digests) -> dict[str, Any] | None:
    """A gradient check; `None` for a victim that is not attacked, or could not be checked."""
    if path is None or not path.exists():
        return None
    digests.check(path)
    return read_object(path, ["masked", "signs"], MAKE_ANEW)


def _scores(layout: RunLayout, step: VictimStep, digests: Digests) -> dict[str, Any]:
    again = f"delete the folder {layout.victim(step.folder)} and run again"
    card, time = layout.victim_card(step.folder), layout.victim_timing(step.folder)
    for path in (card, time):
        digests.check(path)
    about = read_object(card, {"metrics": dict}, again)
    timing = read_object(time, ["train_seconds"], again)
    return {
        "name": step.name,
        "fold": step.fold.name,
        "head": step.head,
        "seed": step.seed,
        **step.setting.columns,
        "known_from_training": about.get("known_recordings", 0),
        **about["metrics"]["test"],
        **timing,
    }


def _corpus_card(one: StudyInput) -> dict[str, Any]:
    corpus = one.corpus
    return {
        "name": corpus.name,
        "utterances": len(corpus),
        **vars(corpus.card),
        "differences": "; ".join(corpus.differences),
        "quarantined": len(corpus.quarantine),
    }


def _joined(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One card for several: values that they share once, others side by side."""
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for card in cards for name in card):
        values = list({str(card.get(name)): card.get(name) for card in cards}.values())
        joined[name] = values[0] if len(values) == 1 else ", ".join(map(str, values))
    return joined


def _leakage(inputs: Sequence[StudyInput]) -> list[dict[str, Any]]:
    seen, lines = set(), []
    for one in inputs:
        for protocol, folds in one.folds.items():
            if (one.corpus.key, protocol) not in seen:
                seen.add((one.corpus.key, protocol))
                lines += list(leakage_report(one.corpus, list(folds)))
    return lines


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where it is missing or damaged, as it can be written again."""
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
