"""Report the results of a study to experiment trackers; the run folder remains authoritative."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from sigma_ser.core import registry
from sigma_ser.core.errors import ConfigError
from sigma_ser.core.registry import register
from sigma_ser.core.rows import read_rows
from sigma_ser.evaluate.result_names import cell_names, flattened, victim_names
from sigma_ser.runs.files import read_objects
from sigma_ser.runs.layout import RunLayout

from .config import StudyConfig
from .sections import TrackingSection


class Tracker(Protocol):
    """What every tracker can do."""

    def settings(self, values: Mapping[str, Any]) -> None:
        """The study, flattened: `budgets.epsilon` and the like."""

    def number(self, name: str, value: float) -> None:
        """One result; names are made of letters, digits and `/._-`."""

    def close(self) -> None:
        """End the run of the tracker."""


def track(config: StudyConfig, layout: RunLayout) -> Iterator[str]:
    """Send settings, the UAR of each victim and the success rate of each cell to every tracker.

    The results are complete before, so a tracker that fails is no fault of the run.

    Yields:
        One sentence for each tracker that failed.
    """
    from sigma_ser.evaluate.summary import summarise

    if config.tracking is None:
        return
    cells = summarise(read_rows(layout.rows)).to_dicts()
    victims = read_objects(layout.victims, ["name", "fold", "uar"], "run the study again")
    numbers = {
        _clean(f"uar/{name}"): victim["uar"]
        for name, victim in zip(*victim_names(victims), victims, strict=True)
    }
    numbers |= {
        _clean(f"asr/{name}"): cell["asr"]
        for name, cell in zip(*cell_names(cells), cells, strict=True)
        if cell["asr"] is not None
    }
    settings = flattened(config.model_dump(mode="json"))
    for section in config.tracking:
        # Trackers are programs of others, with a server or a disk of their own: any error may come.
        try:
            _export(section, config.name, layout.folder, settings, numbers)
        except Exception as fault:
            yield (
                f"tracking: {section.name} did not receive all results "
                f"({type(fault).__name__}: {fault}); they are complete in {layout.folder}"
            )


def _export(
    section: TrackingSection,
    study: str,
    folder: Path,
    settings: Mapping[str, Any],
    numbers: Mapping[str, float],
) -> None:
    tracker: Tracker = registry.make("tracker", section.name, section.settings, study, folder)
    try:
        tracker.settings(settings)
        for name, value in numbers.items():
            tracker.number(name, value)
    finally:
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


@register("tracker", "mlflow")
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


@register("tracker", "tensorboard")
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


@register("tracker", "trackio")
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


def check_tracking(config: StudyConfig) -> None:
    """Check trackers and their settings before anything is computed.

    Raises:
        ConfigError: if a setting is unknown, or the package of a tracker is not installed.
    """
    for section in config.tracking or ():
        registry.check("tracker", section.name, section.settings, config.name, Path())
        _package(section.name)
