"""An audio data set of the Hugging Face library `datasets`: a local folder, or an id of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sigma_ser.core.errors import ConfigError, CorpusError
from sigma_ser.core.files import content_key, whole_file
from sigma_ser.core.registry import register

from .check_cache import cache_folder
from .finding import AUDIO_SUFFIXES
from .reader import Card, Listing, Official
from .tables import listing_of_rows


@register("corpus", "huggingface")
@dataclass(frozen=True)
class HuggingFace:
    """An audio data set that `datasets` loads; needs the package `datasets`.

    A path that exists is read from disk (a folder of `save_to_disk`, or one that `load_dataset`
    accepts); anything else is an id of the hub, such as `"user/name"`. Recordings inside the tables
    are written once below `~/.cache/sigma-ser`. The split
    of each row becomes the column `split`, for the protocol `predefined`.

    Args:
        split: only this split; all of them by default.
        config: configuration of a data set that has several.
        revision: commit, branch or tag of a hub data set; a commit pins its content.
        columns: the column of each field; the audio column is found by its type, and ids consist of
            split and row number unless `id` names a column.
    """

    split: str | None = None
    config: str | None = None
    revision: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    card: ClassVar[Card] = Card(title="A Hugging Face data set", source="root='user/name'")
    official: ClassVar[Official | None] = None
    default_root: ClassVar[Path | None] = None

    def list(self, root: Path) -> Listing:
        """The rows of all splits, with class names in place of class numbers."""
        try:
            import datasets
        except ImportError as error:
            raise ConfigError(
                "reading a Hugging Face data set needs the package datasets; "
                "run: pip install 'sigma-ser[corpora]'"
            ) from error
        name = str(root.absolute()) if root.exists() else root.as_posix()
        splits = self._splits(datasets, root, name)
        rows: list[dict[str, Any]] = []
        for split, data in sorted(splits.items()):
            rows += _rows(datasets, data, split, content_key([name, self.config, self.revision]))
        # Ids of the data set itself need not be unique over its splits.
        # Recordings of data sets are cut; times in other columns are those of the source.
        columns = {"id": "row", "start": "", "end": "", **self.columns, "path": "file"}
        listing = listing_of_rows(rows, root.absolute(), columns, root)
        info = next(iter(splits.values())).info
        listing.name = root.name
        listing.card = Card(
            title=name,
            source=info.homepage or name,
            licence=info.license or "",
            citation=info.citation or "",
        )
        return listing

    def _splits(self, datasets: Any, root: Path, name: str) -> dict[str, Any]:
        try:
            if (root / "dataset_dict.json").is_file() or (root / "state.json").is_file():
                data = datasets.load_from_disk(name)
            else:
                data = datasets.load_dataset(name, self.config, revision=self.revision)
        # Errors of `huggingface_hub` derive from the first two.
        except (OSError, ValueError, ImportError, datasets.exceptions.DatasetsError) as error:
            raise CorpusError(f"the data set {name} cannot be loaded: {_cause(error)}") from error
        splits = dict(data) if isinstance(data, dict) else {str(data.split or "train"): data}
        if self.split is None:
            return splits
        if self.split not in splits:
            raise ConfigError(f"{name} has no split {self.split!r}; it has {', '.join(splits)}")
        return {self.split: splits[self.split]}


def _cause(error: BaseException) -> str:
    """The first line of the error that led to this one, or what to do about an absent package."""
    while error.__cause__ is not None and not isinstance(error, ImportError):
        error = error.__cause__
    if isinstance(error, ImportError) and "torchcodec" in str(error):
        return (
            "`datasets` needs the package torchcodec for recordings in folders; run: pip install "
            "torchcodec, or load the folder with the corpus `folders` or `manifest`"
        )
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _rows(datasets: Any, data: Any, split: str, key: str) -> list[dict[str, Any]]:
    """The rows of one split, with a `file` for each recording."""
    features = data.features
    audio = [name for name, kind in features.items() if isinstance(kind, datasets.Audio)]
    if not audio:
        raise CorpusError(
            f"the data set has no audio column (columns: {', '.join(features)}); choose another"
        )
    data = data.cast_column(audio[0], datasets.Audio(decode=False))
    named = {name: kind for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)}
    rows = []
    for number, source in enumerate(data):
        row = {column: value for column, value in source.items() if column != audio[0]}
        for column, kind in named.items():
            value = row[column]
            row[column] = None if value is None or value < 0 else kind.int2str(value)
        sound = source[audio[0]]
        row["file"] = str(_file_of(sound, cache_folder() / "huggingface" / key / split, number))
        rows.append({**row, "split": split, "row": f"{split}-{number:06d}"})
    return rows


def _file_of(sound: Mapping[str, Any] | None, folder: Path, number: int) -> Path | str:
    """The path of the recording; bytes inside the table are written to a file first."""
    if sound is None:
        return ""
    path = Path(sound["path"] or f"{number:06d}")
    if sound["bytes"] is None:
        return path
    suffix = path.suffix if path.suffix.lower() in AUDIO_SUFFIXES else ".wav"
    target = folder / f"{number:06d}-{content_key(path.name, 8)}{suffix}"
    if not target.is_file() or target.stat().st_size != len(sound["bytes"]):
        with whole_file(target) as aside:
            aside.write_bytes(sound["bytes"])
    return target
