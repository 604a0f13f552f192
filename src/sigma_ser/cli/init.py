"""`sigma-ser init`: print a commented study, or a file of criteria, to start from."""

from __future__ import annotations

from typing import Annotated

import typer


def init(
    corpus: Annotated[
        str, typer.Option(help="Corpus of the study; `sigma-ser list corpus` names them.")
    ] = "demo",
    root: Annotated[
        str | None, typer.Option(help="Folder or table of the corpus, written into the study.")
    ] = None,
    criteria: Annotated[
        bool,
        typer.Option(
            "--criteria", help="Print a file of criteria for sigma-ser audit instead of a study."
        ),
    ] = False,
) -> None:
    """Print a commented study to start from: sigma-ser init > study.toml."""
    if criteria:
        from sigma_ser.evaluate.criteria.declared import criteria_text

        typer.echo(criteria_text(), nl=False)
        return
    from .study_template import study_template

    typer.echo(study_template(corpus, root), nl=False)
