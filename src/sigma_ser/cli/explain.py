"""`sigma-ser explain VICTIM FEATURES`: fills the mask bank and measures explanation quality."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .arguments import FEATURES_HELP, check_order, features_folder, victim_source, victim_view
from .terminal import result_console

if TYPE_CHECKING:
    from sigma_ser.encoders.store import FeatureStore
    from sigma_ser.victims.checkpoint import TrainedVictim

_MEASURES = (
    "deletion", "insertion", "gini", "complexity", "max_sensitivity", "randomisation",
    "completeness", "forwards", "backwards",
)  # fmt: skip


def explain(
    victim: Annotated[
        str, typer.Argument(help="Folder of the trained victim whose predictions are explained.")
    ],
    features: Annotated[Path, typer.Argument(help=FEATURES_HELP)],
    explainers: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of explainers; `sigma-ser list explainer` lists them. "
            "The default is gradient and integrated-gradients."
        ),
    ] = None,
    *,
    bank: Annotated[
        Path, typer.Option(help="Folder in which the saliency maps are stored.")
    ] = Path("saliency"),
    utterances: Annotated[
        int, typer.Option(min=1, help="Maximum number of utterances to explain.")
    ] = 100,
    explained: Annotated[
        str, typer.Option("--class", help="Class to explain: `predicted` or `true`.")
    ] = "true",
    quality: Annotated[
        int,
        typer.Option(
            min=0,
            help="Number of the explained utterances on which explanation quality is measured; "
            "0 measures none.",
        ),
    ] = 20,
    plot: Annotated[
        str | None, typer.Option(help="Id of an utterance whose explanations are plotted.")
    ] = None,
    out: Annotated[Path, typer.Option(help="File of the figure: .png, .svg or .pdf.")] = Path(
        "explanation.png"
    ),
    corpus: Annotated[
        str | None, typer.Option(help="Corpus of the store, to plot the waveform.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of that corpus.")] = None,
    sparsity: Annotated[
        float, typer.Option(help="Share of the elements in the mask that is plotted.")
    ] = 0.01,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Explain utterances, store the saliency maps, and measure their quality."""
    from sigma_ser.core.errors import ExplainerError
    from sigma_ser.encoders.store import FeatureStore
    from sigma_ser.explainers.explanation import make_explainer
    from sigma_ser.victims.loading import load_victim

    check_order("explain", victim, features)
    model = load_victim(Path(victim_source(victim)))
    store = victim_view(model, FeatureStore(features_folder(features)))
    names = explainers or ["gradient", "integrated-gradients"]
    made = {name: make_explainer(name) for name in names}
    chosen = list(store.ids[:utterances])
    lines: list[dict[str, Any]] = []
    for name, explainer in made.items():
        try:
            measures = _measures(explainer, store, model, chosen, bank, explained, quality)
        except ExplainerError as refusal:
            lines.append({"explainer": name, "refused": str(refusal)})
            continue
        lines.append({"explainer": name, **measures})
    plotted = None
    if plot is not None:
        plotted = str(out)
        _draw(plot, made, store, model, bank, explained, corpus, root, sparsity, out)
    if as_json:
        typer.echo(json.dumps({"explainers": lines, "plot": plotted}))
        return
    _show(lines)
    if plotted:
        typer.echo(f"figure: {plotted}")


def _measures(
    explainer: Any,
    store: FeatureStore,
    victim: TrainedVictim,
    ids: list[str],
    root: Path,
    explained: str,
    count: int,
) -> dict[str, Any]:
    """Fill the bank, then measure quality on the first `count` utterances."""
    import torch

    from sigma_ser.evaluate.quality.measures import quality
    from sigma_ser.explainers.classes import explained_class
    from sigma_ser.masks.bank import MaskBank

    bank = MaskBank(root, explainer, victim, features=store.key)
    made = 0
    for start in range(0, len(ids), 32):
        part = ids[start : start + 32]
        batch = store.batch(part)
        labels = explained_class(explained, victim, batch, true=store.labels(part))
        made += bank.fill(batch, labels)
    result: dict[str, Any] = {"maps": len(ids), "made": made, "bank": str(bank.folder)}
    if not count:
        return result
    part = ids[:count]
    batch = store.batch(part)
    labels = explained_class(explained, victim, batch, true=store.labels(part))
    measures = quality(explainer, victim, batch, labels, known=bank.explain(batch, labels))
    for name, values in measures.items():
        mean = float(torch.nanmean(values.double().abs()))
        result[name] = mean if math.isfinite(mean) else None
    return result


def _draw(
    name: str,
    explainers: dict[str, Any],
    store: FeatureStore,
    victim: TrainedVictim,
    root: Path,
    explained: str,
    corpus: str | None,
    folder: Path | None,
    sparsity: float,
    out: Path,
) -> None:
    from sigma_ser.core.budget import Budget
    from sigma_ser.evaluate.quality.figure import draw
    from sigma_ser.explainers.classes import explained_class
    from sigma_ser.masks.bank import MaskBank

    batch = store.batch([name])
    labels = explained_class(explained, victim, batch, true=store.labels([name]))
    maps, masks = {}, {}
    for title, explainer in explainers.items():
        bank = MaskBank(root, explainer, victim, features=store.key)
        maps[title] = bank.explain(batch, labels).saliency[0]
        masks[title] = bank.mask(batch, labels, Budget(sparsity=sparsity))[0]
    draw(
        out,
        maps,
        masks,
        frame_seconds=store.frame_seconds,
        waveform=_waveform(name, corpus, folder),
        title=f"{name}: {victim.class_names[int(labels)]}",
    )


def _waveform(name: str, corpus: str | None, folder: Path | None) -> Any:
    """The audio at 16 kHz, or `None` without a corpus."""
    if corpus is None:
        return None
    from sigma_ser.audio.reading import read_utterance
    from sigma_ser.core.errors import CorpusError
    from sigma_ser.corpora.corpus import load_corpus

    for utterance in load_corpus(corpus, folder).utterances:
        if utterance.id == name:
            return read_utterance(utterance)
    raise CorpusError(f"corpus {corpus!r} has no utterance {name!r}; use the corpus of the store")


def _show(lines: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table("explainer", "maps", *(m.replace("_", " ") for m in _MEASURES), box=box.SIMPLE)
    for line in lines:
        if "refused" in line:
            continue
        cells = [f"{line[m]:.3g}" if line.get(m) is not None else "" for m in _MEASURES]
        table.add_row(line["explainer"], f"{line['maps']} ({line['made']} new)", *cells)
    console = result_console()
    console.print(table)
    for line in lines:
        if "refused" in line:
            console.print(f"{line['explainer']}: {line['refused']}", markup=False)
