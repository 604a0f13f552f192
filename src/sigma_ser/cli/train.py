"""`sigma-ser train FEATURES`: train heads on the folds of a protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sigma_ser.core.progress_bars import progress_on_stderr

from .arguments import CORPUS_HELP, FEATURES_HELP, corpus_of, features_folder
from .terminal import result_console

if TYPE_CHECKING:
    from sigma_ser.corpora.folds import Fold
    from sigma_ser.encoders.store import FeatureStore
    from sigma_ser.victims.settings import AdversarialTraining

_SCORES = ("uar", "uar_low", "uar_high", "accuracy", "macro_f1", "calibration_error")


def train(
    features: Annotated[Path, typer.Argument(help=FEATURES_HELP)],
    *,
    out: Annotated[
        Path, typer.Option(help="Output folder; each victim is written to its own subfolder.")
    ],
    protocol: Annotated[str, typer.Option(help="Split protocol; see `sigma-ser list protocol`.")],
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="Head to train; `sigma-ser list head` lists them, and `all` trains every head. "
            "Repeatable. The default is mlp."
        ),
    ] = None,
    corpus: Annotated[str | None, typer.Option(help=CORPUS_HELP)] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder of the corpus. The demo corpus needs none.")
    ] = None,
    fold: Annotated[
        list[str] | None, typer.Option(help="Name of a fold. Repeatable. The default is all folds.")
    ] = None,
    split_seed: Annotated[
        int, typer.Option(help="Random seed of the split, for protocols that split at random.")
    ] = 0,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="Random seed of the training. Repeatable. The default is 0."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set one value of the training (epochs=20) or of the head (head.hidden=64). "
            "Repeatable.",
        ),
    ] = None,
    frame_dropout: Annotated[
        float | None,
        typer.Option(
            help="Share of the frames of each utterance that a training step leaves out, for heads "
            "that are certified by frame ablation. The default is 0."
        ),
    ] = None,
    adversarial: Annotated[
        str | None,
        typer.Option(
            help="Train adversarially with this attack; settings are given in brackets: "
            '"pgd0(steps=5)".'
        ),
    ] = None,
    sparsity: Annotated[
        float, typer.Option(help="Share of the elements that this attack may change.")
    ] = 0.01,
    epsilon: Annotated[
        float,
        typer.Option(
            help="Maximum change of an element in this attack, in standard deviations of its "
            "channel."
        ),
    ] = 0.5,
    share: Annotated[
        float, typer.Option(help="Weight of the adversarial loss, above 0 and at most 1.")
    ] = 0.5,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Train classifier heads (victims) on the folds of a split protocol.

    Victims that already exist are not trained again.
    """
    import sigma_ser as ss
    from sigma_ser.core import registry

    store = ss.FeatureStore(features_folder(features))
    recordings = corpus_of(store, corpus, root)
    folds = _chosen(ss.make_folds(recordings, protocol, seed=split_seed), fold)
    heads = list(registry.names("head")) if head == ["all"] else head or ["mlp"]
    for name in heads:
        registry.get("head", name)
    dropped = [] if frame_dropout is None else [f"frame_dropout={frame_dropout}"]
    training, head_settings = _settings([*(changes or []), *dropped])
    hardening = _hardening(adversarial, sparsity, epsilon, share)
    lines = []
    with progress_on_stderr() as progress:
        tasks = [(h, f, s) for h in heads for f in folds for s in seed or [0]]
        progress.stage("training", len(tasks))
        for name, one, number in tasks:
            line = _one(store, one, name, number, head_settings, hardening, training, out)
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
    hardening: AdversarialTraining | None,
    training: dict[str, Any],
    out: Path,
) -> dict[str, Any]:
    """Train and save one victim, or load it; its settings and scores."""
    import sigma_ser as ss
    from sigma_ser.core.files import safe_name
    from sigma_ser.victims.training import trained_before

    folder = out / safe_name(f"{head}-{fold.name}-{seed}")
    started = time.perf_counter()
    victim = trained_before(
        folder, store=store, fold=fold, head=head, seed=seed, head_settings=head_settings,
        training=training, adversarial=hardening,
    )  # fmt: skip
    if victim is None:
        victim = ss.train(
            store, fold, head, seed, head_settings=head_settings, adversarial=hardening, **training
        )
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


def _chosen(folds: Sequence[Fold], names: Sequence[str] | None) -> list[Fold]:
    from sigma_ser.core.errors import ConfigError

    known = {fold.name: fold for fold in folds}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"there is no fold {name!r}; the protocol makes {', '.join(known)}")
    return [known[name] for name in names] if names else list(folds)


def _settings(changes: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`--set` options: those of the training, and those of the head (`head.hidden=64`)."""
    from sigma_ser.core.settings import parse_assignment
    from sigma_ser.victims.settings import TrainingSettings

    training: dict[str, Any] = {}
    head: dict[str, Any] = {}
    for key, value in map(parse_assignment, changes):
        if key.startswith("head."):
            head[key.removeprefix("head.")] = value
        else:
            training[key] = value
    TrainingSettings.of(training)
    return training, head


def _hardening(
    attack: str | None, sparsity: float, epsilon: float, share: float
) -> AdversarialTraining | None:
    if attack is None:
        return None
    import sigma_ser as ss
    from sigma_ser.core.settings import parse_call
    from sigma_ser.victims.settings import AdversarialTraining

    name, settings = parse_call(attack)
    budget = ss.Budget(sparsity=sparsity, epsilon=epsilon)
    return AdversarialTraining(attack=ss.make_attack(name, **settings), budget=budget, share=share)


def _means(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean scores over the folds and seeds of each head."""
    means = []
    for head in dict.fromkeys(line["head"] for line in lines):
        own = [line for line in lines if line["head"] == head]
        scores = ("uar", "accuracy", "macro_f1", "calibration_error", "seconds")
        averaged = {score: sum(line[score] for line in own) / len(own) for score in scores}
        means.append({"head": head, "victims": len(own), **averaged})
    return means


def _show(lines: Sequence[dict[str, Any]], means: Sequence[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(
        "head", "fold", "seed", "UAR", "95 %", "acc.", "F1", "ECE", "epochs", "s",
        box=box.SIMPLE,
        caption="In per cent. F1: mean over classes. ECE: expected calibration error.",
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
    result_console().print(table)
