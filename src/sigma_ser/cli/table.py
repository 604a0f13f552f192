"""`sigma-ser table RUN`: the tables of a paper from a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def table(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    name: Annotated[
        list[str] | None,
        typer.Option(
            help="success, consistency, transfer, cost, claims or alarm; repeat it. Default: all."
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", help="Of the printed tables: md, csv or tex.")
    ] = "md",
    metric: Annotated[
        str, typer.Option(help="Measure of consistency, such as cosine or spearman.")
    ] = "cosine",
    sparsity: Annotated[
        float | None,
        typer.Option(help="Of the tables transfer, cost and alarm, with --epsilon. Default: the "
                     "budget at which the attacks differ most."),
    ] = None,
    epsilon: Annotated[
        float | None, typer.Option(help="Of the tables transfer, cost and alarm, with --sparsity.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Write every table as .md, .csv and .tex to this folder instead."),
    ] = None,
) -> None:  # fmt: skip
    """Print or write the tables of a paper: success, consistency, transfer, cost, claims, alarm."""
    from sigma_ser.report.inputs import load_inputs
    from sigma_ser.report.paper_tables import TABLES, paper_tables
    from sigma_ser.report.typesetting import FORMATS, typeset, write_paper_tables

    if form not in FORMATS:
        raise typer.BadParameter(f"give one of {', '.join(FORMATS)}", param_hint="--format")
    if (sparsity is None) != (epsilon is None):
        raise typer.BadParameter("give both --sparsity and --epsilon, or neither")
    budget = None if sparsity is None or epsilon is None else (sparsity, epsilon)
    inputs = load_inputs(run)
    tables = paper_tables(
        inputs.rows, name or TABLES, metric=metric, budget=budget, detections=inputs.detections
    )
    if not tables:
        typer.echo("the run has no figures for these tables", err=True)
    if out is None:
        typer.echo("\n".join(typeset(one, form) for one in tables).rstrip("\n"))
        return
    for path in write_paper_tables(out, tables):
        typer.echo(path)
