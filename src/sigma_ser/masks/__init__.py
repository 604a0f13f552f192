"""From a saliency map to a mask under a budget, and the bank that keeps maps on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sigma_ser.core.lazy import lazy_names

if TYPE_CHECKING:
    from .bank import MaskBank as MaskBank
    from .combine import consensus as consensus
    from .topk import explainer_mask as explainer_mask
    from .topk import topk_mask as topk_mask

_HOMES = {
    "MaskBank": "bank",
    "consensus": "combine",
    "explainer_mask": "topk",
    "topk_mask": "topk",
}

if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
