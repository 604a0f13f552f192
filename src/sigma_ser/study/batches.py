"""One batch of a part, with its features, classes, victim, maps and mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Bool, Float, Int
from torch import Tensor

from sigma_ser.audio.recording import SAMPLE_RATE
from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Explanation, MapKind, Victim
from sigma_ser.core.errors import StoreError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.utterance import Utterance
from sigma_ser.corpora.waveforms import waves_of
from sigma_ser.explainers.over_time import laid_over_time
from sigma_ser.explainers.relative_time import unfold
from sigma_ser.masks.bank import MaskBank
from sigma_ser.masks.combine import consensus
from sigma_ser.masks.topk import topk_mask
from sigma_ser.runs.files import read_tensors

from .artifacts import Artifacts
from .sections import CONSENSUS
from .steps import MaskedStep, MaskStep, SaliencyStep, UniversalStep, VictimStep
from .tasks import PartTask

# Encoders that frame alike may still differ by this many frames at the end of an utterance.
_FRAME_TOLERANCE = 2


@dataclass(frozen=True, eq=False)
class StepBatch:
    """One batch of a part, as a victim receives it.

    Args:
        artifacts: what is open of the run.
        task: the part.
        batch: the features `(B, T, D)`, or the waves `(B, S, 1)`.
        labels: class indices of the victim, `(B,)`.
        rows: which utterances of the part these are.
    """

    artifacts: Artifacts
    task: PartTask
    batch: FeatureBatch
    labels: Int[Tensor, "B"]
    rows: slice

    @property
    def utterances(self) -> Sequence[Utterance]:
        """The recordings, with what is known about them."""
        return self.task.utterances[self.rows]

    @cached_property
    def victim(self) -> Victim:
        """The victim of the step."""
        return self.artifacts.victim(self.task.step.victim)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits; those of the corpus where the victim names none."""
        return self.victim.class_names or self.artifacts.view(self.task.step.victim).class_names

    def bank(self, step: SaliencyStep | UniversalStep) -> MaskBank:
        """The maps of one explainer on one victim."""
        return self.artifacts.bank(step, self.task.seed)

    def for_victim(self, victim: VictimStep) -> StepBatch:
        """The same utterances as features and classes of another victim."""
        return step_batch(self.artifacts, self.task, victim, self.rows)

    def mask(self, step: MaskedStep) -> Bool[Tensor, "B T D"] | None:
        """The mask of a step, from the banks; `None` where it has none."""
        if step.mask is None or step.scope is None:
            return None
        return _mask(self, step.mask, step.budget.units, step.scope)


@dataclass(frozen=True)
class StoredExplainer:
    """The explainer of a bank, with every map rounded as the bank stores it."""

    bank: MaskBank

    @property
    def kind(self) -> MapKind:
        """As that of the explainer."""
        return self.bank.explainer.kind

    def __call__(
        self,
        victim: Victim,
        batch: FeatureBatch,
        labels: Int[Tensor, "B"],
        *,
        seeds: Int[Tensor, "B"] | None = None,
    ) -> Explanation:
        """Explain, then round."""
        return self.bank.as_stored(self.bank.explainer(victim, batch, labels, seeds=seeds), batch)


def step_batches(task: PartTask, artifacts: Artifacts) -> Iterator[StepBatch]:
    """The batches of a part; their composition is fixed by the plan."""
    for start in range(0, len(task.utterances), task.batch_size):
        rows = slice(start, start + task.batch_size)
        yield step_batch(artifacts, task, task.step.victim, rows)
        artifacts.give_back_memory()


def step_batch(artifacts: Artifacts, task: PartTask, victim: VictimStep, rows: slice) -> StepBatch:
    """Some utterances of a part, as features and classes of a victim."""
    view = artifacts.view(victim)
    ids = [utterance.id for utterance in task.utterances[rows]]
    labels = artifacts.class_indices(victim, view.labels(ids), view.class_names)
    batch = view.batch(ids) if victim.on_features is None else waves_of(task.utterances[rows])
    place = artifacts.device
    return StepBatch(artifacts, task, batch.to(place), labels.to(place), rows)


def _mask(here: StepBatch, mask: MaskStep, budget: Budget, scope: int) -> Bool[Tensor, "B T D"]:
    """The elements that an attack may change: from one map, a consensus, or a universal map."""
    batch = here.batch
    if mask.universal is not None:
        path = here.artifacts.layout.universal(mask.universal.key)
        here.artifacts.digests.check(path)
        saliency = unfold(read_tensors(path)["map"], batch.lengths)
        return topk_mask(saliency, batch.lengths, budget, scope)
    if mask.source == CONSENSUS:
        maps = []
        for step in mask.maps:
            there = here.for_victim(step.victim)
            maps.append(there.bank(step).scores(there.batch, there.labels))
        return topk_mask(consensus(maps, batch.lengths), batch.lengths, budget, scope)
    (step,) = mask.maps
    there = here.for_victim(step.victim)
    on_waveform = here.task.step.victim.on_features is not None
    if on_waveform and step.victim.on_features is None:
        # The features are explained once, and the map restricts where the audio may change.
        frames = there.bank(step).scores(there.batch, there.labels).sum(2)
        hop = round(step.victim.setting.frame_seconds * SAMPLE_RATE)
        laid = laid_over_time(frames, there.batch.lengths, batch.lengths, hop)
        return topk_mask(laid, batch.lengths, budget, scope)
    if on_waveform or step.victim.setting == here.task.step.victim.setting:
        return there.bank(step).mask(there.batch, there.labels, budget, scope)
    # Between encoders only frames carry over, and there may be one more or fewer of them.
    scores = there.bank(step).scores(there.batch, there.labels).sum(2)
    fitted = _fitted(scores, there.batch.lengths, batch.lengths)
    return topk_mask(fitted[:, :, None].expand(batch.x.shape), batch.lengths, budget, scope)


def _fitted(
    scores: Float[Tensor, "B S"], lengths: Int[Tensor, "B"], wanted: Int[Tensor, "B"]
) -> Float[Tensor, "B T"]:
    """Frame scores at other lengths: surplus frames are cut, missing ones rank last."""
    if bool(((lengths - wanted).abs() > _FRAME_TOLERANCE).any()):
        raise StoreError(
            f"an utterance differs by more than {_FRAME_TOLERANCE} frames between the two "
            "encoders; masks carry over only between encoders of the same framing"
        )
    fitted = scores.new_zeros(len(scores), int(wanted.max()))
    for row, length in enumerate(wanted.tolist()):
        shared = min(length, int(lengths[row]))
        fitted[row, :shared] = scores[row, :shared]
    return fitted
