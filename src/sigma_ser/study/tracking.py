"""Tell a tracker what came of a study; the run's own files remain the truth."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sigma_ser.core.errors import ConfigError
from sigma_ser.evaluate.result_names import cell_names, flattened, victim_names

from .config import StudyConfig


class Tracker(Protocol):
    """What every tracker can do."""

    def settings(self, values: Mapping[str, Any]) -> None:
        """The study, flattened: `budgets.epsilon` and the like."""

    def number(self, name: str, value: float) -> None:
        """One result; names are made of letters, digits and `/._-`."""

    def close(self) -> None:
        """All is told."""


def track(config: StudyConfig, folder: Path, victims: Sequence[Mapping[str, Any]]) -> None:
    """Tell every tracker of the study its settings, the UAR of each victim and each cell's rate.

    Raises:
        ConfigError: if the tracker's package is not installed.
    """
    import polars as pl

    from sigma_ser.evaluate.summary import summarise

    cells = summarise(pl.read_parquet(folder / "rows.parquet")).to_dicts()
    settings = flattened(config.model_dump(mode="json"))
    for section in config.tracking or ():
        tracker = _TRACKERS[section.name](config.name, folder, **section.settings)
        tracker.settings(settings)
        for name, victim in zip(*victim_names(victims), victims, strict=True):
            tracker.number(_clean(f"uar/{name}"), victim["uar"])
        for name, cell in zip(*cell_names(cells), cells, strict=True):
            if cell["asr"] is not None:
                tracker.number(_clean(f"asr/{name}"), cell["asr"])
        tracker.close()


def _clean(name: str) -> str:
    return "".join(one if one.isalnum() or one in "/._-" else "_" for one in name)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as fault:
        raise ConfigError(
            f"tracking.name: {name} is not installed ({fault}); pip install sigma-ser[tracking], "
            "or leave tracking out"
        ) from None


class _Mlflow:
    """A run of MLflow; `uri` is its server or folder, `mlruns` beside the results by default."""

    def __init__(self, study: str, folder: Path, uri: str | None = None) -> None:
        self._mlflow = _package("mlflow")
        self._mlflow.set_tracking_uri(uri or (folder / "mlruns").as_uri())
        self._mlflow.set_experiment(study)
        self._mlflow.start_run()

    def settings(self, values: Mapping[str, Any]) -> None:
        self._mlflow.log_params({name: str(value)[:500] for name, value in values.items()})

    def number(self, name: str, value: float) -> None:
        self._mlflow.log_metric(name, value)

    def close(self) -> None:
        self._mlflow.end_run()


class _TensorBoard:
    """Event files for TensorBoard, in `tensorboard/` of the run or in `folder`."""

    def __init__(self, study: str, run_folder: Path, folder: str | None = None) -> None:
        del study
        _package("tensorboard")
        writer = _package("torch.utils.tensorboard")
        self._writer = writer.SummaryWriter(folder or str(run_folder / "tensorboard"))

    def settings(self, values: Mapping[str, Any]) -> None:
        self._writer.add_text("study", f"```json\n{json.dumps(dict(values), indent=2)}\n```")

    def number(self, name: str, value: float) -> None:
        self._writer.add_scalar(name, value)

    def close(self) -> None:
        self._writer.close()


class _Trackio:
    """A run of trackio; further keys go to `trackio.init`."""

    def __init__(self, study: str, folder: Path, **settings: Any) -> None:
        del folder
        self._trackio = _package("trackio")
        self._init = {"project": study, **settings}
        self._numbers: dict[str, float] = {}
        self._settings: dict[str, Any] = {}

    def settings(self, values: Mapping[str, Any]) -> None:
        self._settings = dict(values)

    def number(self, name: str, value: float) -> None:
        self._numbers[name] = value

    def close(self) -> None:
        self._trackio.init(config=self._settings, **self._init)
        self._trackio.log(self._numbers)
        self._trackio.finish()


_TRACKERS: dict[str, Any] = {
    "mlflow": _Mlflow,
    "tensorboard": _TensorBoard,
    "trackio": _Trackio,
}


def check_tracking(config: StudyConfig) -> None:
    """Find a tracker that is not installed before anything is computed.

    Raises:
        ConfigError: names the package.
    """
    for section in config.tracking or ():
        _package(section.name)
