"""One batch of a part with all that is known of it: features, classes, victim, maps, mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Bool, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Explanation, MapKind, Victim
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.utterance import Utterance
from sigma_ser.execution.memory import Slack
from sigma_ser.masks.bank import MaskBank

from .artifacts import class_indices, load_bank, load_victim, victim_store
from .masking import make_mask
from .steps import AttackStep, FloorStep, SaliencyStep, UniversalStep, VictimStep
from .tasks import PartTask


@dataclass(frozen=True, eq=False)
class Piece:
    """One batch of a part: `rows` says where in the part it lies."""

    task: PartTask
    batch: FeatureBatch
    labels: Int[Tensor, "B"]
    rows: slice

    @property
    def utterances(self) -> Sequence[Utterance]:
        """What is known about each utterance."""
        return self.task.utterances[self.rows]

    @cached_property
    def victim(self) -> Victim:
        """The victim of the step."""
        return load_victim(self.task.paths, self.task.step.victim)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits; those of the corpus where the victim names none."""
        step = self.task.step.victim
        return self.victim.class_names or victim_store(self.task.paths, step).class_names

    def bank(self, step: SaliencyStep | UniversalStep) -> MaskBank:
        """The maps of one explainer on one victim."""
        return load_bank(self.task.paths, step, self.task.seed)

    def seen_by(self, victim: VictimStep) -> Piece:
        """The same utterances as features and classes of another victim."""
        return piece_of(self.task, victim, self.rows)

    def mask(self, step: FloorStep | AttackStep) -> Bool[Tensor, "B T D"] | None:
        """The mask of a cell, out of the banks; native cells have none."""
        if step.mask is None or step.scope is None:
            return None
        return make_mask(self, step.mask, Budget(**step.budget), step.scope)


@dataclass(frozen=True)
class AsKept:
    """The explainer of a bank, with every map rounded as the bank keeps it."""

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


# Of this process, whatever it works on.
_SLACK = Slack()


def pieces(task: PartTask) -> Iterator[Piece]:
    """The batches of a part; what is in them is fixed by the plan."""
    for start in range(0, len(task.utterances), task.batch_size):
        yield piece_of(task, task.step.victim, slice(start, start + task.batch_size))
        _SLACK.give_back()


def piece_of(task: PartTask, victim: VictimStep, rows: slice) -> Piece:
    """Some utterances of a part, as features and classes of a victim."""
    store = victim_store(task.paths, victim)
    ids = [utterance.id for utterance in task.utterances[rows]]
    labels = class_indices(task.paths, victim, store.labels(ids), store.class_names)
    return Piece(task, store.batch(ids), labels, rows)
