"""`sigma-ser train STORE`: heads on the folds of a protocol, in one command."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .progress import shown_progress

if TYPE_CHECKING:
    from sigma_ser.corpora.folds import Fold
    from sigma_ser.encoders.store import FeatureStore
    from sigma_ser.victims.checkpoint import TrainedVictim
    from sigma_ser.victims.settings import AdversarialTraining

_SCORES = ("uar", "uar_low", "uar_high", "accuracy", "macro_f1", "calibration_error")


def train(
    store: Annotated[Path, typer.Argument(help="Feature store: see `sigma-ser extract`.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder; each victim gets one of its own in it.")],
    protocol: Annotated[str, typer.Option(help="See `sigma-ser list protocol`.")],
    head: Annotated[
        list[str] | None, typer.Option(help="See `sigma-ser list head`; may be repeated; or `all`.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the corpus; the demo needs none.")
    ] = None,
    fold: Annotated[
        list[str] | None, typer.Option(help="Folds by name, may be repeated; all by default.")
    ] = None,
    split_seed: Annotated[int, typer.Option(help="Of the protocol, where it draws one.")] = 0,
    seed: Annotated[
        list[int] | None, typer.Option(help="Of the training, may be repeated; 0 by default.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting: epochs=20, noise=0.3, head.hidden=64 ..."),
    ] = None,
    adversarial: Annotated[
        str | None, typer.Option(help="Also train on features attacked by this attack.")
    ] = None,
    sparsity: Annotated[float, typer.Option(help="Of that attack: share of elements.")] = 0.01,
    epsilon: Annotated[float, typer.Option(help="Of that attack: in units of scale.")] = 0.5,
    steps: Annotated[int | None, typer.Option(min=1, help="Of that attack, if it has.")] = None,
    share: Annotated[float, typer.Option(help="Weight of the attacked features, to 1.")] = 0.5,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Train heads on the folds of a protocol; victims that are there already are kept."""
    import sigma_ser as ss
    from sigma_ser.core import registry

    features = ss.FeatureStore(store)
    corpus = ss.load_corpus(features.card["corpus"]["name"], root)
    folds = _chosen(ss.make_folds(corpus, protocol, seed=split_seed), fold)
    heads = list(registry.names("head")) if head == ["all"] else head or ["mlp"]
    for name in heads:
        registry.get("head", name)
    training, head_settings = _settings(changes or [])
    plan = _plan(adversarial, sparsity, epsilon, steps, share)
    lines = []
    with shown_progress() as progress:
        tasks = [(h, f, s) for h in heads for f in folds for s in seed or [0]]
        progress.stage("training", len(tasks))
        for name, one, number in tasks:
            line = _one(features, one, name, number, head_settings, plan, training, out)
            lines.append(line)
            progress.note(
                f"{name}, {one.name}, seed {number}: UAR {100 * line['uar']:.1f} % on "
                f"{line['test_utterances']} utterances after {line['epochs']} epochs"
            )
            progress.advance()
    means = _means(lines)
    if as_json:
        typer.echo(json.dumps({"victims": lines, "means": means}))
        return
    _show(lines, means)


def _one(
    store: FeatureStore,
    fold: Fold,
    head: str,
    seed: int,
    head_settings: dict[str, Any],
    plan: AdversarialTraining | None,
    training: dict[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Train and save one victim, or find it; what it is and how good."""
    import sigma_ser as ss
    from sigma_ser.core.files import safe_name, write_json

    folder = out / safe_name(f"{head}-{fold.name}-{seed}")
    wanted = {"head_settings": head_settings, "training": training, "fold": fold.key,
              "store": store.key, "adversarial": plan.described() if plan else None}  # fmt: skip
    asked = folder / "asked.json"
    started = time.perf_counter()
    victim = _there(folder, asked, wanted)
    if victim is None:
        victim = ss.train(
            store, fold, head, seed, head_settings=head_settings, adversarial=plan, **training
        )
        write_json(asked, wanted)
        victim.save(folder)
    test = victim.card.metrics["test"]
    return {
        "head": head,
        "fold": fold.name,
        "seed": seed,
        "folder": str(folder),
        "test_utterances": test["test_utterances"],
        "epochs": victim.card.training["epochs_run"],
        "seconds": round(time.perf_counter() - started, 3),
        **{score: test[score] for score in _SCORES},
    }


def _there(folder: Path, asked: Path, wanted: dict[str, Any]) -> TrainedVictim | None:
    """The victim of an earlier run of the same command."""
    from sigma_ser.core.errors import VictimError
    from sigma_ser.victims.checkpoint import CARD
    from sigma_ser.victims.loading import load_victim

    if not (folder / CARD).is_file():
        return None
    if not asked.is_file() or json.loads(asked.read_text("utf-8")) != wanted:
        raise VictimError(
            f"{folder} holds a victim that was trained otherwise; choose another --out"
        )
    return load_victim(folder)


def _chosen(folds: Sequence[Fold], names: Sequence[str] | None) -> list[Fold]:
    from sigma_ser.core.errors import ConfigError

    known = {fold.name: fold for fold in folds}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"there is no fold {name!r}; the protocol makes {', '.join(known)}")
    return [known[name] for name in names] if names else list(folds)


def _settings(changes: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`--set` options: those of the training, and those of the head (`head.hidden=64`)."""
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.victims.settings import TrainingSettings

    training: dict[str, Any] = {}
    head: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if not equals or not isinstance(value, int | float):
            raise ConfigError(f"--set takes key=number, such as epochs=20, got {change!r}")
        if key.startswith("head."):
            head[key.removeprefix("head.")] = value
        else:
            training[key] = value
    TrainingSettings.of(training)
    return training, head


def _plan(
    name: str | None, sparsity: float, epsilon: float, steps: int | None, share: float
) -> AdversarialTraining | None:
    if name is None:
        return None
    import sigma_ser as ss
    from sigma_ser.victims.settings import AdversarialTraining

    attack = ss.make_attack(name, **({} if steps is None else {"steps": steps}))
    budget = ss.Budget(sparsity=sparsity, epsilon=epsilon)
    return AdversarialTraining(attack=attack, budget=budget, share=share)


def _means(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Over the folds and seeds of each head."""
    means = []
    for head in dict.fromkeys(line["head"] for line in lines):
        own = [line for line in lines if line["head"] == head]
        scores = ("uar", "accuracy", "macro_f1", "calibration_error", "seconds")
        averaged = {score: sum(line[score] for line in own) / len(own) for score in scores}
        means.append({"head": head, "victims": len(own), **averaged})
    return means


def _show(lines: Sequence[dict[str, Any]], means: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "head", "fold", "seed", "UAR", "95 %", "acc.", "F1", "ECE", "epochs", "s",
        box=box.SIMPLE, caption="Per cent. F1 is the mean over classes, ECE the calibration error.",
    )  # fmt: skip
    scores = ("accuracy", "macro_f1", "calibration_error")
    for line in [*lines, *means]:
        interval = [f"{100 * line[end]:.0f}" for end in ("uar_low", "uar_high") if end in line]
        table.add_row(
            line["head"],
            line.get("fold") or f"mean of {line['victims']}",
            str(line.get("seed", "")),
            f"{100 * line['uar']:.1f}",
            " - ".join(interval),
            *(f"{100 * line[score]:.1f}" for score in scores),
            str(line.get("epochs", "")),
            f"{line['seconds']:.0f}",
        )
    Console().print(table)
