"""`sigma-ser certify VICTIM FEATURES`: bounds that no attack can break, at a grid of budgets."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from .arguments import (
    FEATURES_HELP,
    VICTIM_HELP,
    AsJson,
    BatchSize,
    Epsilons,
    Ids,
    Sparsities,
    Unit,
    check_order,
    features_folder,
    victim_source,
)
from .terminal import result_console


def certify(
    victim: Annotated[str, typer.Argument(help=VICTIM_HELP)],
    features: Annotated[Path, typer.Argument(help=FEATURES_HELP)],
    *,
    sparsity: Sparsities = None,
    epsilon: Epsilons = None,
    granularity: Unit = "element",
    method: Annotated[
        str | None,
        typer.Option(
            help="Method of certification; `sigma-ser list certificate` lists them. Settings are "
            'given in brackets: "frame-ablation(kept=10)". The default is the tightest proven one '
            "that suits the victim."
        ),
    ] = None,
    explainer: Annotated[
        list[str] | None,
        typer.Option(
            help="Also bound what any attack can do inside the mask of this explainer. Repeatable."
        ),
    ] = None,
    scope: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Mask size as a multiple of the budget k. Repeatable. The default is 1 and 8.",
        ),
    ] = None,
    ids: Ids = None,
    utterances: Annotated[
        int, typer.Option(min=1, help="Maximum number of utterances to certify.")
    ] = 48,
    batch_size: BatchSize = 16,
    as_json: AsJson = False,
) -> None:
    """Certify utterances that the victim classifies correctly: no attack can change their class."""
    from sigma_ser.core import registry
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.core.settings import parse_call
    from sigma_ser.explainers.explanation import make_explainer
    from sigma_ser.study.attack import attack_exposure
    from sigma_ser.study.certificates import certificate_grid

    from .results import read_ids

    name, settings = (None, {}) if method is None else parse_call(method)
    if name is not None:
        registry.make("certificate", name, settings)
    for one in explainer or ():
        make_explainer(one)
    if scope and not explainer:
        raise ConfigError("--scope needs --explainer, whose mask has this size")
    check_order("certify", victim, features)
    victim, features = victim_source(victim), features_folder(features)
    cells = list(
        certificate_grid(
            victim, features,
            sparsity=sparsity or [0.01], epsilon=epsilon or [0.5],
            granularity=granularity,  # type: ignore[arg-type]
            method=name, settings=settings, explainers=explainer or [], scopes=scope or [1, 8],
            ids=None if ids is None else read_ids(ids),
            utterances=utterances, batch_size=batch_size,
        )
    )  # fmt: skip
    seen = attack_exposure(victim, list(cells[0]["margins"]))
    notes = [{"code": "training-recordings", "text": seen.text}] if seen.text else []
    notes += _notes(cells)
    if as_json:
        result = {
            "victim": victim, "features": str(features), "utterances": cells[0]["utterances"],
            "training_recordings": seen.known, "notes": notes, "cells": cells,
        }  # fmt: skip
        typer.echo(json.dumps(result))
        return
    _print_table(cells)
    for note in notes:
        # Not among the lines of the table, which programs read.
        typer.echo(f"Note ({note['code']}): {note['text']}", err=True)


def _notes(cells: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    methods = {cell["method"] for cell in cells}
    texts = {
        "none": "no method suits this victim, so nothing is certified",
        "affine-tested": "the victim behaves like an affine one wherever it was tested, which "
        "proves nothing; the margins are estimates",
        "frame-ablation": "the certificates hold for the smoothed victim, which sees a few random "
        "frames, and not for the victim itself; margins are probabilities",
    }
    return [
        {"code": f"certificate-{method}", "text": text}
        for method, text in texts.items()
        if method in methods
    ]


def _print_table(cells: Sequence[dict[str, Any]]) -> None:
    """A table on a terminal, tab-separated lines elsewhere."""
    from rich import box
    from rich.table import Table

    titles = ("method", "mask", "sparsity", "epsilon", "certified", "lowest margin", "s")
    if not sys.stdout.isatty():
        for line in (titles, *map(_line, cells)):
            typer.echo("\t".join(line))
        return
    table = Table(*titles, box=box.SIMPLE)
    for cell in cells:
        table.add_row(*_line(cell))
    result_console().print(table)


def _line(cell: dict[str, Any]) -> list[str]:
    margins = [margin for margin in cell["margins"].values() if margin is not None]
    return [
        cell["method"] if cell["proven"] else f"{cell['method']} (unproven)",
        "none" if cell["explainer"] is None else f"{cell['explainer']} ×{cell['scope']}",
        f"{cell['sparsity']}",
        f"{cell['epsilon']}",
        f"{100 * cell['certified_share']:.0f} % of {cell['utterances']}",
        f"{min(margins):.3g}" if margins else "none",
        f"{cell['seconds']:.3f}",
    ]
