"""`sigma-ser extract CORPUS`: features of a corpus into a store that studies can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def extract(
    corpus: Annotated[str, typer.Argument(help="A registered corpus: see `sigma-ser list`.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder of the store; new, or one to go on with.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the corpus; the demo needs none.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="`demo`, a folder, or a Hugging Face id.")] = "demo",
    layer: Annotated[str, typer.Option(help="Number of a layer, `mean` or `all`.")] = "-1",
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit on the Hugging Face hub.")
    ] = None,
    context: Annotated[
        str | None, typer.Option(help="Whisper alone: `full` (30 s) or `utterance`.")
    ] = None,
    device: Annotated[str, typer.Option(help="`cpu`, `cuda`, `cuda:1` ...")] = "cpu",
    dtype: Annotated[str, typer.Option(help="Of the stored features.")] = "float16",
    workers: Annotated[int, typer.Option(min=1, help="Processes; each holds the encoder.")] = 1,
    gpus: Annotated[
        str | None, typer.Option(help="A process for each of these devices, such as 0,1,2.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read weights that are not safetensors.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Check every shard and make damaged ones again.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output.")
    ] = False,
) -> None:
    """Extract features; what is there already is not computed again."""
    import sigma_ser as ss
    from sigma_ser.execution.executor import load_executor

    from .progress import shown_progress

    visible = gpus.split(",") if gpus else None
    executor = (
        load_executor("processes", workers=len(visible) if visible else workers, devices=visible)
        if visible or workers > 1
        else load_executor("inline")
    )
    recordings = ss.load_corpus(corpus, root)
    loaded = ss.load_encoder(
        encoder,
        layer=layer if layer in {"mean", "all"} else _number(layer),
        revision=revision,
        device=device,
        context=context,
        allow_pickle=allow_pickle,
    )
    with shown_progress() as progress:
        before: list[int] = []

        def tell(done: int, total: int) -> None:
            if before:
                progress.advance(done - before[-1])
            else:
                progress.stage("extracting", total, cached=done)
            before[:] = [done]

        store = ss.extract(
            recordings, loaded, out, dtype, executor=executor, repair=repair, progress=tell
        )
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
    }
    if as_json:
        typer.echo(json.dumps(summary))
        return
    typer.echo(
        f"{summary['utterances']} utterances, {summary['frames']} frames of {store.dim} channels "
        f"in {store.folder}"
    )
    for name, fault in store.quarantine.items():
        typer.echo(f"left out: {name}: {fault}")


def _number(layer: str) -> int:
    from sigma_ser.core.errors import ConfigError

    try:
        return int(layer)
    except ValueError:
        raise ConfigError(f"--layer takes a number, mean or all, got {layer!r}") from None
