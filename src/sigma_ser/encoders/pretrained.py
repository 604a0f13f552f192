"""Models of `transformers` with all of their weights, checked before memory is reserved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from sigma_ser.core.errors import EncoderError

from .source import Source
from .weights import tensor_sizes

# It masks frames in training only; fine-tuned models may lack it.
_TRAINING_ONLY = "masked_spec_embed"
# Models have fewer layers than weights; beyond this number, building them without memory is slow.
_LAYERS = 1000
# Tied parameters are counted more than once in the model and once in the file.
_TIED = 4
_SMALL = 1 << 20
# Parts of the names of fields that are dimensions of a tensor.
_WIDTHS = (
    "size", "dim", "d_model", "hidden", "channel", "embed", "position", "head", "bins", "bucket",
    "group", "kernel",
)  # fmt: skip


def load_checked(source: Source, model_class: str) -> Any:
    """A `transformers` model with all of its weights, in float32.

    Raises:
        EncoderError: if the model cannot be loaded without its own code, if its config describes
            another model than the weight files hold, or if a parameter would stay random because
            it is not in them.
    """
    import torch
    import transformers

    check_size(source, model_class)
    try:
        with quiet_transformers():
            model, info = getattr(transformers, model_class).from_pretrained(
                source.folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=not source.pickled,
                # They are reported below, with their names and shapes.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # transformers raises errors of many types
        raise _unloadable(source, model_class, error) from error
    mismatched = sorted(info.get("mismatched_keys", ()))
    if mismatched:
        name, saved, expected = mismatched[0]
        raise EncoderError(
            f"the weights in {source.folder} do not fit its config.json ({len(mismatched)} "
            f"parameters differ in shape, first: {name} is {tuple(saved)} in the weights and "
            f"{tuple(expected)} in the model); download or export the model again"
        )
    absent = info.get("missing_keys", ())
    missing = sorted(name for name in absent if not name.endswith(_TRAINING_ONLY))
    if missing:
        raise EncoderError(
            f"the weights in {source.folder} lack {len(missing)} parameters of its model "
            f"(first: {missing[0]}), which would stay random; download or export the model again"
        )
    return model


def check_size(source: Source, model_class: str) -> None:
    """Compare the model that the config describes with the weights, before memory is reserved.

    Each parameter of the model must be in the weight files, so a model that is much larger than
    they are cannot be loaded. It is built without memory, on torch's `meta` device.

    Args:
        source: with safetensors; pickled weights have no header and are not compared.
        model_class: a class of `transformers`, which may be an auto class.

    Raises:
        EncoderError: if the config describes more layers or parameters than there are weights.
    """
    import torch
    import transformers

    if source.pickled:
        return
    sizes = tensor_sizes(source.weights)
    check_config(source, sizes)
    maker: Any = getattr(transformers, model_class)
    try:
        with quiet_transformers(), torch.device("meta"):
            config = transformers.AutoConfig.from_pretrained(
                source.folder, local_files_only=True, trust_remote_code=False
            )
            automatic = hasattr(maker, "from_config")
            model = maker.from_config(config) if automatic else maker(config)
    except Exception as error:  # as above
        raise _unloadable(source, model_class, error) from error
    described = sum(parameter.numel() for parameter in model.parameters())
    if described > _TIED * sum(sizes) + _SMALL:
        raise EncoderError(
            f"config.json in {source.folder} describes a model of {described} parameters, and its "
            f"weights have {sum(sizes)}; download or export the model again"
        )


def check_config(source: Source, sizes: Sequence[int]) -> None:
    """Check that no field of a config is larger than the weights can be.

    Building a model of a billion layers takes for ever, and some modules reserve memory even on the
    `meta` device.

    Args:
        source: of the config.
        sizes: the number of elements of each tensor in the weight files.

    Raises:
        EncoderError: names the field of the config.
    """
    for name, value in config_fields(source.config):
        layers = "layers" in name
        if not layers and not any(part in name for part in _WIDTHS):
            continue
        limit = max(len(sizes), _LAYERS) if layers else max(sum(sizes), _SMALL)
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int) and number > limit for number in numbers):
            raise EncoderError(
                f"{name} in {source.folder / 'config.json'} is {value}, and the weights have "
                f"{len(sizes)} tensors with {sum(sizes)} elements; download or export the model "
                "again"
            )


def config_fields(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a config and of the configs inside it."""
    for name, value in config.items():
        yield name, value
        if isinstance(value, dict):
            yield from config_fields(value)


def _unloadable(source: Source, model_class: str, error: Exception) -> EncoderError:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    return EncoderError(
        f"{source.folder} ({source.model_type or 'no model_type'}) cannot be loaded as "
        f"{model_class} ({first}); download or export the model again, "
        "code that comes with a model is never run"
    )


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
