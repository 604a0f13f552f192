"""`sigma-ser demo`: a complete study on the embedded corpus and encoder, without a download."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import polars as pl

    from sigma_ser.study.run import Study

# Probability of a difference by chance below which the demo calls it one.
_CHANCE = 0.05


def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Attack two small emotion recognisers on synthetic speech, in about 90 seconds."""
    from sigma_ser.demo import study_path
    from sigma_ser.execution.threads import one_thread

    from .run import execute

    # The number of threads changes the last bits of the features, and training amplifies them.
    with one_thread():
        study = execute(study_path(), out, [], as_json)
    if not as_json:
        from .terminal import command_name, indented

        name = command_name()
        typer.echo("\nWhat was found")
        for sentence in finding(study):
            typer.echo(indented(sentence))
        typer.echo("\nWhat next")
        typer.echo(f"  open {study.report} in a browser")
        typer.echo(f"  {name} list                # attacks, explanations, corpora ...")
        typer.echo(f"  {name} init > study.toml   # a study of your own, with comments")


def finding(study: Study, victim: str = "mlp", explainer: str = "gradient") -> list[str]:
    """The result of the demo in sentences that need no knowledge of the field.

    Args:
        study: the finished demo.
        victim: the recogniser of which the sentences speak.
        explainer: the explanation of which they speak.
    """
    cells = [
        cell
        for cell in study.summary.to_dicts()
        if cell["surface"] == "features" and cell["victim"] == victim
    ]
    free = _cell(cells, "dual-averaging", None)
    marked = _cell(cells, "dual-averaging", explainer)
    elsewhere = _cell(cells, "dual-averaging", "random")
    noise = _cell(cells, "random", None)
    one_in = round(1 / free["sparsity"])
    helps = marked["asr"] > elsewhere["asr"] and _differ(study.rows, marked, elsewhere)
    return [
        f"The recogniser {victim!r} named the emotion of {free['utterances']} recordings "
        f"correctly. It receives each recording as a table of numbers, and an attack changed one "
        f"in {one_in} of them. Random changes made it answer wrongly on {noise['asr']:.0%} of the "
        f"recordings, and an attack that chose the numbers freely on {free['asr']:.0%}.",
        f"Where the attack had to choose among numbers that an explanation ({explainer!r}) marks "
        f"as important, it still succeeded on {marked['asr']:.0%}; among as many random numbers, "
        f"on {elsewhere['asr']:.0%}. "
        + (
            "So the explanation shows where this recogniser is vulnerable."
            if helps
            else "The difference may be chance, so this does not show where it is vulnerable."
        ),
    ]


def _differ(rows: pl.DataFrame, *cells: dict[str, Any]) -> bool:
    """Whether two cells misled different numbers of the same recordings beyond chance (5 %)."""
    import polars as pl

    from sigma_ser.statistics.mcnemar import mcnemar

    names = ("surface", "victim", "attack", "explainer", "scope")
    success = [
        rows.filter(
            "correct_before", *(pl.col(name).eq_missing(pl.lit(cell[name])) for name in names)
        )
        .sort("utterance")["success"]
        .to_numpy()
        for cell in cells
    ]
    return mcnemar(*success) < _CHANCE


def _cell(cells: list[dict[str, Any]], attack: str, explainer: str | None) -> dict[str, Any]:
    """The cell of an attack, without a mask or in the largest mask of an explanation."""
    found = [one for one in cells if (one["attack"], one["explainer"]) == (attack, explainer)]
    return max(found, key=lambda one: one["scope"] or 0)
