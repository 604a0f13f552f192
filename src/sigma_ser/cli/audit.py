"""`sigma-ser audit MODEL CORPUS`: where a recogniser breaks, on one page and in one sentence."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def audit(
    model: Annotated[
        str,
        typer.Argument(help="Folder of a trained victim, hf:<id or folder>, or module:Name."),
    ],
    corpus: Annotated[
        str, typer.Argument(help="A registered corpus, a manifest, or a folder of class folders.")
    ],
    root: Annotated[Path | None, typer.Option(help="Folder of a registered corpus.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/audit-<model> by default.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Whose features module:Name knows; others say so themselves.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer that is attacked: a number, `mean` or `all`.")
    ] = None,
    epsilon: Annotated[
        float, typer.Option(min=0, help="Largest move, in standard deviations of the channel.")
    ] = 0.5,
    utterances: Annotated[int, typer.Option(min=1, help="How many are attacked.")] = 70,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the study."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Audit a recogniser: strong attacks at three budgets, explanations, a page, a verdict."""
    import sigma_ser as ss
    from sigma_ser.core.files import whole_file
    from sigma_ser.study.audit import audit_study, verdict

    from . import results
    from .progress import shown_progress

    number = int(layer) if layer is not None and layer.lstrip("-").isdigit() else layer
    values = audit_study(
        model, corpus, root=root, encoder=encoder, layer=number, epsilon=epsilon,
        utterances=utterances,
    )  # fmt: skip
    with shown_progress() as progress, contextlib.redirect_stdout(sys.stderr):
        study = ss.run(values, out=out, overrides=settings or [], progress=progress)
    said = verdict(study.rows, float(study.victims[0]["uar"]))
    with whole_file(study.folder / "verdict.txt") as aside:
        aside.write_text(said + "\n", "utf-8")
    if as_json:
        typer.echo(json.dumps({"verdict": said, **json.loads(results.as_json(study))}))
    else:
        results.print_tables(study)
        typer.echo(said)
