"""Heads, one module each: `(standardised x (B, T, D), lengths (B,)) -> logits (B, C)`.

A head is made as `Head(channels, classes, **settings)`; its logits and gradients for an utterance
do not depend on padding or on the rest of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .attention import Attention as Attention
    from .bilstm import BiLSTM as BiLSTM
    from .cnn import CNN as CNN
    from .ecapa import ECAPA as ECAPA
    from .emobox import EmoBox as EmoBox
    from .gru import GRU as GRU
    from .linear import Linear as Linear
    from .mlp import MLP as MLP
    from .superb import Superb as Superb
    from .transformer import Transformer as Transformer

_HOMES = {
    "Attention": "attention",
    "BiLSTM": "bilstm",
    "CNN": "cnn",
    "ECAPA": "ecapa",
    "EmoBox": "emobox",
    "GRU": "gru",
    "Linear": "linear",
    "MLP": "mlp",
    "Superb": "superb",
    "Transformer": "transformer",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
