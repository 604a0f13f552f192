"""Memory of torch on the processor, where every batch has another shape."""

from __future__ import annotations

import os

# A model has some ten different operations; utterances of equal length follow each other.
_CAPACITY = 32


def bound_primitive_cache() -> None:
    """Let oneDNN keep the compiled form of 32 operations instead of 1024.

    It keeps one for each operation and shape. Speech has a shape for every length, so that the
    cache grew by 150 MB over 2798 utterances. Takes effect in this process and those that it starts
    until the first operation is compiled; `ONEDNN_PRIMITIVE_CACHE_CAPACITY` of the environment goes
    first.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_CAPACITY))
