"""Audio classifiers of `transformers` as victims: the layers after a hidden state.

A `...ForSequenceClassification` model consists of a front end, a stack of transformer layers, and a
head: projection, mean over frames, linear. The layers after hidden state `i` (numbered as in
`load_encoder`: 0 is the input of the first layer, `n` the output of the last) and the head are a
victim on features. Positional convolutions and group norms come before state 0, so the remaining
part is independent of padding if the attention is masked by the lengths.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.errors import EncoderError, VictimError
from sigma_ser.core.features import valid_frames
from sigma_ser.encoders.layers import resolve_layer
from sigma_ser.encoders.pretrained import load_checked
from sigma_ser.encoders.source import find_source

from .outputs import check_outputs, two_classes
from .pooling import mean_pool

# Families whose encoder is a positional convolution, a norm, and a stack of layers.
_FAMILIES = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat", "data2vec-audio")


class _Nothing(nn.Module):
    """Replaces the positional convolution by zeros, since state 0 contains the positions."""

    def forward(self, h: Tensor) -> Tensor:
        return torch.zeros_like(h)


class RestOfClassifier(nn.Module):
    """The layers of a classifier after a hidden state, and its head.

    Args:
        model: a `...ForSequenceClassification` model; the part before the state is removed from it.
        layer: the hidden state, from 0 to the number of layers, or `"all"` for a model with a
            weighted sum of layers, of which only the head remains, with the sum as its input.
    """

    def __init__(self, model: Any, layer: int | Literal["all"]) -> None:
        super().__init__()
        self.project, self.classify = model.projector, model.classifier
        base = getattr(model, model.base_model_prefix)
        encoder, layers = base.encoder, base.encoder.layers
        if layer == "all" or layer == len(layers):
            self.encoder = None
            return
        if layer > 0 and hasattr(layers[0].attention, "rel_attn_embed"):
            # WavLM's first layer owns the relative positions that all layers share.
            layers[layer].attention.rel_attn_embed = layers[0].attention.rel_attn_embed
        encoder.layers = layers[layer:]
        encoder.pos_conv_embed = _Nothing()
        if not _norm_comes_last(model.config):
            # Post-norm stacks normalise once, before state 0.
            encoder.layer_norm = nn.Identity()
        self.encoder = encoder

    def forward(self, x: Float[Tensor, "B T D"], lengths: Int[Tensor, "B"]) -> Float[Tensor, "B C"]:
        """Return the logits of hidden states, or of the weighted sum of layers."""
        if self.encoder is not None:
            valid = valid_frames(lengths, x.shape[1])
            # A copy, since the encoder clears padding in place.
            cleared = x.masked_fill(~valid[:, :, None], 0.0)
            with warnings.catch_warnings():
                # WavLM calls torch with a mask and a bias of different types.
                warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
                x = self.encoder(cleared, attention_mask=valid).last_hidden_state
        logits: Tensor = self.classify(mean_pool(self.project(x), lengths))
        return logits


def load_classifier(
    name_or_path: str | Path,
    layer: int | str,
    revision: str | None,
    threshold: Mapping[str, float] | None = None,
) -> tuple[nn.Module, tuple[str, ...], Tensor | None]:
    """Load the layers of a classifier after a hidden state.

    Args:
        name_or_path: a folder, or a Hugging Face id, with safetensors weights.
        layer: as for `load_encoder`; `"all"` for models with `use_weighted_layer_sum`.
        revision: branch, tag or commit on the hub.
        threshold: for regression and multi-label models, the output that is attacked and the number
            that divides its two classes; `None` for classifiers.

    Returns:
        The module in eval mode, its class names, and its layer weights `(L,)` (`None` for a model
        without a weighted sum of layers).

    Raises:
        VictimError: if there is no such model, its weights do not fit, its family is not
            supported, its outputs are not classes and no threshold is named, or the layer does not
            determine its logits.
    """
    try:
        source = find_source(name_or_path, revision, allow_pickle=None)
        config = SimpleNamespace(**source.config)
        if source.model_type not in _FAMILIES:
            raise VictimError(
                f"{source.name} is of the family {source.model_type or 'unknown'!r}; the supported "
                f"families are {', '.join(_FAMILIES)}; wrap other models with ss.wrap(module)"
            )
        if getattr(config, "add_adapter", False):
            raise VictimError(
                f"{source.name} has an adapter after its layers, which changes the frame rate; "
                "pass the part to attack to ss.wrap"
            )
        check_outputs(source.name, source.config, threshold)
        model = load_checked(source, "AutoModelForAudioClassification").eval()
        summed = bool(model.config.use_weighted_layer_sum)
        chosen = _chosen_layer(source.name, layer, model.config, summed)
    except EncoderError as fault:
        raise VictimError(str(fault)) from fault
    weights = model.layer_weights.detach().softmax(-1) if summed else None
    class_names = tuple(str(model.config.id2label[i]) for i in range(model.config.num_labels))
    rest: nn.Module = RestOfClassifier(model, chosen)
    if threshold is not None:
        rest, class_names = two_classes(source.name, rest, source.config, class_names, threshold)
    return rest.requires_grad_(False).eval(), class_names, weights


def _chosen_layer(name: str, layer: int | str, config: Any, summed: bool) -> int | Literal["all"]:
    if summed:
        if layer != "all":
            raise VictimError(
                f"{name} classifies a weighted sum of all its layers, which no single layer "
                'determines; load it with layer="all", and give it features of all layers'
            )
        if _norm_comes_last(config):
            raise VictimError(
                f"{name} sums its layers, and versions of transformers differ in whether the last "
                "of them is normalised; pass the part to attack to ss.wrap"
            )
        return "all"
    chosen = resolve_layer(layer, config.num_hidden_layers)
    if not isinstance(chosen, int):
        raise VictimError(
            f"{name} classifies the output of its last layer, so no layer follows {layer!r}; "
            "choose a layer by its number"
        )
    return chosen


def _norm_comes_last(config: Any) -> bool:
    return bool(getattr(config, "do_stable_layer_norm", False))
