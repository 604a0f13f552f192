"""The root command: its subcommands and its error handling."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Annotated

import typer

from sigma_ser.core.errors import SigmaError

from . import (
    attack,
    audit,
    catalogue,
    certify,
    compare,
    corpus,
    demo,
    diff,
    doctor,
    evaluate,
    explain,
    extract,
    gc,
    init,
    leaderboard,
    report,
    run,
    status,
    table,
    train,
    view,
)

_HELP = (
    "Saliency-guided sparse attacks on speech emotion recognisers. A victim is the model that is "
    "attacked: a classifier (its head) on the features of a pretrained encoder."
)

app = typer.Typer(
    name="sigma-ser",
    help=_HELP,
    epilog="To start, run: sigma-ser demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("audit")(audit.audit)
app.command("init")(init.init)
app.command("status")(status.status)
app.command("diff")(diff.diff)
app.command("gc")(gc.gc)
app.add_typer(corpus.app, name="corpus")
app.command("extract")(extract.extract)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("attack")(attack.attack)
app.command("certify")(certify.certify)
app.command("explain")(explain.explain)
app.command("report")(report.report)
app.command("view")(view.view)
app.command("table")(table.table)
app.command("compare")(compare.compare)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("list")(catalogue.list_names)
app.command("show")(catalogue.show)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from sigma_ser import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the full traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Saliency-guided sparse attacks on speech emotion recognisers."""


def _terminate(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does on SIGTERM, which batch systems send at the end of the time of a job."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process at once
    raise KeyboardInterrupt


def run_command_line() -> None:
    """Run the command line; a `SigmaError` is printed as one sentence with exit status 2.

    SIGINT (Ctrl-C) and SIGTERM end it alike, with status 130 and 143: workers are stopped, and a
    run records that it was stopped.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except SigmaError as fault:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"sigma-ser: {fault}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as ended:
        # Typer exits with this status, without a message, on a keyboard interrupt.
        if isinstance(ended, SystemExit) and ended.code != 130:
            raise
        typer.echo("sigma-ser: interrupted; completed results are kept", err=True)
        # `_terminate` has removed itself.
        sys.exit(143 if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else 130)
