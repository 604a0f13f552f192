"""One map for all utterances of a class, or for a whole victim: learned once, explained never."""

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
from sigma_ser.core.files import content_key, whole_file

from .explanation import explanation, make_explainer
from .ranking import ranking_scale, ranking_scores
from .relative_time import fold, unfold

# The group of a map that serves every class.
_EVERY_CLASS = -1


@dataclass(frozen=True, eq=False)
class UniversalMap:
    """Learned maps, used as an explainer that asks the victim for nothing.

    Utterances differ in length, so a map has `bins` equal parts of the duration and `D` channels;
    it is laid over an utterance by relative time. With `bins=1` only the channels count.

    Args:
        maps: `(bins, D)`, at least 0, for each class; or one for every class under -1.

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
        """The map of each utterance's class, laid over its length; no pass is made.

        Raises:
            ExplainerError: if a class has no map, or the features have another width.
        """
        del victim, seeds
        saliency = torch.zeros_like(batch.x)
        for group in sorted(set(labels.tolist())):
            chosen = self.maps.get(group, self.maps.get(_EVERY_CLASS))
            if chosen is None or chosen.shape[1] != batch.x.shape[2]:
                raise ExplainerError(
                    f"there is no universal map of {batch.x.shape[2]} channels for class {group}; "
                    "learn it from utterances of that class, with the same features"
                )
            rows = (labels == group).nonzero()[:, 0].to(batch.device)
            laid = unfold(chosen, batch.lengths[rows])
            saliency[rows, : laid.shape[1]] = laid.to(saliency)
        nothing = torch.zeros(len(batch), dtype=torch.long)
        return Explanation(saliency, nothing, nothing.clone())

    @property
    def key(self) -> str:
        """The hash of the maps."""
        return content_key({str(group): one.tolist() for group, one in self.maps.items()})

    def __repr__(self) -> str:
        # Mask banks file maps under this: tensors print their corners alone.
        return f"UniversalMap({self.key})"

    def save(self, folder: str | Path) -> Path:
        """Write `universal-<hash of the maps>.safetensors` into a folder: the file's path."""
        from safetensors.torch import save_file

        maps = {str(group): one.contiguous() for group, one in sorted(self.maps.items())}
        path = Path(folder) / self._file_name
        with whole_file(path) as aside:
            save_file(maps, aside)
        return path

    @classmethod
    def load(cls, path: str | Path) -> UniversalMap:
        """Read what :meth:`save` wrote.

        Raises:
            ExplainerError: if there is no such file, it is damaged, or its name is not that of its
                contents.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            maps = {int(group): one for group, one in load_file(path).items()}
            if not maps or any(one.ndim != 2 for one in maps.values()):
                raise ValueError("it holds no maps (bins, D)")
            learned = cls(maps)
        except (OSError, SafetensorError, ValueError) as fault:
            raise ExplainerError(
                f"{path} is no universal map ({fault}); make one with learn_universal(...).save()"
            ) from fault
        # Banks and studies file what a map gives under the name of its file.
        if Path(path).name != learned._file_name:
            raise ExplainerError(
                f"{path} is the universal map {learned._file_name} or a changed one; give it that "
                "name if it is meant, or make it again with learn_universal(...).save()"
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
    """Average the maps of many utterances, each of which weighs 1.

    Args:
        explainer: what is averaged; maps rank as their kind demands, gradients times the scale.
        victim: the explained victim.
        batch: utterances to learn from; those of the training part, to keep the test part unseen.
        labels: the class that is explained of each.
        bins: equal parts of the duration.
        per_class: one map for each class of `labels`, or one for all.
        seeds: of stochastic explainers.

    Raises:
        ExplainerError: if an utterance cannot be explained.
        ShapeError: if `bins` is below 1.
    """
    made = make_explainer(explainer) if isinstance(explainer, str) else explainer
    told = explanation(made, victim, batch, labels, seeds=seeds)
    scale = ranking_scale(made.kind, victim, batch)
    scores = ranking_scores(told.saliency, batch.lengths, scale=scale)
    groups = labels.to(batch.device) if per_class else torch.full_like(batch.lengths, _EVERY_CLASS)
    return UniversalMap(fold(scores, batch.lengths, bins=bins, groups=groups))


@registry.register("explainer", "universal")
@dataclass(frozen=True, kw_only=True)
class Universal:
    """A universal map by name, for studies and the command line.

    Args:
        path: a file of :meth:`UniversalMap.save`; its name must be the hash of its contents, so
            that whatever is filed under these settings is filed under the map. `None` is the
            control: each utterance's own map, folded over time in the same way, which shows what
            the folding costs before anything is shared.
        source: explainer of that control.
        bins: equal parts of the duration in that control.

    Raises:
        ExplainerError: if the file is missing, damaged or under another name.
    """

    kind: ClassVar[MapKind] = "attribution"

    path: str | None = None
    source: str = "gradient"
    bins: int = 10

    def __post_init__(self) -> None:
        if self.path is not None:
            UniversalMap.load(self.path)  # a wrong path must not wait until victims are trained

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
        """The learned map laid over each utterance, or its own one folded.

        Raises:
            ExplainerError: if a class has no map, or the source fails.
        """
        if self.path is not None:
            return self._learned(victim, batch, labels, seeds=seeds)
        made = make_explainer(self.source)
        told = explanation(made, victim, batch, labels, seeds=seeds)
        scale = ranking_scale(made.kind, victim, batch)
        scores = ranking_scores(told.saliency, batch.lengths, scale=scale)
        numbers = torch.arange(len(batch), device=batch.device)
        own = UniversalMap(fold(scores, batch.lengths, bins=self.bins, groups=numbers))
        laid = own(victim, batch, numbers)
        return Explanation(laid.saliency, told.forwards, told.backwards)
