"""`sigma-ser attack VICTIM FEATURES ATTACK ...`: attacks on one victim, at one budget or a grid."""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import polars as pl

    from sigma_ser.core.budget import Budget
    from sigma_ser.core.contracts import Attack, Explainer, Victim
    from sigma_ser.core.features import FeatureBatch
    from sigma_ser.encoders.store import FeatureStore

_SHOWN = ("attack", "explainer", "mask_source", "scope", "sparsity", "epsilon")
_TOLD = (
    "utterances", "asr", "asr_low", "asr_high", "l0_share", "linf", "forwards", "backwards",
    "mask_forwards", "mask_backwards", "seconds",
)  # fmt: skip


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
    from sigma_ser.attacks.factory import attack as make_attack
    from sigma_ser.core.budget import Budget
    from sigma_ser.core.errors import BudgetError, ConfigError
    from sigma_ser.explainers.explanation import make_explainer

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
    masks = _Masks(explainers, explained, batches)
    with _shown(as_json) as show:
        try:
            for one, budget in itertools.product(made, budgets):
                ways = [(None, None), *itertools.product(explainers, scopes)]
                for name, wide in ways if explainers else ways[:1]:
                    where = _Condition(
                        str(attacks[made.index(one)]) if attacks else _DEFAULT[made.index(one)],
                        one, budget, name, wide, "own" if mask_victim is None else mask_victim,
                    )  # fmt: skip
                    try:
                        rows.append(_rows(where, attacked, batches, masks, store, seed))
                    except BudgetError as refusal:
                        refused = True
                        cells.append({**where.told(), "refused": str(refusal)})
                    else:
                        cells.append({**where.told(), **_summary(rows[-1])})
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


@dataclass(frozen=True)
class _Condition:
    """One cell: an attack at a budget, native or in a mask."""

    attack: str
    made: Attack
    budget: Budget
    explainer: str | None
    scope: int | None
    source: str

    def told(self) -> dict[str, Any]:
        return {
            "attack": self.attack,
            "explainer": self.explainer,
            "mask_source": None if self.explainer is None else self.source,
            "scope": self.scope,
            "sparsity": self.budget.sparsity,
            "epsilon": float(self.budget.epsilon),
            "granularity": self.budget.granularity,
        }


class _Masks:
    """Explains each batch once, for every budget, scope and attack."""

    def __init__(
        self, explainers: dict[str, Explainer], victim: Victim, batches: list[Any]
    ) -> None:
        self._explainers, self._victim, self._batches = explainers, victim, batches
        self._maps: dict[tuple[str, int], tuple[Any, float]] = {}

    def of(self, where: _Condition, part: int) -> tuple[Any, Any, float]:
        """The mask, the explanation behind it, and the seconds that the explanation took."""
        from sigma_ser.explainers.explanation import explanation
        from sigma_ser.masks.topk import explainer_mask

        name, scope = where.explainer, where.scope
        if name is None or scope is None:
            return None, None, 0.0
        batch, labels = self._batches[part]
        explainer = self._explainers[name]
        if (name, part) not in self._maps:
            started = time.perf_counter()
            told = explanation(explainer, self._victim, batch, labels)
            self._maps[name, part] = told, time.perf_counter() - started
        told, seconds = self._maps[name, part]
        mask = explainer_mask(explainer, told, self._victim, batch, where.budget, scope)
        return mask, told, seconds


def _rows(
    where: _Condition,
    victim: Victim,
    batches: list[Any],
    masks: _Masks,
    store: FeatureStore,
    seed: int,
) -> pl.DataFrame:
    """A row for each utterance of one cell: the columns of `core.rows` that apply."""
    import polars as pl
    import pyarrow as pa
    import torch

    from sigma_ser.core.passes import per_channel
    from sigma_ser.core.rows import schema
    from sigma_ser.core.seeds import utterance_seeds
    from sigma_ser.evaluate.size import sizes

    parts = []
    for part, (batch, labels) in enumerate(batches):
        mask, told, mask_seconds = masks.of(where, part)
        started = time.perf_counter()
        result = where.made(
            victim, batch, labels, where.budget, mask=mask,
            seeds=utterance_seeds(batch.ids, seed, "attack", where.attack),
        )  # fmt: skip
        seconds = time.perf_counter() - started
        with torch.no_grad():
            before = victim(batch.x, batch.lengths).softmax(1)
            after = victim(result.x_adv, batch.lengths).softmax(1)
        names = victim.labels or tuple(str(i) for i in range(before.shape[1]))
        passes = (result.forwards + result.backwards).double()
        size = sizes(batch, result.x_adv, per_channel(victim.scale, batch.x))
        count, card = len(batch), store.card
        same = {
            **where.told(), "corpus": card["corpus"]["name"], "encoder": card["encoder"]["name"],
            "layer": str(card["encoder"]["layer"]), "attack_settings": repr(where.made),
            "attack_seed": seed,
        }  # fmt: skip
        columns = {
            **{name: [value] * count for name, value in same.items()},
            "utterance": list(batch.ids),
            "label": [names[i] for i in labels.tolist()],
            "prediction_before": [names[i] for i in before.argmax(1).tolist()],
            "prediction_after": [names[i] for i in result.prediction.tolist()],
            "confidence_before": before.amax(1).tolist(),
            "confidence_after": after.amax(1).tolist(),
            "correct_before": (before.argmax(1) == labels).tolist(),
            "success": result.success.tolist(),
            "steps": result.steps.tolist(),
            "forwards": result.forwards.tolist(),
            "backwards": result.backwards.tolist(),
            "mask_forwards": [0] * count if told is None else told.forwards.tolist(),
            "mask_backwards": [0] * count if told is None else told.backwards.tolist(),
            "seconds": (seconds * passes / passes.sum()).tolist(),
            "mask_seconds": [mask_seconds / count] * count,
            "budget_elements": where.budget.elements(batch.lengths, batch.x.shape[2]).tolist(),
            **{name: size[name].tolist() for name in _SIZES},
        }
        whole = {name: columns.get(name, [None] * count) for name in schema().names}
        parts.append(pa.table(whole, schema=schema()))
    frame = pl.from_arrow(pa.concat_tables(parts))
    assert isinstance(frame, pl.DataFrame)
    return frame


_SIZES = ("l0", "l0_share", "l2", "linf", "frames_touched", "channels_touched")


def _summary(rows: pl.DataFrame) -> dict[str, Any]:
    from sigma_ser.evaluate.summary import summarise

    cell = summarise(rows, ["attack"]).to_dicts()[0]
    return {name: cell[name] for name in _TOLD}


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
    known = victim.labels or store.class_names
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


@contextlib.contextmanager
def _shown(silent: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A table that grows on a terminal, a line for each cell elsewhere, nothing beside JSON."""
    from rich import box
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    titles = (*(name.replace("_", " ") for name in _SHOWN), "success", "95 %", "passes", "s")
    if silent:
        yield lambda cell: None
        return
    if not sys.stdout.isatty():
        typer.echo("\t".join(titles))
        yield lambda cell: typer.echo("\t".join(_line(cell)))
        return
    table = Table(*titles, box=box.SIMPLE)
    with Live(table, console=Console()) as live:

        def add(cell: dict[str, Any]) -> None:
            table.add_row(*_line(cell))
            live.refresh()

        yield add


def _line(cell: dict[str, Any]) -> list[str]:
    start = ["" if cell[name] is None else f"{cell[name]}" for name in _SHOWN]
    if "refused" in cell:
        return [*start, "refused", cell["refused"], "", ""]
    return [
        *start,
        f"{100 * cell['asr']:.0f} % of {cell['utterances']}",
        f"{100 * cell['asr_low']:.0f} to {100 * cell['asr_high']:.0f} %",
        f"{cell['forwards'] + cell['backwards']:.0f}",
        f"{cell['seconds']:.3f}",
    ]
