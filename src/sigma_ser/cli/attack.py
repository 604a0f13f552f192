"""`sigma-ser attack VICTIM FEATURES ATTACK ...`: attacks on one victim, at one budget or a grid."""

from __future__ import annotations

import ast
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .attack_table import shown_cells

if TYPE_CHECKING:
    import polars as pl

    from sigma_ser.core.contracts import Victim
    from sigma_ser.core.features import FeatureBatch
    from sigma_ser.encoders.store import FeatureStore


def attack(
    victim: Annotated[
        str, typer.Argument(help="Folder of a victim, `hf:<id>` or `package.module:Class`.")
    ],
    features: Annotated[Path, typer.Argument(help="Feature store: see `sigma-ser extract`.")],
    attacks: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names (see `sigma-ser list attack`, or `foolbox:LinfPGD`), with settings in "
            'brackets where they are not the default: "dual-averaging(steps=50)". '
            "[default: dual-averaging, sigma-autoattack]"
        ),
    ] = None,
    *,
    sparsity: Annotated[
        list[float] | None,
        typer.Option(help="Share of the elements that may change; repeatable. [default: 0.01]"),
    ] = None,
    epsilon: Annotated[
        list[float] | None,
        typer.Option(help="Bound in standard deviations; repeatable. [default: 0.5]"),
    ] = None,
    granularity: Annotated[
        str, typer.Option(help="`element`, `frame`, `channel` or `segment`.")
    ] = "element",
    explainer: Annotated[
        list[str] | None,
        typer.Option(help="Attack inside the mask of this explanation; repeatable."),
    ] = None,
    scope: Annotated[
        list[int] | None,
        typer.Option(min=1, help="The mask holds so many times k; repeatable. [default: 1, 8]"),
    ] = None,
    mask_victim: Annotated[
        str | None, typer.Option(help="The victim that is explained; by default the attacked one.")
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(help="Extract this corpus into FEATURES first, with the victim's encoder."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of that corpus.")] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            help="Utterances to attack, a JSON list; by default any of the store, those that the "
            "victim learnt from among them."
        ),
    ] = None,
    utterances: Annotated[int, typer.Option(min=1, help="At the most so many.")] = 48,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    seed: Annotated[int, typer.Option(help="Of attacks that draw.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write a row for each utterance, in Parquet.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Attack the utterances that the victim recognises; every result is audited."""
    from sigma_ser.attacks.factory import make_attack
    from sigma_ser.core.budget import Budget
    from sigma_ser.core.errors import BudgetError, ConfigError
    from sigma_ser.explainers.explanation import make_explainer

    from .attack_cells import Condition, Masks, rows_of, summary_of

    # Names and budgets first: a typo must not wait for the features.
    made = [make_attack(name, **given) for name, given in map(_parsed, attacks or _DEFAULT)]
    budgets = [
        Budget(sparsity=k, epsilon=e, granularity=granularity)  # type: ignore[arg-type]
        for e, k in itertools.product(epsilon or [0.5], sparsity or [0.01])
    ]
    explainers = {name: make_explainer(name) for name in explainer or []}
    if mask_victim is not None and not explainers:
        raise ConfigError("--mask-victim needs --explainer: the method that explains it")
    scopes = scope or [1, 8]

    store = _features(features, corpus, root, victim)
    attacked = _victim(victim, store)
    explained = attacked if mask_victim is None else _victim(mask_victim, store)
    batches = list(_batches(store, attacked, ids, utterances, batch_size))
    count = sum(len(part) for part, _ in batches)

    cells: list[dict[str, Any]] = []
    rows: list[pl.DataFrame] = []
    refused = False
    masks = Masks(explainers, explained, batches)
    with shown_cells(as_json) as show:
        try:
            for one, budget in itertools.product(made, budgets):
                ways = [(None, None), *itertools.product(explainers, scopes)]
                for name, wide in ways if explainers else ways[:1]:
                    where = Condition(
                        str(attacks[made.index(one)]) if attacks else _DEFAULT[made.index(one)],
                        one, budget, name, wide, "own" if mask_victim is None else mask_victim,
                    )  # fmt: skip
                    try:
                        rows.append(rows_of(where, attacked, batches, masks, store, seed))
                    except BudgetError as refusal:
                        refused = True
                        cells.append({**where.told(), "refused": str(refusal)})
                    else:
                        cells.append({**where.told(), **summary_of(rows[-1])})
                    show(cells[-1])
        finally:
            if out is not None and rows:
                _write(rows, out)
    if as_json:
        told = {"victim": victim, "features": str(features), "utterances": count, "cells": cells,
                "rows": None if out is None else str(out)}  # fmt: skip
        typer.echo(json.dumps(told))
    if refused:
        raise typer.Exit(1)


_DEFAULT = ("dual-averaging", "sigma-autoattack")


def _write(rows: list[pl.DataFrame], out: Path) -> None:
    import polars as pl
    import pyarrow.parquet as pq

    from sigma_ser.core.files import whole_file
    from sigma_ser.core.rows import schema

    with whole_file(out) as aside:
        pq.write_table(pl.concat(rows).to_arrow().cast(schema()), aside)


def _parsed(text: str) -> tuple[str, dict[str, Any]]:
    """`name(setting=value, ...)` as a name and its settings.

    Raises:
        ConfigError: if it is written in another way.
    """
    from sigma_ser.core.errors import ConfigError

    name, bracket, inside = text.partition("(")
    if not bracket:
        return name, {}
    try:
        if not inside.endswith(")"):
            raise ValueError("no closing bracket")
        call = ast.parse(f"_({inside}", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("settings need names")
        return name, {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError) as fault:
        raise ConfigError(
            f'cannot read the attack {text!r} ({fault}); write it as "name(setting=value, ...)"'
        ) from fault


def _features(folder: Path, corpus: str | None, root: Path | None, victim: str) -> FeatureStore:
    """The store; extracted first, where a corpus is named."""
    import sigma_ser as ss
    from sigma_ser.core.errors import ConfigError

    from .progress import shown_progress

    if corpus is None:
        return ss.FeatureStore(folder)
    trained = ss.load_victim(Path(victim)) if Path(victim).is_dir() else None
    if trained is None:
        raise ConfigError(
            "--corpus needs the folder of a trained victim, which knows its encoder; "
            "otherwise run `sigma-ser extract` and give its store"
        )
    card = trained.card.encoder
    encoder = ss.load_encoder(
        str(card["name"]), layer=card["layer"], revision=card.get("revision"),
        context=card.get("context"),
    )  # fmt: skip
    with shown_progress() as progress:
        told = iter((True,))

        def tell(done: int, total: int) -> None:
            if next(told, False):
                progress.stage("extracting", total, cached=done)
            else:
                progress.advance(1)

        return ss.extract(ss.load_corpus(corpus, root), encoder, folder, progress=tell)


def _victim(source: str, store: FeatureStore) -> Victim:
    """A trained victim, which must know these features, or a foreign one in their scale."""
    import sigma_ser as ss
    from sigma_ser.victims.checkpoint import TrainedVictim

    if ":" not in source or Path(source).is_dir():
        victim = ss.load_victim(Path(source))
        victim.check_encoder(store.card["encoder"])
        return victim
    statistics = store.statistics(store.ids)
    layer = store.card["encoder"]["layer"] if source.startswith("hf:") else -1
    foreign = ss.load_victim(
        source, layer=layer, mean=statistics.mean, scale=statistics.std.clamp(min=1e-6)
    )
    if isinstance(foreign, TrainedVictim):
        foreign.check_encoder(store.card["encoder"])
    return foreign


def _batches(
    store: FeatureStore, victim: Victim, ids: Path | None, most: int, size: int
) -> Iterator[tuple[FeatureBatch, Any]]:
    """Batches of recognised utterances, at most `most` of them, with their classes.

    Raises:
        ConfigError: if none is recognised, or `ids` is no list of ids.
    """
    import torch

    from sigma_ser.core.errors import ConfigError
    from sigma_ser.core.seeds import derive_seed

    try:
        names = list(store.ids) if ids is None else json.loads(ids.read_text("utf-8"))
    except (OSError, ValueError) as fault:
        raise ConfigError(f"--ids {ids} cannot be read as a JSON list ({fault})") from fault
    known = victim.class_names or store.class_names
    index = torch.tensor([known.index(c) if c in known else -1 for c in store.class_names])
    # Any order but that of the names, which go by class and speaker.
    names = sorted(names, key=derive_seed)
    left = most
    while names and left:
        part, names = names[:size], names[size:]
        batch, labels = store.batch(part), index[store.labels(part)]
        with torch.no_grad():
            right = victim(batch.x, batch.lengths).argmax(1) == labels
        rows = right.nonzero()[:left, 0]
        if len(rows):
            left -= len(rows)
            yield batch.select(rows), labels[rows]
    if left == most:
        raise ConfigError("the victim recognises none of these utterances: nothing to attack")
