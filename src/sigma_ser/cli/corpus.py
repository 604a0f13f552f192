"""`sigma-ser corpus`: contents and defects of a corpus, and leakage between its splits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigma_ser.core.progress_bars import progress_on_stderr

from .columns import ColumnOption, columns_of
from .terminal import result_console

if TYPE_CHECKING:
    from rich.console import Console

    from sigma_ser.core.progress import Progress

app = typer.Typer(
    help="Check a corpus and the leakage between the parts of its folds.", no_args_is_help=True
)

_SHOWN = 20


@app.callback()
def _corpus() -> None:
    """Make `check` a subcommand although it is the only one."""


@app.command()
def check(
    name: Annotated[
        str, typer.Argument(help="Name of a registered corpus; `sigma-ser list corpus` lists them.")
    ],
    root: Annotated[
        str | None,
        typer.Argument(help="Folder or manifest of the corpus; not needed for the demo corpus."),
    ] = None,
    *,
    column: ColumnOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of reading threads. The default is the number of processors."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="Also split the corpus by this protocol and report the leakage."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Number of folds, for protocols with a variable number.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the protocol.")] = 0,
    manifest: Annotated[
        Path | None, typer.Option(help="Write a manifest of the corpus to this Parquet file.")
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.025, help="Maximum duration in seconds; longer recordings are quarantined."
        ),
    ] = None,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Read every file again, including files that were already checked."
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with status 1 if a file is quarantined.")
    ] = False,
) -> None:
    """Read every recording of a corpus and report its contents and defects."""
    from sigma_ser.audio.recording import MAX_SECONDS
    from sigma_ser.corpora.corpus import load_corpus
    from sigma_ser.corpora.folds import make_folds
    from sigma_ser.corpora.summary import summarise

    with progress_on_stderr() as progress:
        corpus = load_corpus(
            name,
            root,
            workers=workers,
            max_seconds=MAX_SECONDS if max_seconds is None else max_seconds,
            again=again,
            progress=_reporter(progress),
            **columns_of(column),
        )
    chosen = {} if folds is None else {"folds": folds}
    made = make_folds(corpus, protocol, seed=seed, **chosen) if protocol else []
    summary = summarise(corpus, made)
    if manifest is not None:
        from sigma_ser.corpora.manifest import save_manifest

        save_manifest(corpus, manifest)
        summary["manifest"] = str(manifest)
    if as_json:
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        _show(result_console(), summary)
    if strict and corpus.quarantine:
        raise typer.Exit(1)


def _reporter(progress: Progress) -> Callable[[int, int], None]:
    """A callback that reports progress; its first call sets the number of cached recordings."""
    before: list[int] = []

    def report(done: int, total: int) -> None:
        if before:
            progress.advance(done - before[-1])
        else:
            progress.stage("checking", total, cached=done)
        before[:] = [done]

    return report


def _show(console: Console, summary: dict[str, Any]) -> None:
    """Print the summary as text."""
    card, seconds = summary["card"], summary["seconds"]
    # File names may contain rich markup, so it is not interpreted.
    out = _printer(console)
    out(f"{card['title']}  ({summary['root']})")
    for key in ("source", "licence", "citation"):
        if card[key]:
            out(f"  {key}: {card[key]}")
    segments = f" ({summary['segments']} segments of files)" if summary["segments"] else ""
    out(
        f"{summary['utterances']} utterances{segments}, {len(summary['classes'])} classes, "
        f"{_known(summary['speakers'])} speakers, {_known(summary['sessions'])} sessions, "
        f"{summary['texts']} texts, key {summary['key']}"
    )
    out(
        f"{seconds['total'] / 60:.1f} minutes, {seconds['shortest']:.2f} to "
        f"{seconds['longest']:.2f} s, median {seconds['median']:.2f} s"
    )
    for key in ("classes", "speakers", "sessions", "sample_rates", "channels", "warnings"):
        counts = {value: count for value, count in summary[key].items() if value}
        if counts:
            out(f"{key.replace('_', ' ')}: {_listed(counts)}")
    for key in ("differences", "notes"):
        for line in summary[key]:
            out(f"{key.removesuffix('s')}: {line}")
    if summary["duplicates"]:
        groups = summary["duplicates"]
        out(f"identical audio: {len(groups)} groups, such as {' = '.join(groups[0])}")
    bad = summary["quarantine"]
    reasons = f" ({_listed(summary['quarantine_reasons'])})" if bad else ""
    out(f"quarantine: {len(bad) or 'no'} files{reasons}")
    for record in bad[:_SHOWN]:
        out(f"  {record['reason']}: {record['message']} [{_bytes(record['bytes'])}]")
    if len(bad) > _SHOWN:
        out(f"  and {len(bad) - _SHOWN} more; --json lists all of them")
    if "folds" in summary:
        _show_folds(console, summary)
    if "manifest" in summary:
        out(f"manifest: {summary['manifest']} (load it with the corpus name `manifest`)")


def _show_folds(console: Console, summary: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    out = _printer(console)
    for part in summary["leakage"]["balance"]:
        out(
            f"fold {part['fold']}, {part['part']}: {part['utterances']} utterances, "
            f"{part['speakers']} speakers: {_listed(part['classes'])}"
        )
    shared = ["speakers", "sessions", "texts", "identical_audio"]
    if summary["segments"]:
        shared.append("recordings")
    titles = (name.replace("_", " ") for name in shared)
    leaks = Table("fold", "shared by", *titles, box=box.SIMPLE)
    for pair in summary["leakage"]["shared"]:
        leaks.add_row(
            pair["fold"], f"{pair['first']}, {pair['second']}",
            *("unknown" if pair[name] is None else str(pair[name]) for name in shared),
        )  # fmt: skip
    console.print(leaks)


def _printer(console: Console) -> Callable[[str], None]:
    return lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True)


def _known(counts: dict[str, int]) -> int:
    return len([value for value in counts if value])


def _listed(counts: dict[str, int]) -> str:
    shown = list(counts.items())[:_SHOWN]
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return ", ".join(f"{value} {count}" for value, count in shown) + more


def _bytes(size: int | None) -> str:
    return "size unknown" if size is None else f"{size} bytes"
