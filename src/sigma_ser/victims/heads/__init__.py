"""Heads, one file each: `(standardised x (B, T, D), lengths (B,)) -> logits (B, C)`.

A head is made as `Head(channels, classes, **settings)` and is exact under padding: its answer for
an utterance, and the gradient of it, do not depend on padding or on the rest of the batch.
"""
