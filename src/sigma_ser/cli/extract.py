"""`sigma-ser extract CORPUS`: extracts the features of a corpus into a feature store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .columns import ColumnOption, columns_of
from .terminal import result_console

if TYPE_CHECKING:
    from sigma_ser.core.progress import Progress
    from sigma_ser.corpora.corpus import Corpus
    from sigma_ser.encoders.store import FeatureStore


def extract(
    corpus: Annotated[
        str, typer.Argument(help="Name of a registered corpus; `sigma-ser list corpus` lists them.")
    ],
    *,
    out: Annotated[
        Path, typer.Option(help="Folder of the feature store; an incomplete store is completed.")
    ],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder or manifest of the corpus; not needed for the demo corpus."),
    ] = None,
    column: ColumnOption = None,
    encoder: Annotated[
        str, typer.Option(help="Encoder: `demo`, a local folder, or a Hugging Face id.")
    ] = "demo",
    layer: Annotated[
        str | None,
        typer.Option(
            help="Encoder layer: a number, `mean` or `all`. The default is -1, the last layer."
        ),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(help="Branch, tag or commit of the encoder on the Hugging Face hub."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(help="Input window of Whisper encoders: `full` (30 s) or `utterance`."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device of the encoder, such as `cpu`, `cuda` or `cuda:1`.")
    ] = "cpu",
    dtype: Annotated[str, typer.Option(help="Data type of the stored features.")] = "float16",
    workers: Annotated[
        int, typer.Option(min=1, help="Number of processes; each loads the encoder.")
    ] = 1,
    gpus: Annotated[
        str | None,
        typer.Option(help="GPUs to use, comma-separated (0,1,2), with one process per GPU."),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle",
            help="Allow weights in pickle format. A pickle file can execute code when it is read.",
        ),
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Verify every shard and extract damaged shards again.")
    ] = False,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Extract all layers and score a linear probe on each."),
    ] = False,
    protocol: Annotated[
        str, typer.Option(help="Split protocol of the probe, with --compare.")
    ] = "speaker-kfold",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Extract the features of a corpus. Features that already exist are reused."""
    import sigma_ser as ss
    from sigma_ser.core.errors import ConfigError
    from sigma_ser.core.progress_bars import progress_on_stderr
    from sigma_ser.execution.executor import load_executor

    if compare and layer not in {None, "all"}:
        raise ConfigError(f"--compare uses all layers; remove --layer {layer}")
    layer = layer or ("all" if compare else "-1")
    visible = gpus.split(",") if gpus else None
    executor = (
        load_executor("processes", workers=len(visible) if visible else workers, devices=visible)
        if visible or workers > 1
        else load_executor("inline")
    )
    recordings = ss.load_corpus(corpus, root, **columns_of(column))
    loaded = ss.load_encoder(
        encoder,
        layer=layer if layer in {"mean", "all"} else _number(layer),
        revision=revision,
        device=device,
        context=context,
        allow_pickle=allow_pickle,
    )
    with progress_on_stderr() as progress:
        before: list[int] = []

        def report(done: int, total: int) -> None:
            if before:
                progress.advance(done - before[-1])
            else:
                progress.stage("extracting", total, cached=done)
            before[:] = [done]

        store = ss.extract(
            recordings, loaded, out, dtype, executor=executor, repair=repair, progress=report
        )
        probes = _probes(recordings, store, protocol, progress) if compare else None
    lengths = store.lengths(store.ids)
    summary: dict[str, Any] = {
        "store": str(store.folder),
        "key": store.key,
        "utterances": len(store),
        "frames": int(lengths.sum()),
        "dim": store.dim,
        "frame_seconds": store.frame_seconds,
        "quarantine": store.quarantine,
        "encoder": loaded.card,
        "probes": probes,
    }
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(
        f"{summary['utterances']} utterances, {summary['frames']} frames of {store.dim} channels "
        f"in {store.folder}"
    )
    for name, fault in store.quarantine.items():
        typer.echo(f"quarantined: {name}: {fault}")
    if probes is not None:
        _show(probes, protocol)


def _probes(
    corpus: Corpus, store: FeatureStore, protocol: str, progress: Progress
) -> list[dict[str, Any]]:
    """Scores of a linear probe on each layer."""
    import dataclasses

    import sigma_ser as ss
    from sigma_ser.evaluate.probe import probe_layers

    folds = ss.make_folds(corpus, protocol)
    progress.stage("probing layers", store.layers)
    found = probe_layers(store, folds, progress=lambda done, total: progress.advance(1))
    return [dataclasses.asdict(probe) for probe in found]


def _show(probes: list[dict[str, Any]], protocol: str) -> None:
    """Print the scores of the probe, with the best layer in bold."""
    from rich import box
    from rich.table import Table

    table = Table("layer", "UAR", "95 %", "tested", box=box.SIMPLE)
    best = max(probes, key=lambda probe: probe["uar"])
    for probe in probes:
        table.add_row(
            str(probe["layer"]),
            f"{100 * probe['uar']:.1f} %",
            f"{100 * probe['uar_low']:.0f} to {100 * probe['uar_high']:.0f} %",
            str(probe["test_utterances"]),
            style="bold" if probe is best else None,
        )
    console = result_console()
    console.print(table)
    console.print(
        f"Ridge classifier on features averaged over time, protocol {protocol}. The best layer is "
        "selected on these test parts, so its score is optimistic."
    )


def _number(layer: str) -> int:
    from sigma_ser.core.errors import ConfigError

    try:
        return int(layer)
    except ValueError:
        raise ConfigError(f"--layer must be a number, mean or all, got {layer!r}") from None
