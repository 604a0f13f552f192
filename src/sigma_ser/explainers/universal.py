"""Universal maps: one map for all utterances of a class or of a victim.

A universal map is estimated once from training utterances; no test utterance is explained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core import registry
from sigma_ser.core.contracts import Explainer, Explanation, MapKind, Victim
from sigma_ser.core.errors import ExplainerError, ShapeError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import content_key, write_tensors

from .explanation import explanation, make_explainer
from .ranking import ranking_scale, ranking_scores
from .relative_time import fold, unfold
from .request import check_integers

# The group of a map for all classes.
_EVERY_CLASS = -1


@dataclass(frozen=True, eq=False)
class UniversalMap:
    """Estimated maps as an explainer that does not call the victim.

    A map has `bins` equal parts of the duration and `D` channels, and is expanded to the frames of
    an utterance by relative time. With `bins=1` it depends on the channels only.

    Args:
        maps: a map `(bins, D)`, at least 0, for each class index; or one for all classes under -1.

    Raises:
        ShapeError: if there is no map, or they differ in shape.
    """

    kind: ClassVar[MapKind] = "attribution"

    maps: Mapping[int, Float[Tensor, "bins D"]]

    def __post_init__(self) -> None:
        if len({tuple(one.shape) for one in self.maps.values()}) != 1:
            raise ShapeError("a universal map needs at least one map (bins, D), all of one shape")

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> Explanation:
        """Expand the map of the class of each utterance to its length, without any pass.

        Args:
            victim: not used.
            batch: features `(B, T, D)`.
            labels: class indices `(B,)`.
            seeds: not used.

        Returns:
            The maps `(B, T, D)`, zero on padding.

        Raises:
            ExplainerError: if a class has no map, or the features have another number of channels.
            ShapeError: if `labels` are not integers `(B,)`.
        """
        del victim, seeds
        check_integers("labels", labels, len(batch))
        with torch.inference_mode(False):
            saliency = torch.zeros_like(batch.x)
            for group in sorted(set(labels.tolist())):
                chosen = self.maps.get(group, self.maps.get(_EVERY_CLASS))
                if chosen is None or chosen.shape[1] != batch.x.shape[2]:
                    raise ExplainerError(
                        f"there is no universal map of {batch.x.shape[2]} channels for class "
                        f"{group}; estimate it from utterances of that class, with the same "
                        "features"
                    )
                rows = (labels == group).nonzero()[:, 0].to(batch.device)
                expanded = unfold(chosen, batch.lengths[rows])
                saliency[rows, : expanded.shape[1]] = expanded.to(saliency)
        nothing = torch.zeros(len(batch), dtype=torch.long)
        return Explanation(saliency, nothing, nothing.clone())

    @property
    def key(self) -> str:
        """Hash of the maps."""
        return content_key({str(group): one.tolist() for group, one in self.maps.items()})

    def __repr__(self) -> str:
        # The key of a mask bank includes this; the repr of a large tensor omits most values.
        return f"UniversalMap({self.key})"

    def save(self, folder: str | Path) -> Path:
        """Write `universal-<hash of the maps>.safetensors` into a folder.

        Returns:
            The path of the file.
        """
        maps = {str(group): one.contiguous() for group, one in sorted(self.maps.items())}
        path = Path(folder) / self._file_name
        write_tensors(path, maps)
        return path

    @classmethod
    def load(cls, path: str | Path) -> UniversalMap:
        """Read a file that `save` wrote.

        Raises:
            ExplainerError: if there is no such file, it is damaged, or its name does not contain
                the hash of its contents.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            maps = {int(group): one for group, one in load_file(path).items()}
            if not maps or any(one.ndim != 2 for one in maps.values()):
                raise ValueError("it does not hold maps (bins, D)")
            learned = cls(maps)
        except (OSError, SafetensorError, ValueError) as fault:
            raise ExplainerError(
                f"{path} is not a universal map ({fault}); create one with "
                "learn_universal(...).save()"
            ) from fault
        # Banks and studies identify the map by the name of its file.
        if Path(path).name != learned._file_name:
            raise ExplainerError(
                f"{path} was renamed or changed: the name of its contents is "
                f"{learned._file_name}; restore that name, or create the map again with "
                "learn_universal(...).save()"
            )
        return learned

    @property
    def _file_name(self) -> str:
        return f"universal-{self.key}.safetensors"


def learn_universal(
    explainer: str | Explainer,
    victim: Victim,
    batch: FeatureBatch,
    labels: Int[Tensor, "B"],
    *,
    bins: int = 10,
    per_class: bool = True,
    seeds: Int[Tensor, "B"] | None = None,
) -> UniversalMap:
    """Estimate a universal map: the mean of the normalised maps of utterances.

    Args:
        explainer: the explainer whose maps are averaged; gradients are multiplied by the scale.
        victim: the explained victim.
        batch: features `(B, T, D)`; use utterances of the training part, so that the map does not
            depend on the test part.
        labels: the explained class `(B,)`.
        bins: number of equal parts of the duration, at least 1.
        per_class: estimate one map for each class of `labels`; otherwise one map for all.
        seeds: `(B,)`, for stochastic explainers; `None` derives them from the ids.

    Returns:
        The universal map, an explainer.

    Raises:
        ExplainerError: if an utterance cannot be explained.
        ShapeError: if `bins` is below 1.
    """
    made = make_explainer(explainer) if isinstance(explainer, str) else explainer
    explained = explanation(made, victim, batch, labels, seeds=seeds)
    scale = ranking_scale(made.kind, victim, batch)
    scores = ranking_scores(explained.saliency, batch.lengths, scale=scale)
    groups = labels.to(batch.device) if per_class else torch.full_like(batch.lengths, _EVERY_CLASS)
    return UniversalMap(fold(scores, batch.lengths, bins=bins, groups=groups))


@registry.register("explainer", "universal")
@dataclass(frozen=True, kw_only=True)
class Universal:
    """A universal map by name, for studies and the command line.

    Args:
        path: a file of `UniversalMap.save`; its name must contain the hash of its contents,
            so that equal settings mean equal maps. `None` is a control: each utterance's own map,
            averaged over the same parts of the duration, which measures the effect of the
            averaging over time without that of sharing.
        source: explainer of the control.
        bins: number of equal parts of the duration in the control, at least 1.

    Raises:
        ExplainerError: if the file is missing or damaged, or was renamed.
    """

    kind: ClassVar[MapKind] = "attribution"

    path: str | None = None
    source: str = "gradient"
    bins: int = 10

    def __post_init__(self) -> None:
        if self.path is not None:
            UniversalMap.load(self.path)  # a wrong path raises before victims are trained

    @cached_property
    def _learned(self) -> UniversalMap:
        return UniversalMap.load(str(self.path))

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> Explanation:
        """Expand the map to each utterance; without `path`, the utterance's own averaged map.

        Args:
            victim: the classifier; called without `path` only.
            batch: features `(B, T, D)`.
            labels: class indices `(B,)`.
            seeds: `(B,)`, for a stochastic source; `None` derives them from the ids.

        Returns:
            The maps `(B, T, D)`, zero on padding.

        Raises:
            ExplainerError: if a class has no map, or the source fails.
        """
        if self.path is not None:
            return self._learned(victim, batch, labels, seeds=seeds)
        made = make_explainer(self.source)
        explained = explanation(made, victim, batch, labels, seeds=seeds)
        scale = ranking_scale(made.kind, victim, batch)
        scores = ranking_scores(explained.saliency, batch.lengths, scale=scale)
        numbers = torch.arange(len(batch), device=batch.device)
        own = UniversalMap(fold(scores, batch.lengths, bins=self.bins, groups=numbers))
        expanded = own(victim, batch, numbers)
        return Explanation(expanded.saliency, explained.forwards, explained.backwards)
