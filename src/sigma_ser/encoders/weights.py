"""The weight files of a model folder: those that `transformers` would read, and no others."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

from sigma_ser.core.errors import EncoderError
from sigma_ser.core.json_text import parse_json

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def choose_weights(
    folder: Path, config: dict[str, Any], allow_pickle: bool | None
) -> tuple[tuple[Path, ...], bool]:
    """Choose the weight files as `transformers` does.

    A folder may hold more, such as an average of the weights during training or a copy in half
    precision. `transformers` reads the file that the config names (`transformers_weights`), or
    `model.safetensors`, or the shards that `model.safetensors.index.json` lists. A single file of
    another name is taken as well.

    Args:
        folder: of the model.
        config: its `config.json`.
        allow_pickle: whether pickled weights may be chosen where there are no others; `None` where
            the user cannot choose, so that the error does not offer it.

    Returns:
        The files in the order of their names, and whether they are pickled.

    Raises:
        EncoderError: if there are none, only pickled ones, or several without an index.
    """
    named = config.get("transformers_weights")
    if named is not None:
        return _named(folder, named), False
    for stem, patterns, pickled in (
        ("model.safetensors", ("*.safetensors",), False),
        ("pytorch_model.bin", PICKLED, True),
    ):
        files = sorted(
            path
            for path in {path for pattern in patterns for path in folder.glob(pattern)}
            if not path.name.startswith(".")
        )
        if not files:
            continue
        if pickled and not allow_pickle:
            choice = "" if allow_pickle is None else ", or pass allow_pickle=True if you trust them"
            raise EncoderError(
                f"{folder} has only pickled weights ({files[0].name}), which can run code when "
                f"opened; convert them to safetensors{choice}"
            )
        if folder / stem in files:
            return (folder / stem,), pickled
        index = folder / f"{stem}.index.json"
        if index.is_file():
            return _shards(index), pickled
        if len(files) > 1:
            raise EncoderError(
                f"{folder} has {len(files)} weight files ({files[0].name}, {files[1].name}, ...) "
                f"and neither {stem} nor {index.name}, which says which of them belong to the "
                "model; keep only those, or download the model again"
            )
        return tuple(files), pickled
    raise EncoderError(f"{folder} has no weights (*.safetensors); download the model again")


def file_states(paths: Iterable[Path]) -> tuple[tuple[int, ...], ...]:
    """What changes with the content of each file: size, times and place on the disk."""
    found = [path.stat() for path in paths]
    return tuple((one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) for one in found)


def tensor_sizes(paths: Iterable[Path]) -> list[int]:
    """The number of elements of each tensor in safetensors files, from their headers.

    Raises:
        EncoderError: names a file without a whole header or without all bytes that it announces.
    """
    from safetensors import SafetensorError, safe_open

    sizes: list[int] = []
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                sizes += [prod(file.get_slice(name).get_shape()) for name in file.keys()]  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise EncoderError(
                f"the weights {path} are damaged ({error}); download or export the model again"
            ) from error
    return sizes


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder.

    Raises:
        EncoderError: if the file cannot be read, or is not a JSON object.
    """
    try:
        value = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{path} is not readable JSON ({error}); download the model again"
        ) from error
    if not isinstance(value, dict):
        raise EncoderError(f"{path} is not a JSON object; download the model again")
    return value


def _named(folder: Path, name: Any) -> tuple[Path, ...]:
    """The file that a config names, or the shards of an index that it names."""
    if not isinstance(name, str) or not name.endswith((".safetensors", ".safetensors.index.json")):
        raise EncoderError(
            f"transformers_weights in {folder / 'config.json'} is {name!r}; it must name a "
            "safetensors file, so download or export the model again"
        )
    path = _inside(folder, name, "config.json")
    return _shards(path) if name.endswith(".json") else (path,)


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index lists."""
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise EncoderError(f"{index} has no weight_map; download the model again")
    return tuple(sorted(_inside(index.parent, name, index.name) for name in listed.values()))


def _inside(folder: Path, name: Any, source: str) -> Path:
    path = folder / str(name)
    if not isinstance(name, str) or path.parent != folder or not path.is_file():
        raise EncoderError(
            f"{source} in {folder} names the weight file {name!r}, which is not in the folder; "
            "download the model again"
        )
    return path
