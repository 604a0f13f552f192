"""An index of runs: one page that lists the runs below a folder with their headline figures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import RunError, SigmaError
from sigma_ser.core.files import whole_file
from sigma_ser.core.rows import read_rows
from sigma_ser.evaluate.rates import headline
from sigma_ser.runs.files import read_object
from sigma_ser.runs.layout import RunLayout

from .headline import heading
from .inputs import ReportInputs
from .page import render
from .readable import readable
from .run_figures import model_figures

_DEPTH = 3
_AGAIN = "run its study again"


def run_folders(folder: Path, depth: int = _DEPTH) -> Iterator[Path]:
    """The run folders below a folder, in order of their names; a run contains no other run.

    Args:
        folder: where to look, itself included.
        depth: how many levels below it.
    """
    if RunLayout(folder).study.is_file():
        yield folder
    elif depth:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                yield from run_folders(path, depth - 1)


def run_line(folder: Path, base: Path) -> dict[str, Any]:
    """A run in the index.

    Args:
        folder: the run folder.
        base: the folder of the index; paths are relative to it.

    Returns:
        `folder`, `name`, `title`, `corpus`, `encoder`, `state`, `updated` (UTC), `models` as
        `model_figures`, `page` and `audit` where they exist, the `verdict` of an audit, and
        `problem`, a sentence where the run cannot be read.
    """
    layout = RunLayout(folder)
    line: dict[str, Any] = {
        "folder": folder.relative_to(base).as_posix(), "name": folder.name, "title": folder.name,
        "corpus": None, "encoder": None, "state": "unknown", "updated": None, "models": [],
        "page": _relative(layout.page, base), "audit": _relative(layout.audit_page, base),
        "verdict": None, "problem": None,
    }  # fmt: skip
    try:
        study = read_object(layout.study, ("name",), _AGAIN)
        line |= {"name": str(study["name"]), "title": str(study["name"])}
        if layout.status.is_file():
            line["state"] = read_object(layout.status, {"state": str}, _AGAIN)["state"]
        if layout.audit_record.is_file():
            line["verdict"] = read_object(layout.audit_record, (), _AGAIN).get("verdict")
        if not (layout.rows.is_file() and layout.provenance.is_file()):
            return line
        written = datetime.fromtimestamp(layout.rows.stat().st_mtime, UTC)
        known = read_object(layout.provenance, {"corpus": dict, "encoder": dict}, _AGAIN)
        inputs = readable(
            ReportInputs(
                name=line["name"],
                title=str(study.get("title") or ""),
                rows=headline(read_rows(layout.rows)),
                corpus_card=known["corpus"],
                encoder_card=known["encoder"],
            )
        )
        models = model_figures(inputs.rows)
        line |= {
            "title": heading(inputs, [one["victim"] for one in models]),
            "corpus": inputs.corpus_card.get("name"),
            "encoder": inputs.encoder_card.get("name"),
            "updated": written.strftime("%Y-%m-%d %H:%M"),
            "models": models,
        }
    except SigmaError as fault:
        # One damaged run does not hide the others.
        line["problem"] = str(fault)
    return line


def index_runs(folder: Path) -> list[dict[str, Any]]:
    """The lines of all runs below a folder, as `run_line`, the newest first.

    Args:
        folder: a folder of run folders.

    Raises:
        RunError: if there is none.
    """
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}; give a folder that contains runs")
    lines = [run_line(path, folder) for path in run_folders(folder)]
    if not lines:
        raise RunError(
            f"{folder} contains no run; give the folder that runs are written to, such as runs"
        )
    return sorted(lines, key=lambda line: line["updated"] or "", reverse=True)


def write_index(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Write `runs.html`, the index of the runs below a folder.

    Args:
        folder: a folder of run folders.

    Returns:
        The path of the page, and its lines as `index_runs`.

    Raises:
        RunError: if the folder contains no run.
    """
    lines = index_runs(folder)
    page = folder / "runs.html"
    with whole_file(page) as aside:
        text = render("runs.html", {"title": f"Runs in {folder.absolute().name}", "runs": lines})
        aside.write_text(text, "utf-8")
    return page, lines


def _relative(path: Path, base: Path) -> str | None:
    return path.relative_to(base).as_posix() if path.is_file() else None
