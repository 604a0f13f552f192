"""Arguments and options that several commands share, and the corpus of features.

VICTIM comes before FEATURES in every command. Both may lie in a run folder.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sigma_ser.core.contracts import Victim
    from sigma_ser.corpora.corpus import Corpus
    from sigma_ser.encoders.store import FeatureStore

VICTIM_HELP = "Folder of a trained victim, `hf:<id or folder>`, or `package.module:Name`."
FEATURES_HELP = (
    "Folder of a feature store, which `sigma-ser extract` or a run wrote "
    "(`runs/NAME/features/...`)."
)
CORPUS_HELP = (
    "Corpus of the features: a registered corpus, a manifest, or a folder with one subfolder per "
    "class. The default is the corpus that the features or their run name."
)


class Surface(StrEnum):
    """What an attack changes."""

    FEATURES = "features"
    WAVEFORM = "waveform"


# Options of the commands that treat some utterances at a grid of budgets.
Sparsities = Annotated[
    list[float] | None,
    typer.Option(help="Share of the elements that may change. Repeatable. The default is 0.01."),
]
Epsilons = Annotated[
    list[float] | None,
    typer.Option(
        help="Maximum change of an element, in standard deviations of its channel. Repeatable. "
        "The default is 0.5."
    ),
]
Unit = Annotated[
    str,
    typer.Option(
        help="Unit of selection: `element`, `frame`, `channel` or `segment`. Only whole units "
        "change."
    ),
]
Ids = Annotated[
    Path | None,
    typer.Option(
        help="JSON list of the utterances to choose from. The default is the test part of the "
        "victim's own fold, or all utterances of the store if the fold is not known."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Number of utterances in a batch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def check_order(command: str, victim: str, features: Path) -> None:
    """Check that a victim and features are not given in each other's place.

    Args:
        command: name of the command.
        victim: the first argument.
        features: the second argument.

    Raises:
        ConfigError: gives the command in the right order.
    """
    from sigma_ser.core.errors import ConfigError

    if _holds(Path(victim), is_store) or _holds(features, _is_victim):
        raise ConfigError(
            f"VICTIM comes before FEATURES, and here {victim} and {features} are in the other "
            f"order; write sigma-ser {command} {features} {victim}"
        )


def victim_source(text: str) -> str:
    """A source of `load_victim`; for the folder of a run's victims, the only one in it.

    Raises:
        ConfigError: if the folder holds several victims, or the scores of one that a run loaded.
    """
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.runs.files import read_object
    from sigma_ser.victims.checkpoint import CARD, WEIGHTS

    if not Path(text).is_dir():
        return text
    folder = _only(Path(text), _is_victim, "victims")
    if _is_victim(folder) and not (folder / WEIGHTS).is_file():
        card = read_object(folder / CARD, [], "train the victim again")
        if "source" in card:
            raise ConfigError(
                f"{folder} holds the scores of a victim that a run loaded, and not its weights; "
                f"give its own source, {card['source']}"
            )
    return str(folder)


def features_folder(folder: Path) -> Path:
    """The folder of a feature store; for the folder of a run's features, the only one in it.

    Raises:
        ConfigError: if the folder holds several stores, or a victim.
    """
    from sigma_ser.core.errors import ConfigError

    if _holds(folder, _is_victim):
        raise ConfigError(f"{folder} is a victim and not a feature store; give its features")
    return _only(folder, is_store, "feature stores")


def victim_view(victim: Victim, store: FeatureStore) -> FeatureStore:
    """The features that a victim receives, with its layer weights applied.

    Raises:
        VictimError: if the victim was trained on features of another encoder.
    """
    from sigma_ser.victims.checkpoint import TrainedVictim

    if isinstance(victim, TrainedVictim):
        return victim.view(store)
    weights = getattr(victim, "layer_weights", None)
    return store if weights is None else store.weighted(weights)


def corpus_of(store: FeatureStore, corpus: str | None, root: Path | None) -> Corpus:
    """The corpus that features were extracted from; see `recordings_of`."""
    from sigma_ser.corpora.corpus import load_corpus

    return load_corpus(**recordings_of(store, corpus, root))


def recordings_of(store: FeatureStore, corpus: str | None, root: Path | None) -> dict[str, Any]:
    """Where the recordings of features are, as arguments of `load_corpus`.

    Args:
        store: the features. If they lie in a run folder, its study names the corpus.
        corpus: the corpus, if the user names it.
        root: folder of a registered corpus.

    Raises:
        ConfigError: if it is not known.
    """
    from sigma_ser.core import registry
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.study.audit import corpus_place

    name = str(store.card["corpus"]["name"])
    if corpus is not None:
        reader, place = corpus_place(corpus, root)
        return {"name": reader, "root": place}
    if root is None and (found := _corpus_of_run(store.folder, name)) is not None:
        return found
    if name not in registry.names("corpus"):
        raise ConfigError(
            f"the features in {store.folder} come from {name!r}, which is not a registered corpus; "
            "give the manifest or the folder of its recordings with --corpus"
        )
    return {"name": name, "root": root}


def _corpus_of_run(store: Path, name: str) -> dict[str, Any] | None:
    """The corpus of this name in the study of the run folder that holds a store."""
    from sigma_ser.corpora.corpus import load_corpus
    from sigma_ser.runs.files import read_object
    from sigma_ser.runs.layout import RunLayout
    from sigma_ser.study.sections import CorpusSection

    layout = RunLayout(store.absolute().parents[1])
    if layout.features(store.name) != store.absolute() or not layout.study.is_file():
        return None
    advice = "give the corpus of the features with --corpus"
    sections = read_object(layout.study, ["corpus"], advice)["corpus"] or []
    for section in map(CorpusSection.model_validate, sections):
        place = {"name": section.name, "root": section.root, **section.settings}
        if load_corpus(**place).name == name:
            return place
    return None


def _only(folder: Path, is_one: Callable[[Path], bool], what: str) -> Path:
    """The folder itself, or the only folder in it of a kind."""
    from sigma_ser.core.errors import ConfigError

    inside = [] if is_one(folder) else _inside(folder, is_one)
    if len(inside) > 1:
        shown = ", ".join(path.name for path in inside[:4]) + (", ..." if inside[4:] else "")
        raise ConfigError(f"{folder} holds {len(inside)} {what}; give one of them: {shown}")
    return inside[0] if inside else folder


def _holds(folder: Path, is_one: Callable[[Path], bool]) -> bool:
    return is_one(folder) or bool(_inside(folder, is_one))


def _inside(folder: Path, is_one: Callable[[Path], bool]) -> list[Path]:
    return sorted(filter(is_one, folder.iterdir())) if folder.is_dir() else []


def is_store(folder: Path) -> bool:
    """Whether a folder holds a feature store."""
    from sigma_ser.encoders.index import CARD

    return (folder / CARD).is_file()


def _is_victim(folder: Path) -> bool:
    from sigma_ser.victims.checkpoint import CARD

    return (folder / CARD).is_file()
