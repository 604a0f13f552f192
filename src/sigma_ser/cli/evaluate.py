"""`sigma-ser evaluate VICTIM STORE`: how good a victim is, per class and per speaker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sigma_ser.core.contracts import Victim
    from sigma_ser.encoders.store import FeatureStore


def evaluate(
    victim: Annotated[
        str, typer.Argument(help="Folder of a trained victim, hf:<id or folder>, or module:Class.")
    ],
    store: Annotated[Path, typer.Argument(help="Feature store: see `sigma-ser extract`.")],
    *,
    protocol: Annotated[
        str | None, typer.Option(help="Score one part of a fold of this protocol.")
    ] = None,
    fold: Annotated[
        str | None, typer.Option(help="That fold; of a trained victim, its own by default.")
    ] = None,
    part: Annotated[str, typer.Option(help="`test`, `validation` or `train`.")] = "test",
    split_seed: Annotated[int, typer.Option(help="Of the protocol, where it draws one.")] = 0,
    root: Annotated[Path | None, typer.Option(help="Folder of the corpus.")] = None,
    layer: Annotated[str, typer.Option(help="For hf: the hidden state of the store.")] = "-1",
    class_names: Annotated[
        str | None, typer.Option(help="Foreign victims: class names in their order, a,b,c.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Score a victim on a corpus: UAR with its interval, confusion, classes, speakers."""
    import sigma_ser as ss
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.corpora.folds import PARTS
    from sigma_ser.victims import evaluation

    if part not in PARTS:
        raise ConfigError(f"--part takes {', '.join(PARTS)}, got {part!r}")
    names = None if class_names is None else class_names.split(",")
    model = ss.load_victim(victim, layer=_layer(layer), class_names=names)
    features = _heard(model, ss.FeatureStore(store))
    name = features.card["corpus"]["name"]
    ids, speakers = list(features.ids), None
    if protocol is not None or root is not None or name == "demo":
        corpus = ss.load_corpus(name, root)
        speakers = {one.id: one.speaker for one in corpus.utterances}
        if protocol is not None:
            folds = ss.make_folds(corpus, protocol, seed=split_seed)
            ids = list(getattr(_fold(folds, fold, model), part))
    scores = evaluation.evaluate(model, features, ids, speakers=speakers)
    scores = {"victim": victim, "store": str(store), "part": part if protocol else "all", **scores}
    if as_json:
        typer.echo(json.dumps(scores))
        return
    _show(scores)


def _layer(text: str) -> int | str:
    return int(text) if text.removeprefix("-").isdigit() else text


def _heard(victim: Victim, store: FeatureStore) -> FeatureStore:
    """The store as the victim hears it, where it has learnt to weigh layers."""
    from sigma_ser.victims.checkpoint import TrainedVictim

    if isinstance(victim, TrainedVictim):
        return victim.view(store)
    weights = getattr(victim, "layer_weights", None)
    return store if weights is None else store.weighted(weights)


def _fold(folds: list[Any], name: str | None, victim: Victim) -> Any:
    from sigma_ser.core.errors import ConfigError

    card = getattr(victim, "card", None)
    wanted = name or (card.fold if card is not None else None)
    known = {fold.name: fold for fold in folds}
    if wanted is None and len(known) == 1:
        return folds[0]
    if wanted not in known:
        raise ConfigError(
            f"there is no fold {wanted!r}; give one of {', '.join(known)} with --fold"
        )
    learnt = getattr(card, "fold_key", None)
    if name is None and learnt not in (None, known[wanted].key):
        raise ConfigError(
            f"the fold {wanted!r} of this protocol is not the one that the victim learnt from; "
            "give protocol and --split-seed of its training, "
            f"or --fold {wanted} to score it all the same"
        )
    return known[wanted]


def _show(scores: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
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
        title="Classes, and what they were taken for", box=box.SIMPLE,
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
