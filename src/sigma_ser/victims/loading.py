"""`ss.load_victim`: a victim from a folder, from Hugging Face, or from the user's own code."""

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
from sigma_ser.core.errors import VictimError

from .checkpoint import TrainedVictim
from .victim import WrappedVictim, wrap

_HUGGING_FACE = "hf:"


class Classifier(WrappedVictim):
    """The rest of an audio classifier; `layer_weights` are those of a model that sums layers."""

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
) -> Victim:
    """Load a victim.

    Args:
        source: one of
            the folder where `save`, `sigma-ser train` or a run put a trained victim;
            `"hf:<id or folder>"`, an audio classifier of `transformers` (wav2vec2, HuBERT, WavLM,
            UniSpeech, UniSpeech-SAT, data2vec-audio), safetensors alone, code never run;
            `"package.module:Name"`, a class or function that gives a torch module
            `(x (B, T, D), lengths (B,)) -> logits (B, C)`, or a victim.
        layer: for `hf:`, the hidden state that is attacked, counted as by `load_encoder`: the part
            behind it is the victim. `"all"` for models that sum all layers with weights: their sum
            is attacked, and `victim.layer_weights` gives it (`store.weighted(...)`).
        class_names: class names in the order of the logits, where they are not those of the model.
        mean: `(D,)` of the training features, the baseline of explanations, for foreign victims;
            `store.statistics(ids)` has it.
        scale: `(D,)` standard deviation of the training features, the unit of epsilon, likewise.
        revision: for `hf:`, branch, tag or commit on the hub.
        settings: for `module:Name`, its keyword arguments.

    Raises:
        VictimError: if there is no such victim, it is not intact, or it cannot be one.

    >>> load_victim("collections:OrderedDict")
    Traceback (most recent call last):
    sigma_ser.core.errors.VictimError: collections:OrderedDict gave a OrderedDict; it must give a \
torch module (x, lengths) -> logits, or a victim
    """
    name = str(source)
    if name.startswith(_HUGGING_FACE):
        return _hugging_face(
            name.removeprefix(_HUGGING_FACE),
            layer=layer,
            class_names=class_names,
            mean=mean,
            scale=scale,
            revision=revision,
        )
    if isinstance(source, str) and _names_code(name):
        return _own_code(name, class_names, mean, scale, settings or {})
    return TrainedVictim.load(source)


def _hugging_face(
    name: str,
    *,
    layer: int | str,
    class_names: Sequence[str] | None,
    mean: float | Tensor,
    scale: float | Tensor,
    revision: str | None,
) -> Classifier:
    from .huggingface import load_classifier

    module, own_names, weights = load_classifier(name, layer, revision)
    wrapped = wrap(module, class_names or own_names, mean, scale)
    victim = Classifier(module, wrapped.class_names, wrapped.mean, wrapped.scale)
    victim.layer_weights = weights
    return victim


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
            f"{name} cannot be imported ({fault}); give package.module:Name of what is installed "
            "or lies in the working folder"
        ) from fault
    try:
        made = make(**settings)
    except TypeError as fault:
        raise VictimError(f"{name} cannot be made: {fault}") from fault
    if isinstance(made, nn.Module):
        # What is loaded to be attacked is not being trained.
        own = class_names or getattr(made, "class_names", None)
        return wrap(made.eval(), own, getattr(made, "mean", mean), getattr(made, "scale", scale))
    if not isinstance(made, Victim):
        raise VictimError(
            f"{name} gave a {type(made).__name__}; it must give a torch module "
            "(x, lengths) -> logits, or a victim"
        )
    return made


@contextlib.contextmanager
def _working_folder() -> Iterator[None]:
    """The user's own modules lie in the working folder, which console scripts do not look into."""
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
