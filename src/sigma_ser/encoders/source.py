"""The source of an encoder's weights: the package, a folder, or the Hugging Face hub."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sigma_ser.core.errors import EncoderError, UnknownNameError

EMBEDDED = {"demo": Path(__file__).parents[1] / "demo" / "encoder"}
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_BLOCK = 1 << 20
# It masks frames in training only; fine-tuned models may lack it.
_TRAINING_ONLY = "masked_spec_embed"


@dataclass(frozen=True)
class Source:
    """A folder with `config.json` and weights.

    `revision` is the commit of a hub repository, `None` for folders. `weights` are the files that
    are read; `pickled` means that they are not safetensors, which the user has allowed. `states`
    identifies the version of each weight file on disk.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    revision: str | None = None
    pickled: bool = False
    states: tuple[tuple[int, ...], ...] = ()

    @property
    def model_type(self) -> str:
        """The name of the architecture in the config."""
        return str(self.config.get("model_type", ""))

    def setting(self, name: str) -> Any:
        """A field of the config, or the default of `transformers` where the file omits it.

        Raises:
            EncoderError: if neither has it.
        """
        if name in self.config:
            return self.config[name]
        # The import takes seconds, and almost every config names these fields.
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(
                self.folder, local_files_only=True, trust_remote_code=False
            )
            return getattr(config, name)
        except Exception as error:  # transformers validates configs with errors of many types
            raise EncoderError(
                f"{self.folder / 'config.json'} has no valid {name}, which the architecture "
                f"{self.model_type!r} needs; download or export the model again"
            ) from error

    def check_unchanged(self) -> None:
        """Check that the weight files are those that were found.

        Raises:
            EncoderError: if one was replaced or written to; its hash and its content could differ.
        """
        if self.states != _states(self.weights):
            raise EncoderError(
                f"the weights in {self.folder} changed after the encoder was opened; "
                "call load_encoder again"
            )

    def check_headers(self) -> None:
        """Check that every safetensors file has a whole header and all bytes that it announces.

        Raises:
            EncoderError: names the file.
        """
        from safetensors import SafetensorError, safe_open

        for path in () if self.pickled else self.weights:
            try:
                with safe_open(path, framework="pt"):
                    pass
            except (SafetensorError, OSError) as error:
                raise EncoderError(
                    f"the weights {path} are damaged ({error}); download or export the model again"
                ) from error

    def digest(self) -> str:
        """SHA-256 over the weight files, in the order of their names.

        Raises:
            EncoderError: as :meth:`check_unchanged`.
        """
        whole = hashlib.sha256()
        for path in self.weights:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    whole.update(block)
        self.check_unchanged()
        return whole.hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """All weights by name.

        Raises:
            EncoderError: if a file cannot be read.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        tensors: dict[str, Tensor] = {}
        for path in self.weights:
            try:
                tensors |= (
                    torch.load(path, map_location="cpu", weights_only=True)
                    if self.pickled
                    else load_file(path)
                )
            except (SafetensorError, OSError, RuntimeError) as error:
                raise EncoderError(
                    f"the weights {path} cannot be read ({error}); copy or download them again"
                ) from error
        return tensors

    def preprocessor(self) -> dict[str, Any]:
        """The content of `preprocessor_config.json`, empty if there is none."""
        path = self.folder / "preprocessor_config.json"
        return _read_json(path) if path.is_file() else {}


def find_source(
    name_or_path: str | Path, revision: str | None = None, allow_pickle: bool | None = False
) -> Source:
    """Find an encoder: `"demo"`, a folder, or a Hugging Face id, which may be downloaded.

    `allow_pickle=None` refuses pickled weights for callers that have no such setting.

    Raises:
        EncoderError: if there is no network, no such repository, no access, no config, no weights,
            or only pickled weights.
        UnknownNameError: if the name is neither embedded, nor a folder, nor looks like an id.
    """
    name = str(name_or_path)
    folder = EMBEDDED.get(name, Path(name_or_path).expanduser())
    if folder.is_dir():
        if revision is not None:
            raise EncoderError(
                f"{folder} is a local folder and has no revisions; omit revision (the weights are "
                "identified by their hash)"
            )
        return _read_folder(name, folder.absolute(), None, allow_pickle)
    if name in EMBEDDED:
        raise EncoderError(f"the embedded encoder {name!r} is missing: install sigma-ser again")
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise EncoderError(f"there is no folder {folder}; check the path of the encoder")
    if "/" not in name:
        near = difflib.get_close_matches(name, EMBEDDED, n=1)
        hint = f"did you mean {near[0]}? Otherwise " if near else ""
        raise UnknownNameError(
            f"no encoder is called {name!r}; {hint}give {', '.join(EMBEDDED)} (part of the "
            "package), a local folder, or a Hugging Face id such as facebook/wav2vec2-base"
        )
    folder, commit = _download(name, revision, allow_pickle)
    return _read_folder(name, folder, commit, allow_pickle)


def _read_folder(
    name: str, folder: Path, revision: str | None, allow_pickle: bool | None
) -> Source:
    if not (folder / "config.json").is_file():
        raise EncoderError(
            f"{folder} has no config.json; give the folder that save_pretrained() wrote"
        )
    config = _read_json(folder / "config.json")
    safe = sorted(path for path in folder.glob("*.safetensors") if not path.name.startswith("."))
    if safe:
        return Source(name, folder, config, tuple(safe), revision, states=_states(safe))
    pickled = sorted({path for pattern in _PICKLED for path in folder.glob(pattern)})
    if not pickled:
        raise EncoderError(f"{folder} has no weights (*.safetensors); download the model again")
    if not allow_pickle:
        choice = "" if allow_pickle is None else ", or pass allow_pickle=True if you trust them"
        raise EncoderError(
            f"{folder} has only pickled weights ({pickled[0].name}), which can run code when "
            f"opened; convert them to safetensors{choice}"
        )
    return Source(
        name, folder, config, tuple(pickled), revision, pickled=True, states=_states(pickled)
    )


def _states(paths: Iterable[Path]) -> tuple[tuple[int, ...], ...]:
    """What changes with the content of each file: size, times and place on the disk."""
    found = [path.stat() for path in paths]
    return tuple((one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino) for one in found)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{path} is not readable JSON ({error}); download the model again"
        ) from error
    if not isinstance(value, dict):
        raise EncoderError(f"{path} is not a JSON object; download the model again")
    return value


def _download(name: str, revision: str | None, allow_pickle: bool | None) -> tuple[Path, str]:
    """The local snapshot of a hub repository and its commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    wanted = ["*.json", "*.safetensors", *(_PICKLED if allow_pickle else ())]
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except GatedRepoError as error:
        raise EncoderError(
            f"{name} is gated: accept its terms on https://huggingface.co/{name}, "
            "then run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise EncoderError(
            f"{name} has no revision {revision!r}; give a branch, tag or commit of it"
        ) from error
    except RepositoryNotFoundError as error:
        raise EncoderError(
            f"there is no model {name} on the Hugging Face hub that you may read, "
            f"and no folder of that name; check the spelling, or run `hf auth login`"
        ) from error
    except HFValidationError as error:
        raise EncoderError(f"{name!r} is neither a folder nor a Hugging Face id") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise EncoderError(
            f"{name} is not on this machine and the Hugging Face hub cannot be reached; "
            f"connect, or copy the model here and give its folder"
        ) from error
    # The folder of a snapshot is named by its commit.
    return folder, folder.name


def load_checked(source: Source, model_class: str) -> Any:
    """A `transformers` model with all of its weights, in float32.

    Raises:
        EncoderError: if the model cannot be loaded without its own code, or if a parameter would
            stay random because it is not in the weight files.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            model, info = getattr(transformers, model_class).from_pretrained(
                source.folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=not source.pickled,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0].rstrip(".")
        raise EncoderError(
            f"{source.folder} ({source.model_type or 'no model_type'}) cannot be loaded as "
            f"{model_class} ({first}); download or export the model again, "
            "code that comes with a model is never run"
        ) from error
    absent = [*info.get("missing_keys", ()), *(key[0] for key in info.get("mismatched_keys", ()))]
    missing = sorted(name for name in absent if not name.endswith(_TRAINING_ONLY))
    if missing:
        raise EncoderError(
            f"the weights in {source.folder} lack {len(missing)} parameters of its model "
            f"(first: {missing[0]}), which would stay random; download or export the model again"
        )
    return model


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress progress bars and reports of `transformers`; faults are raised as errors."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
