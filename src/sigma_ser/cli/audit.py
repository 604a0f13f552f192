"""`sigma-ser audit MODEL CORPUS`: a robustness audit of one recogniser, with a report page."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

AuditSurface = Literal["features", "waveform", "both"]


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
    surface: Annotated[
        AuditSurface,
        typer.Option(
            help="What is attacked: features, waveform (the recordings themselves), or both."
        ),
    ] = "features",
    waveform_utterances: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Maximum number of these utterances to attack on the waveform. The default is 24, "
            "or all where a criterion concerns the waveform or a corruption.",
        ),
    ] = None,
    criteria: Annotated[
        Path | None,
        typer.Option(
            help="Criteria file, which gives the verdict and the budgets; sigma-ser init "
            "--criteria prints one."
        ),
    ] = None,
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
    """Audit a victim with strong attacks, against declared criteria or at three budgets.

    Without criteria the budgets are 0.1, 1 and 5 % of the feature values, and on the waveform 10
    and 100 % of the samples at 20, 30 and 40 dB. The recordings are also changed as it happens
    without an attacker: noise, reverberation, telephone, coding, level. The run folder contains the
    record audit.json and the pages report/audit.html and report/index.html. With criteria the exit
    status is 0 if all of them are passed, and 3 if one fails or is inconclusive.
    """
    import sigma_ser as ss
    from sigma_ser.core.files import whole_file
    from sigma_ser.core.progress_bars import progress_on_stderr
    from sigma_ser.evaluate.criteria.loading import load_criteria
    from sigma_ser.report.audit_page import write_audit_page
    from sigma_ser.report.audit_record import write_record
    from sigma_ser.report.audit_sentences import summary, verdict, wrong_anyway
    from sigma_ser.study.audit import audit_study, declare
    from sigma_ser.study.loading import parse_study
    from sigma_ser.study.run import default_folder

    from . import results

    declared = None if criteria is None else load_criteria(criteria)
    number = int(layer) if layer is not None and layer.lstrip("-").isdigit() else layer
    values = audit_study(
        model, corpus, root=root, encoder=encoder, layer=number, epsilon=epsilon,
        utterances=utterances, criteria=declared, surface=surface,
        waveform_utterances=waveform_utterances,
    )  # fmt: skip
    if criteria is not None:
        name = parse_study(values, settings or []).config.name
        declare(criteria, default_folder(name) if out is None else out)
    with progress_on_stderr() as progress, contextlib.redirect_stdout(sys.stderr):
        study = ss.run(values, out=out, overrides=settings or [], progress=progress)
    record = write_record(study.folder)
    page = write_audit_page(study.folder, record)
    sentence = verdict(
        study.rows, float(study.victims[0]["uar"]), record["gradient_check"]["surfaces"]
    )
    sentence = " ".join(part for part in (sentence, wrong_anyway(record)) if part)
    sentence = results.with_notes(sentence, results.notes_of(study))
    if declared is not None:
        sentence = f"{summary(record)} {sentence}"
    with whole_file(study.layout.verdict) as aside:
        aside.write_text(sentence + "\n", "utf-8")
    if as_json:
        typer.echo(
            json.dumps({**json.loads(results.as_json(study)), "summary": sentence, **record})
        )
    else:
        results.print_tables(study)
        results.print_criteria(record)
        typer.echo(f"Audit: {page}")
        typer.echo(sentence)
    if record["verdict"] not in (None, "pass"):
        raise typer.Exit(3)
