"""`sigma-ser audit MODEL CORPUS`: a robustness audit of one recogniser, with a report page."""

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
        typer.Argument(
            help="Victim to audit: the folder of a trained victim, hf:<id or folder>, or "
            "package.module:Name."
        ),
    ],
    corpus: Annotated[
        str,
        typer.Argument(
            help="Corpus to attack: a registered corpus, a manifest, or a folder with one "
            "subfolder per class."
        ),
    ],
    root: Annotated[Path | None, typer.Option(help="Folder of a registered corpus.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. The default is runs/audit-<model>.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Encoder whose features package.module:Name expects; other victims record their "
            "encoder."
        ),
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Encoder layer whose features are attacked: a number, `mean` or `all`."),
    ] = None,
    epsilon: Annotated[
        float,
        typer.Option(
            min=0, help="Maximum change of an element, in standard deviations of its channel."
        ),
    ] = 0.5,
    utterances: Annotated[
        int, typer.Option(min=1, help="Maximum number of utterances to attack.")
    ] = 70,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override one value of the study. Repeatable."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Audit a victim at three budgets (0.1, 1 and 5 % of the elements); write a report page."""
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
    summary = verdict(
        study.rows, float(study.victims[0]["uar"]), study.victims[0].get("gradient_check")
    )
    summary = results.with_notes(summary, results.notes_of(study))
    with whole_file(study.layout.verdict) as aside:
        aside.write_text(summary + "\n", "utf-8")
    if as_json:
        typer.echo(json.dumps({"verdict": summary, **json.loads(results.as_json(study))}))
    else:
        results.print_tables(study)
        typer.echo(summary)
