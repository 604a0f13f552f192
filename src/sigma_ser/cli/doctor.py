"""`sigma-ser doctor`: versions, devices, threads and disk space of this installation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Show the versions, devices and optional dependencies of this installation."""
    found = _examine()
    if as_json:
        typer.echo(json.dumps(found))
        return
    width = max(map(len, found))
    for name, value in found.items():
        typer.echo(f"{name:<{width}}  {value}")
    lacking = [name for name, value in found.items() if str(value).startswith("missing")]
    typer.echo(
        f"\nReinstall sigma-ser, it lacks: {', '.join(lacking)}"
        if lacking
        else "\nEverything that studies need is installed."
    )


def _examine() -> dict[str, Any]:
    from importlib.util import find_spec

    import soundfile
    import torch

    from sigma_ser.demo import corpus_path, encoder_path
    from sigma_ser.runs.provenance import environment

    cards = [torch.cuda.get_device_name(card) for card in range(torch.cuda.device_count())]
    extras = {
        "ray": "ray",
        "tracking": "mlflow",
        "corpora": "audformat",
        "audio": "pesq",
        "bench": "foolbox",
    }
    shipped = {"corpus": corpus_path(), "encoder": encoder_path()}
    return {
        **environment(),
        "libsndfile": soundfile.__libsndfile_version__,
        "torch threads": torch.get_num_threads(),
        "GPUs": ", ".join(cards) or "none",
        "free disk here": f"{shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB",
        **{
            f"extra {extra}": "installed"
            if find_spec(module)
            else f"not installed, optional: pip install 'sigma-ser[{extra}]'"
            for extra, module in extras.items()
        },
        **{
            f"demo {name}": "shipped" if folder.is_dir() else "missing: reinstall sigma-ser"
            for name, folder in shipped.items()
        },
    }
