"""Bidirectional GRU with self-attentive pooling."""

from __future__ import annotations

from torch import nn

from sigma_ser.core.registry import register

from .bilstm import BiLSTM


@register("head", "gru")
class GRU(BiLSTM):
    """The `bilstm` head with gated recurrent units in place of LSTM cells."""

    cell = nn.GRU
