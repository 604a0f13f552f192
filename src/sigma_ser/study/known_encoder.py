"""An encoder known by its card, and loaded only where something must be encoded.

The card hashes all weights, and to make it the encoder is loaded, which takes seconds. So a run
remembers its cards in `encoders.json`, beside what tells whether one still holds: arguments,
versions, and size, time of change and place on the disk of every file of the encoder's folder and
of the code of the families. Any difference, and the encoder is loaded as if for the first time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sigma_ser.core import registry
from sigma_ser.core.files import content_key, write_json
from sigma_ser.encoders.encoder import Encoder, load_encoder
from sigma_ser.encoders.source import find_source

_FILE = "encoders.json"
# A file this young could change again without a sign: its time of change counts in ticks.
_YOUNG_SECONDS = 2.0
_PACKAGES = ("sigma-ser", "torch", "transformers")


@dataclass(frozen=True)
class _Remembered:
    """What is told of an encoder without loading it; `frame_seconds` is in the card."""

    key: str
    card: dict[str, Any]


class KnownEncoder:
    """One encoder and layer of a study.

    Args:
        arguments: of `load_encoder`.
        remembered: cards of an earlier run, by stamp; see `remembered_cards`.

    Raises:
        SigmaError: if it is not there, or cannot be loaded and is not remembered.
    """

    def __init__(self, arguments: Mapping[str, Any], remembered: Mapping[str, Any]) -> None:
        self._arguments = dict(arguments)
        # Before it is loaded: a file that changes in between has another stamp the next time.
        self.stamp = _stamp(self._arguments)
        old = remembered.get(self.stamp or "")
        if old is None:
            old = {"key": self.loaded.key, "card": self.loaded.card}
        self._known = _Remembered(**old)

    @cached_property
    def loaded(self) -> Encoder:
        """The encoder itself."""
        return load_encoder(**self._arguments)

    @property
    def key(self) -> str:
        """As `Encoder.key`."""
        return self._known.key

    @property
    def card(self) -> dict[str, Any]:
        """As `Encoder.card`."""
        return self._known.card

    @property
    def frame_seconds(self) -> float:
        """As `Encoder.frame_seconds`."""
        return float(self.card["frame_seconds"])

    @property
    def dim(self) -> int:
        """As `Encoder.dim`."""
        return int(self.card["dim"])


def remembered_cards(folder: Path) -> dict[str, Any]:
    """What the last run in a folder knew of its encoders, by stamp; nothing where it is damaged."""
    try:
        told = json.loads((folder / _FILE).read_text("utf-8"))
        return {stamp: {"key": one["key"], "card": dict(one["card"])}
                for stamp, one in told.items()}  # fmt: skip
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return {}


def remember_cards(folder: Path, encoders: Iterable[KnownEncoder]) -> None:
    """Write what is known of the encoders of a study; only while the folder is locked."""
    cards = {one.stamp: {"key": one.key, "card": one.card} for one in encoders if one.stamp}
    if cards != remembered_cards(folder):
        write_json(folder / _FILE, cards)


def _stamp(arguments: Mapping[str, Any]) -> str | None:
    """A hash of what says that an encoder has not changed; `None` where nothing could say so."""
    source = find_source(
        arguments["name_or_path"],
        arguments.get("revision"),
        bool(arguments.get("allow_pickle", False)),
    )
    read = sorted(path for path in source.folder.iterdir() if path.is_file())
    status = [(path, path.stat()) for path in (*read, *_code())]
    if any(one.st_ctime > time.time() - _YOUNG_SECONDS for _, one in status):
        return None
    return content_key(
        [
            {name: str(value) for name, value in arguments.items()},
            source.revision,
            {package: version(package) for package in _PACKAGES},
            [
                [str(path), one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino, one.st_dev]
                for path, one in status
            ],
        ]
    )


def _code() -> Sequence[Path]:
    """Files of the classes of all families: what they do to a wave is in the card."""
    files = {
        getattr(sys.modules.get(kind.__module__), "__file__", None)
        for name in registry.names("encoder")
        for kind in registry.get("encoder", name).__mro__
        if kind is not object
    }
    return sorted(Path(file) for file in files if file)
