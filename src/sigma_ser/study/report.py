"""From finished parts to a report: join the rows, record provenance, write the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sigma_ser import __version__
from sigma_ser.core.errors import RunError
from sigma_ser.core.files import content_key, whole_file, write_json
from sigma_ser.core.json_text import parse_json
from sigma_ser.core.rows import schema
from sigma_ser.corpora.leakage import leakage_report
from sigma_ser.report.writer import write_report
from sigma_ser.runs.files import MAKE_ANEW, read_object, read_part
from sigma_ser.runs.layout import RunLayout

from .inputs import StudyInput
from .scheduler import read_failures
from .steps import AttackStep, Plan, ReplayStep, VictimStep
from .transfer import replay_schema

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Collected:
    """What `rows.parquet` holds.

    `key` is a hash of its contents, `flipped` the number of misclassified utterances of each cell,
    and `sizes` the bytes of the files that were written: one that was truncated is written again.
    """

    key: str
    flipped: Mapping[str, int]
    sizes: Mapping[str, int]


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


def victim_scores(plan: Plan, layout: RunLayout) -> list[dict[str, Any]]:
    """Name, setting and test scores of each victim that could be made."""
    there = (step for step in plan.victims if layout.victim_timing(step.folder).exists())
    checks = {step.victim.key: layout.gradient_check(step.key) for step in plan.gradients}
    return [
        {**_scores(layout, step), "gradient_check": _check(checks.get(step.key))} for step in there
    ]


def collect(plan: Plan, layout: RunLayout) -> Collected:
    """Write `rows.parquet`, and `replays.parquet` where perturbations were replayed.

    Rows come in the order of the plan; parts that could not be computed are left out. Nothing is
    written where the parts are those of the last time.

    Raises:
        RunError: if there is no row at all, or a part is damaged.
    """
    rows = list(_present(plan.attacks, plan, layout))
    replays = list(_present(plan.replays, plan, layout))
    if not rows:
        reasons = [one["reason"] for one in read_failures(layout)]
        raise RunError(f"no attack could be computed: {reasons[0]}")
    # A part is written once and never changed, so its name, size and time identify its contents.
    stats = [(path, path.stat()) for _, path in (*rows, *replays)]
    key = content_key(
        [[path.parent.name, path.name, at.st_size, at.st_mtime_ns] for path, at in stats]
    )
    old = _last_collected(layout)
    if old is not None and old.key == key:
        return old
    flipped: dict[str, int] = {}
    for step, table in _join(layout.rows, rows, schema()):
        right, success = table["correct_before"].to_pylist(), table["success"].to_pylist()
        count = sum(a and b for a, b in zip(right, success, strict=True))
        flipped[step.key] = flipped.get(step.key, 0) + count
    for _ in _join(layout.replays, replays, replay_schema()):
        pass
    made = Collected(key, flipped, _sizes(layout))
    write_json(layout.collected, asdict(made))
    return made


def report_run(layout: RunLayout, collected: Collected, seconds: float) -> None:
    """Write the report of a run folder, unless the page there was written from the same results.

    Args:
        layout: of the run folder, with everything that the report reads.
        collected: the rows.
        seconds: wall time of the run.
    """
    scores = json.loads(layout.victims.read_text("utf-8"))
    surroundings = json.loads(layout.environment.read_text("utf-8"))
    text = layout.study_text.read_text("utf-8")
    key = content_key([collected.key, text, scores, surroundings, __version__])
    if layout.page.exists() and _read(layout.page_stamp).get("key") == key:
        return
    write_report(layout.folder, seconds=seconds)
    write_json(layout.page_stamp, {"key": key, "seconds": seconds})


def _present(
    steps: Sequence[AttackStep] | Sequence[ReplayStep], plan: Plan, layout: RunLayout
) -> Iterator[tuple[AttackStep | ReplayStep, Path]]:
    """Each step with the file of each of its parts that is there."""
    for step in steps:
        path_of = layout.attack if isinstance(step, AttackStep) else layout.replay
        for number, _ in plan.parts(step):
            path = path_of(step.key, number)
            if path.exists():
                yield step, path


def _join(
    target: Path, parts: Sequence[tuple[Any, Path]], columns: pa.Schema
) -> Iterator[tuple[Any, pa.Table]]:
    """Join parts into one file, and yield each as it passes."""
    import pyarrow.parquet as pq

    if not parts:
        target.unlink(missing_ok=True)
        return
    with whole_file(target) as aside, pq.ParquetWriter(aside, columns) as writer:
        for step, path in parts:
            table = read_part(path, columns)
            writer.write_table(table)
            yield step, table


def _last_collected(layout: RunLayout) -> Collected | None:
    try:
        last = Collected(**_read(layout.collected))
    except TypeError:
        return None
    return last if last.sizes == _sizes(layout) else None


def _sizes(layout: RunLayout) -> dict[str, int]:
    paths = (layout.rows, layout.replays)
    return {path.name: path.stat().st_size for path in paths if path.exists()}


def _check(path: Path | None) -> dict[str, Any] | None:
    """A gradient check; `None` for a victim that is not attacked, or could not be checked."""
    if path is None or not path.exists():
        return None
    return read_object(path, ["masked", "signs"], MAKE_ANEW)


def _scores(layout: RunLayout, step: VictimStep) -> dict[str, Any]:
    again = f"delete the folder {layout.victim(step.folder)} and run again"
    metrics = read_object(layout.victim_card(step.folder), ["metrics"], again)["metrics"]
    timing = read_object(layout.victim_timing(step.folder), ["train_seconds"], again)
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
        value = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
