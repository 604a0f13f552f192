"""The source of an encoder's weights: the package, a folder, or the Hugging Face hub."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.errors import EncoderError, UnknownNameError

from .weights import PICKLED, choose_weights, file_states, read_json

EMBEDDED = {"demo": Path(__file__).parents[1] / "demo" / "encoder"}
_BLOCK = 1 << 20


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

    def count(self, name: str) -> int:
        """A field of the config that is a whole number above 0.

        Raises:
            EncoderError: if it is something else.
        """
        value = self.setting(name)
        if not is_count(value):
            raise EncoderError(
                f"{name} in {self.folder / 'config.json'} must be a whole number above 0, got "
                f"{value!r}; download or export the model again"
            )
        return int(value)

    def check_unchanged(self) -> None:
        """Check that the weight files are those that were found.

        Raises:
            EncoderError: if one was replaced or written to; its hash and its content could differ.
        """
        if self.states != file_states(self.weights):
            raise EncoderError(
                f"the weights in {self.folder} changed after the encoder was opened; "
                "call load_encoder again"
            )

    def check_rate(self, rate: Any = None) -> None:
        """Check that the model takes audio at the rate of this package.

        Args:
            rate: of the feature extractor in Hz; `None` reads it from the folder.

        Raises:
            EncoderError: if it takes another.
        """
        rate = self.preprocessor().get("sampling_rate", SAMPLE_RATE) if rate is None else rate
        if rate != SAMPLE_RATE:
            raise EncoderError(
                f"{self.name} needs audio at {rate} Hz, but sigma-ser uses {SAMPLE_RATE} Hz; "
                "choose another encoder"
            )

    def digest(self) -> str:
        """SHA-256 over the weight files, in the order of their names.

        Raises:
            EncoderError: as `check_unchanged`.
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
        """The settings of the feature extractor, empty if the folder has none.

        As in `transformers`, the feature extractor in `processor_config.json` comes first, then
        `preprocessor_config.json`.

        Raises:
            EncoderError: if one of the files cannot be read.
        """
        for name in ("processor_config.json", "preprocessor_config.json"):
            path = self.folder / name
            found = read_json(path) if path.is_file() else {}
            inner = found.get("feature_extractor", found.get("audio_processor"))
            if isinstance(inner, dict):
                return inner
            if inner is not None:
                raise EncoderError(
                    f"feature_extractor in {path} is not a JSON object; download the model again"
                )
            if name.startswith("pre"):
                return found
        return {}


def is_count(value: Any) -> bool:
    """Whether a value of a config is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


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
    if name.startswith("hf:"):
        raise UnknownNameError(
            f"encoders of the Hugging Face hub are named without hf:, so write "
            f"{name.removeprefix('hf:')!r}; hf: is for victims"
        )
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
    config = read_json(folder / "config.json")
    weights, pickled = choose_weights(folder, config, allow_pickle)
    return Source(name, folder, config, weights, revision, pickled, file_states(weights))


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

    wanted = ["*.json", "*.safetensors", *(PICKLED if allow_pickle else ())]
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
