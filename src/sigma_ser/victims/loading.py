"""`ss.load_victim`: loads a victim from a folder, from Hugging Face, or from Python code."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from jaxtyping import Float
from torch import Tensor, nn

from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import EncoderError, VictimError
from sigma_ser.encoders.encoder import load_encoder
from sigma_ser.encoders.source import find_source

from .checkpoint import CARD, TrainedVictim
from .victim import WrappedVictim, wrap

_HUGGING_FACE = "hf:"
SURFACES = ("features", "waveform")
"""What of a model can be attacked."""


class Classifier(WrappedVictim):
    """Part of an audio classifier; `layer_weights` `(L,)` for a model with a sum of layers."""

    layer_weights: Tensor | None = None


@overload
def load_victim(source: Path) -> TrainedVictim: ...


@overload
def load_victim(
    source: str | Path,
    *,
    layer: int | str = -1,
    class_names: Sequence[str] | None = None,
    mean: float | Float[Tensor, "D"] = 0.0,
    scale: float | Float[Tensor, "D"] = 1.0,
    revision: str | None = None,
    settings: Mapping[str, Any] | None = None,
    threshold: Mapping[str, float] | None = None,
    surface: str = "features",
) -> Victim: ...


def load_victim(
    source: str | Path,
    *,
    layer: int | str = -1,
    class_names: Sequence[str] | None = None,
    mean: float | Float[Tensor, "D"] = 0.0,
    scale: float | Float[Tensor, "D"] = 1.0,
    revision: str | None = None,
    settings: Mapping[str, Any] | None = None,
    threshold: Mapping[str, float] | None = None,
    surface: str = "features",
) -> Victim:
    """Load a victim.

    Args:
        source: one of
            the folder of a victim that `save`, `sigma-ser train` or a run has written;
            `"hf:<id or folder>"`, an audio classifier of `transformers` (wav2vec2, HuBERT, WavLM,
            UniSpeech, UniSpeech-SAT, data2vec-audio) with safetensors weights, whose code is never
            executed;
            `"package.module:Name"`, a class or function that returns a torch module
            `(x (B, T, D), lengths (B,)) -> logits (B, C)`, or a victim.
        layer: for `hf:`, the hidden state to attack, numbered as by `load_encoder`; the layers
            after it are the victim. `"all"` for models with a weighted sum of all layers, which is
            then attacked: `store.weighted(victim.layer_weights)`.
        class_names: class names in the order of the logits, if other than those of the model.
        mean: `(D,)` channel means of the training features, the baseline of explanations, for
            victims not trained here; see `store.statistics(ids)`.
        scale: `(D,)` channel standard deviations of the training features, the unit of epsilon, for
            victims not trained here.
        revision: for `hf:`, branch, tag or commit on the hub.
        settings: for `module:Name`, its keyword arguments.
        threshold: for `hf:` models whose outputs are not classes, such as arousal and valence: one
            output and the number that divides its two classes, `low-arousal` and `high-arousal` (or
            `class_names`). It is in the unit of a regression, or the probability of a label.
        surface: what is attacked. `"waveform"`, for `hf:`, makes the whole model a victim of waves
            `(B, S, 1)`, see `on_waveform`; layer, mean and scale are then left out.

    Returns:
        The victim; a `TrainedVictim` for a folder.

    Raises:
        VictimError: if there is no such victim, its files are damaged, or it is not a victim.

    >>> load_victim("collections:OrderedDict")
    Traceback (most recent call last):
    sigma_ser.core.errors.VictimError: collections:OrderedDict returned an object of type \
OrderedDict; it must return a torch module (x, lengths) -> logits, or a victim
    """
    name = str(source)
    if surface not in SURFACES:
        raise VictimError(f"surface must be one of {', '.join(SURFACES)}, got {surface!r}")
    if surface == "waveform":
        if not name.startswith(_HUGGING_FACE):
            raise VictimError(
                f"{name} is not a hf: model, and only those are whole models; for other victims "
                "on features use ss.on_waveform(encoder, victim), and for a module on waves "
                "ss.wrap(module, box=(-1, 1))"
            )
        if (
            layer != -1
            or isinstance(mean, Tensor)
            or isinstance(scale, Tensor)
            or ((mean, scale) != (0, 1))
        ):
            raise VictimError(
                "on the waveform there is no layer, the mean is 0 and the scale is 1; leave out "
                "layer, mean and scale"
            )
        return _whole_model(name.removeprefix(_HUGGING_FACE), class_names, revision, threshold)
    if name.startswith(_HUGGING_FACE):
        return _hugging_face(
            name.removeprefix(_HUGGING_FACE),
            layer=layer,
            class_names=class_names,
            mean=mean,
            scale=scale,
            revision=revision,
            threshold=threshold,
        )
    if threshold is not None:
        raise VictimError(f"{name} is not a hf: model, and only those have a threshold; remove it")
    if isinstance(source, str) and _names_code(name):
        return _own_code(name, class_names, mean, scale, settings or {})
    folder = Path(source)
    if not (folder / CARD).exists():
        _suggest_hugging_face(folder)
    return TrainedVictim.load(folder)


def _suggest_hugging_face(folder: Path) -> None:
    """Raise an error if a source looks like a model of `transformers` without its prefix."""
    if (folder / "config.json").is_file():
        raise VictimError(
            f"{folder} is a model of transformers and not a victim trained by sigma-ser; "
            f"use {_HUGGING_FACE}{folder}"
        )
    if not folder.exists() and not folder.is_absolute() and len(folder.parts) == 2:
        raise VictimError(
            f"there is no folder {folder}; for a model of the Hugging Face hub, use "
            f"{_HUGGING_FACE}{folder}"
        )


def _hugging_face(
    name: str,
    *,
    layer: int | str,
    class_names: Sequence[str] | None,
    mean: float | Tensor,
    scale: float | Tensor,
    revision: str | None,
    threshold: Mapping[str, float] | None,
) -> Classifier:
    from .huggingface import load_classifier

    module, own_names, weights = load_classifier(name, layer, revision, threshold)
    wrapped = wrap(module, class_names or own_names, mean, scale)
    victim = Classifier(module, wrapped.class_names, wrapped.mean, wrapped.scale)
    victim.layer_weights = weights
    return victim


def _whole_model(
    name: str,
    class_names: Sequence[str] | None,
    revision: str | None,
    threshold: Mapping[str, float] | None,
) -> Victim:
    """An audio classifier of `transformers` on waves."""
    from .waveform import on_waveform

    try:
        source = find_source(name, revision)
        layer = "all" if source.config.get("use_weighted_layer_sum") else -1
        head = _hugging_face(
            name, layer=layer, class_names=class_names, mean=0.0, scale=1.0,
            revision=revision, threshold=threshold,
        )  # fmt: skip
        return on_waveform(load_encoder(name, layer, revision), head)
    except EncoderError as fault:
        raise VictimError(str(fault)) from fault


def _names_code(name: str) -> bool:
    module, colon, member = name.partition(":")
    return (
        bool(colon) and member.isidentifier() and all(p.isidentifier() for p in module.split("."))
    )


def _own_code(
    name: str,
    class_names: Sequence[str] | None,
    mean: float | Tensor,
    scale: float | Tensor,
    settings: Mapping[str, Any],
) -> Victim:
    module_name, _, member = name.partition(":")
    try:
        with _working_folder():
            module = importlib.import_module(module_name)
        make = getattr(module, member)
    except (ImportError, AttributeError) as fault:
        raise VictimError(
            f"{name} cannot be imported ({fault}); give package.module:Name of a module that is "
            "installed or in the working folder"
        ) from fault
    try:
        made = make(**settings)
    except TypeError as fault:
        raise VictimError(f"{name} cannot be created: {fault}") from fault
    if isinstance(made, nn.Module):
        # A module that is loaded for an attack is not in training.
        own = class_names or getattr(made, "class_names", None)
        return wrap(made.eval(), own, getattr(made, "mean", mean), getattr(made, "scale", scale))
    if not isinstance(made, Victim):
        raise VictimError(
            f"{name} returned an object of type {type(made).__name__}; it must return a torch "
            "module (x, lengths) -> logits, or a victim"
        )
    return made


@contextlib.contextmanager
def _working_folder() -> Iterator[None]:
    """Import from the working folder as well, which is not on the path of console scripts."""
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
