"""`sigma-ser attack VICTIM FEATURES ATTACK ...`: attacks on one victim, at a grid of budgets."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigma_ser.core.rows import AUDIO_QUALITY

from .arguments import (
    FEATURES_HELP,
    VICTIM_HELP,
    AsJson,
    BatchSize,
    Epsilons,
    Ids,
    Sparsities,
    Surface,
    Unit,
    check_order,
    features_folder,
    is_store,
    recordings_of,
    victim_source,
)
from .attack_table import SHOWN, print_table

if TYPE_CHECKING:
    from sigma_ser.evaluate.notes import NoteIndex
    from sigma_ser.study.run import Study
    from sigma_ser.victims.exposure import Exposure

_DEFAULT = ("dual-averaging", "sigma-autoattack")
_CONDITION = (*SHOWN, "granularity", "surface")
_FIGURES = (
    "utterances", "asr", "asr_low", "asr_high", "l0_share", "linf", "forwards", "backwards",
    "mask_forwards", "mask_backwards", "seconds", *AUDIO_QUALITY,
)  # fmt: skip


def attack(
    victim: Annotated[str, typer.Argument(help=VICTIM_HELP)],
    features: Annotated[Path, typer.Argument(help=FEATURES_HELP)],
    attacks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of attacks; `sigma-ser list attack` lists them. An attack of another "
            "library has a prefix: `foolbox:LinfPGD`. Settings are given in brackets: "
            '"dual-averaging(steps=50)". The default is dual-averaging and sigma-autoattack.'
        ),
    ] = None,
    *,
    sparsity: Sparsities = None,
    epsilon: Epsilons = None,
    granularity: Unit = "element",
    surface: Annotated[
        Surface,
        typer.Option(
            help="What is attacked: `features`, or the `waveform` of their recordings. On the "
            "waveform, epsilon is a share of full scale, and success is that of 16-bit files."
        ),
    ] = Surface.FEATURES,
    snr: Annotated[
        list[float] | None,
        typer.Option(
            help="On the waveform, smallest signal-to-noise ratio in dB, in place of epsilon. "
            "Repeatable."
        ),
    ] = None,
    explainer: Annotated[
        list[str] | None,
        typer.Option(help="Also attack inside the mask of this explainer. Repeatable."),
    ] = None,
    scope: Annotated[
        list[int] | None,
        typer.Option(
            min=1,
            help="Mask size as a multiple of the budget k. Repeatable. The default is 1 and 8.",
        ),
    ] = None,
    mask_victim: Annotated[
        str | None,
        typer.Option(
            help="Victim whose explanations make the masks. The default is the attacked victim."
        ),
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="First extract this corpus into FEATURES, with the victim's encoder. On the "
            "waveform also the corpus of the recordings, by default the one that the features name."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of that corpus.")] = None,
    ids: Ids = None,
    utterances: Annotated[
        int, typer.Option(min=1, help="Maximum number of utterances to attack.")
    ] = 48,
    batch_size: BatchSize = 16,
    seed: Annotated[int, typer.Option(help="Random seed for stochastic attacks.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the run (rows, report page, tables, figures) to this folder. By default "
            "nothing is kept."
        ),
    ] = None,
    save_audio: Annotated[
        Path | None,
        typer.Option(
            help="Write each perturbed recording to this folder, as a 16-bit FLAC file that states "
            "in its tags how it was made."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Attack utterances that the victim classifies correctly.

    Every perturbation is checked against its budget.
    """
    import sigma_ser as ss
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.core.gradient_signs import masked_warnings
    from sigma_ser.core.progress_bars import progress_on_stderr
    from sigma_ser.study.attack import attack_exposure, attack_study
    from sigma_ser.study.transfer import save_audio as write_audio

    from . import results

    names, budgets = attacks or list(_DEFAULT), (sparsity or [0.01], epsilon or [0.5])
    # Before the features are opened or extracted, so that a typo costs no time.
    _check(names, *budgets, granularity, explainer or [])
    if mask_victim is not None and not explainer:
        raise ConfigError("--mask-victim needs --explainer, the method that explains that victim")
    on_waveform = surface is Surface.WAVEFORM
    if not on_waveform and (snr or save_audio is not None):
        raise ConfigError("--snr and --save-audio need --surface waveform; add it")
    chosen = None if ids is None else results.read_ids(ids)
    check_order("attack", victim, features)
    victim = victim_source(victim)
    mask_victim = None if mask_victim is None else victim_source(mask_victim)
    if corpus is not None and not (on_waveform and is_store(features)):
        _extract(features, corpus, root, victim)
    features = features_folder(features)
    recordings = recordings_of(ss.FeatureStore(features), corpus, root) if on_waveform else None
    values = attack_study(
        victim, features, names, sparsity=budgets[0], epsilon=budgets[1], granularity=granularity,
        explainers=explainer or [], scopes=scope or [1, 8], mask_victim=mask_victim,
        ids=chosen, utterances=utterances, batch_size=batch_size, seed=seed,
        snr=snr or (), recordings=recordings, keep=save_audio is not None,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sigma-ser-")))
        with progress_on_stderr() as progress, contextlib.redirect_stdout(sys.stderr):
            study = ss.run(values, out=folder, progress=progress)
        if recordings is not None and save_audio is not None:
            write_audio(study.layout, ss.load_corpus(**recordings), save_audio)
        notes = results.notes_of(study)
        seen = attack_exposure(victim, values["evaluation"]["ids"])
        cells = _cells(study, notes)
        if as_json:
            _print_json(
                study, notes, seen, cells, victim, features, None if out is None else folder
            )
        else:
            for warning in masked_warnings(study.victims):
                # Not in the table, which programs read as lines.
                typer.echo(f"Warning: {warning}", err=True)
            print_table(cells)
            for note in _notes(notes, seen):
                # Not among the lines of the table, for the same reason.
                typer.echo(f"Note ({note['code']}): {note['text']}", err=True)
            if out is not None:
                typer.echo(f"Report: {study.report}")
    if any("refused" in cell for cell in cells):
        raise typer.Exit(1)


def _check(
    attacks: Sequence[str],
    sparsity: Sequence[float],
    epsilon: Sequence[float],
    granularity: str,
    explainers: Sequence[str],
) -> None:
    """Make every attack, budget and explainer once.

    Raises:
        SigmaError: if one of them does not exist or is out of range.
    """
    import sigma_ser as ss
    from sigma_ser.core.settings import parse_call

    for name, settings in map(parse_call, attacks):
        ss.make_attack(name, **settings)
    for share, bound in itertools.product(sparsity, epsilon):
        ss.Budget(sparsity=share, epsilon=bound, granularity=granularity)  # type: ignore[arg-type]
    for name in explainers:
        ss.make_explainer(name)


def _extract(folder: Path, corpus: str, root: Path | None, victim: str) -> None:
    """Extract a corpus with the encoder that the victim was trained on."""
    import sigma_ser as ss
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.core.progress_bars import progress_on_stderr

    trained = ss.load_victim(Path(victim)) if Path(victim).is_dir() else None
    if trained is None:
        raise ConfigError(
            "--corpus needs the folder of a trained victim, whose card names its encoder; "
            "otherwise run `sigma-ser extract` and give its store"
        )
    card = trained.card.encoder
    encoder = ss.load_encoder(
        str(card["name"]), layer=card["layer"], revision=card.get("revision"),
        context=card.get("context"),
    )  # fmt: skip
    recordings = ss.load_corpus(corpus, root)
    with progress_on_stderr() as progress:
        progress.stage("extracting", len(recordings))
        before = 0

        def advance(done: int, total: int) -> None:
            nonlocal before
            progress.advance(done - before)
            before = done

        ss.extract(recordings, encoder, folder, progress=advance)


def _notes(notes: NoteIndex, seen: Exposure) -> list[dict[str, Any]]:
    """The notes on the result, that on recordings of the training first."""
    trained = {"code": "training-recordings", "text": seen.text}
    return [*([trained] if seen.text else []), *notes.lines]


def _cells(study: Study, notes: NoteIndex) -> list[dict[str, Any]]:
    """Success, size and cost of each cell in the order of the study, refused cells included."""
    from sigma_ser.evaluate.paired import CONTEST, METHOD
    from sigma_ser.evaluate.summary import summarise

    from . import results

    by = list(dict.fromkeys((*CONTEST, *METHOD)))
    cells = [
        {name: line[name] for name in (*_CONDITION, *_FIGURES)}
        | {"notes": results.codes(notes, line)}
        for line in summarise(study.rows, by).to_dicts()
    ]
    # Several parts of one cell may have failed.
    failed = {one["key"]: one for one in study.failures if one["condition"]}
    refused = [
        {name: one["condition"][name] for name in _CONDITION} | {"refused": one["reason"]}
        for one in failed.values()
    ]
    order = [section.name for section in study.config.attacks]
    return sorted(cells + refused, key=lambda cell: order.index(cell["attack"]))


def _print_json(
    study: Study,
    notes: NoteIndex,
    seen: Exposure,
    cells: list[dict[str, Any]],
    victim: str,
    features: Path,
    folder: Path | None,
) -> None:
    from sigma_ser.core.gradient_signs import masked_warnings

    result = {
        "victim": victim,
        "features": str(features),
        "utterances": seen.utterances,
        "training_recordings": seen.known,
        "notes": _notes(notes, seen),
        "gradient_check": study.victims[0].get("gradient_check"),
        "warnings": masked_warnings(study.victims),
        "cells": cells,
        "run": None if folder is None else str(folder),
        "rows": None if folder is None else str(study.layout.rows),
    }
    typer.echo(json.dumps(result))
