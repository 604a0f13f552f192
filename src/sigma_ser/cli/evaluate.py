"""`sigma-ser evaluate VICTIM FEATURES`: classification scores per class and per speaker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import (
    CORPUS_HELP,
    FEATURES_HELP,
    VICTIM_HELP,
    check_order,
    corpus_of,
    features_folder,
    victim_source,
    victim_view,
)
from .terminal import result_console

if TYPE_CHECKING:
    from sigma_ser.core.contracts import Victim


def evaluate(
    victim: Annotated[str, typer.Argument(help=VICTIM_HELP)],
    features: Annotated[Path, typer.Argument(help=FEATURES_HELP)],
    *,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Score one part of a fold of this protocol. By default the whole store is scored."
        ),
    ] = None,
    fold: Annotated[
        str | None,
        typer.Option(
            help="Name of the fold. The default is the fold that the victim was trained on."
        ),
    ] = None,
    part: Annotated[
        str, typer.Option(help="Part of the fold: `test`, `validation` or `train`.")
    ] = "test",
    split_seed: Annotated[int, typer.Option(help="Random seed of the protocol.")] = 0,
    corpus: Annotated[str | None, typer.Option(help=CORPUS_HELP)] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the corpus, for scores per speaker.")
    ] = None,
    layer: Annotated[str, typer.Option(help="Hidden layer of the store, for hf: victims.")] = "-1",
    class_names: Annotated[
        str | None,
        typer.Option(
            help="Class names of hf: and package.module: victims, comma-separated, in the order of "
            "the logits."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Score a victim: UAR, confusion matrix, and results by class and by speaker.

    UAR is the unweighted average recall.
    """
    import sigma_ser as ss
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.corpora.folds import PARTS
    from sigma_ser.victims import evaluation
    from sigma_ser.victims.exposure import exposure

    if part not in PARTS:
        raise ConfigError(f"--part must be one of {', '.join(PARTS)}, got {part!r}")
    names = None if class_names is None else class_names.split(",")
    check_order("evaluate", victim, features)
    victim, features = victim_source(victim), features_folder(features)
    model = ss.load_victim(victim, layer=_layer(layer), class_names=names)
    store = victim_view(model, ss.FeatureStore(features))
    ids, speakers = list(store.ids), None
    named = (protocol, corpus, root) != (None, None, None)
    if named or store.card["corpus"]["name"] == "demo":
        recordings = corpus_of(store, corpus, root)
        speakers = {one.id: one.speaker for one in recordings.utterances}
        if protocol is not None:
            folds = ss.make_folds(recordings, protocol, seed=split_seed)
            ids = list(getattr(_fold(folds, fold, model), part))
    scores = evaluation.evaluate(model, store, ids, speakers=speakers)
    seen = exposure(model, ids)
    notes = [{"code": "training-recordings", "text": seen.text}] if seen.text else []
    scores = {
        "victim": victim, "store": str(features), "part": part if protocol else "all", **scores,
        "notes": notes,
    }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(scores))
        return
    _show(scores)
    for note in notes:
        # Not in the tables, which programs read as lines.
        typer.echo(f"Note ({note['code']}): {note['text']}", err=True)


def _layer(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdigit() else text


def _fold(folds: list[Any], name: str | None, victim: Victim) -> Any:
    from sigma_ser.core.errors import ConfigError

    card = getattr(victim, "card", None)
    wanted = name or (card.fold if card is not None else None)
    known = {fold.name: fold for fold in folds}
    if wanted is None and len(known) == 1:
        return folds[0]
    if wanted not in known:
        raise ConfigError(
            f"there is no fold {wanted!r}; select one of {', '.join(known)} with --fold"
        )
    fold_key = getattr(card, "fold_key", None)
    if name is None and fold_key not in (None, known[wanted].key):
        raise ConfigError(
            f"the fold {wanted!r} of this protocol is not the one that the victim was trained on; "
            "use the --protocol and --split-seed that it was trained with, "
            f"or --fold {wanted} to score it anyway"
        )
    return known[wanted]


def _show(scores: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    console = result_console()
    console.print(
        f"{scores['test_utterances']} utterances ({scores['part']}): "
        f"UAR {_percent(scores['uar'])} % (95 %: {_percent(scores['uar_low'])} to "
        f"{_percent(scores['uar_high'])}), accuracy {_percent(scores['accuracy'])} % "
        f"({_percent(scores['accuracy_low'])} to {_percent(scores['accuracy_high'])}), "
        f"macro-F1 {_percent(scores['macro_f1'])} %, "
        f"calibration error {scores['calibration_error']:.3f}",
        highlight=False,
    )
    classes = Table(
        "true class", "utterances", "recall", "precision", "F1", *scores["class_names"],
        title="Scores per class and confusion matrix (columns: predicted class)", box=box.SIMPLE,
    )  # fmt: skip
    for (name, own), row in zip(scores["classes"].items(), scores["confusion"], strict=True):
        rates = [_percent(own[rate]) for rate in ("recall", "precision", "f1")]
        classes.add_row(name, str(own["utterances"]), *rates, *(str(count) for count in row))
    console.print(classes)
    if "speakers" in scores:
        speakers = Table("speaker", "utterances", "UAR", "accuracy", box=box.SIMPLE)
        for name, own in scores["speakers"].items():
            rates = [_percent(own[rate]) for rate in ("uar", "accuracy")]
            speakers.add_row(name, str(own["utterances"]), *rates)
        console.print(speakers)


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.1f}"
