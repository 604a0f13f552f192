"""Training of the generator of `staa-net` through a victim, with checkpoints."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sigma_ser.core.budget import Budget
from sigma_ser.core.contracts import Victim
from sigma_ser.core.errors import AttackError
from sigma_ser.core.features import FeatureBatch
from sigma_ser.core.files import content_key, write_tensors
from sigma_ser.core.passes import CountedVictim
from sigma_ser.core.seeds import UtteranceNoise, derive_seed

from .generator import Generator
from .inputs import autograd_usable, checksums, weights_of
from .limits import joint_range
from .losses import margin, spread_factor
from .problem import Problem, check_logits, checked_classes
from .sparse_ball import SparseBall

TRAINING = "training.safetensors"

# Margin, in units of the normalised logits, up to which a success is rewarded.
_CONFIDENCE = 1.0


def train_generator(
    victim: Victim,
    waves: FeatureBatch,
    labels: Int[Tensor, "B"],
    budget: Budget,
    *,
    steps: int = 1000,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    width: int = 16,
    levels: int = 3,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    every: int = 50,
    progress: Callable[[int, int], None] | None = None,
) -> Generator:
    """Train a generator for `staa-net` on utterances that will not be attacked.

    Adam (Kingma & Ba 2015) minimises `max(1 - margin, 0)`, averaged over a batch, with the margin
    of the wrong classes on logits that `losses.spread_factor` normalises; Chang et al. 2024
    use this loss of Carlini & Wagner 2017, too. The mask selects exactly the `k` units of the
    budget, and its gradient is that of the scores (straight-through, Bengio, Léonard & Courville
    2013). So the penalties of the paper on size, sparsity and quantisation are not needed.

    Args:
        victim: the attacked model, on waves `(B, S, 1)` or features `(B, T, D)`.
        waves: the utterances of the training part.
        labels: true class indices `(B,)`.
        budget: what a perturbation may change; `Budget.from_snr(waves, ...)` for waves.
        steps: number of optimiser steps, at least 1.
        batch_size: utterances of a step, at least 1.
        learning_rate: of Adam, above 0.
        width, levels: size of the `generator.Generator`.
        seed: seed of the initial weights and of the order of the utterances.
        checkpoint: folder of the generator and of the state of the training. A training that was
            interrupted continues there, with the same weights bit for bit as one that was not; one
            with more steps continues as well. `None` writes nothing.
        every: number of steps between two checkpoints, at least 1.
        progress: called with (steps done, all steps) after each step.

    Returns:
        The trained generator, on the device of the features.

    Raises:
        AttackError: if an argument is out of its range, the loss is not finite, or the folder
            holds a training with other arguments or more steps.
    """
    for name, value in (("steps", steps), ("batch_size", batch_size), ("every", every)):
        if value < 1:
            raise AttackError(f"{name} of train_generator must be at least 1, got {value}")
    if not learning_rate > 0:
        raise AttackError(f"learning_rate of train_generator must be above 0, got {learning_rate}")
    if not len(waves):
        raise AttackError("the batch is empty; pass at least one utterance")
    with autograd_usable(), torch.enable_grad():
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(seed, "generator"))
            channels = waves.x.shape[2]
            generator = Generator(channels, width=width, levels=levels).to(waves.device)
        adam = torch.optim.Adam(generator.parameters(), lr=learning_rate)
        recipe = _recipe(victim, waves, labels, budget) | {
            "seed": seed, "batch_size": batch_size, "learning_rate": learning_rate,
            "width": width, "levels": levels, "channels": channels,
        }  # fmt: skip
        folder = None if checkpoint is None else Path(checkpoint)
        state = _State(generator, adam, recipe)
        done = 0 if folder is None else state.load(folder / TRAINING)
        if done > steps:
            raise AttackError(
                f"{folder} holds a generator of {done} steps; ask for at least as many, or choose "
                "another folder"
            )
        data = _Data(victim, waves, labels, budget)
        for step in range(done, steps):
            _step(generator, adam, data, _rows(len(waves), batch_size, step, seed))
            if progress is not None:
                progress(step + 1, steps)
            if folder is not None and ((step + 1) % every == 0 or step + 1 == steps):
                state.save(folder / TRAINING, step + 1)
    generator.card = {"recipe": recipe, "steps": steps, "torch": torch.__version__}
    generator.eval().requires_grad_(False)
    if folder is not None:
        generator.save(folder)
    return generator


@dataclass(frozen=True)
class _Data:
    """What the generator is trained on."""

    victim: Victim
    batch: FeatureBatch
    labels: Int[Tensor, "B"]
    budget: Budget

    def select(self, rows: Int[Tensor, "R"]) -> _Data:
        """The utterances `rows`, with their budgets."""
        own: dict[str, Any] = {
            name: value[rows.to(value.device)]
            for name, value, ndim in (
                ("count", self.budget.count, 1), ("epsilon", self.budget.epsilon, 2)
            )
            if isinstance(value, Tensor) and value.ndim == ndim
        }  # fmt: skip
        budget = dataclasses.replace(self.budget, **own)
        return _Data(self.victim, self.batch.select(rows), self.labels[rows], budget)


def _step(
    generator: Generator, adam: torch.optim.Optimizer, data: _Data, rows: Int[Tensor, "R"]
) -> None:
    """One step of the optimiser on some utterances."""
    part = data.select(rows.to(data.batch.device))
    victim, batch = CountedVictim(part.victim, part.batch), part.batch
    with torch.no_grad():
        clean = victim(batch.x, batch.lengths)
    check_logits(clean, batch)
    labels = checked_classes("labels", part.labels, clean.shape[1], batch)
    ball = ball_of(victim, batch, labels, part.budget)
    magnitude, score = generator(ball.x, ball.lengths, victim.mean, victim.scale)
    if not bool(torch.isfinite(score).all()):
        raise AttackError("the generator is no longer finite; lower learning_rate")
    delta = ball.bound * magnitude * straight_through(ball, score)
    delta = torch.minimum(torch.maximum(delta, ball.lower), ball.upper)
    factor = spread_factor(clean)[:, None]
    gained = margin(victim(ball.x + delta, ball.lengths) * factor, labels)
    loss = (_CONFIDENCE - gained).clamp(min=0.0).mean()
    if not bool(torch.isfinite(loss)):
        raise AttackError("the loss is not finite; check the features and the victim's weights")
    parameters = list(generator.parameters())
    for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = slope
    adam.step()


def ball_of(
    victim: CountedVictim, batch: FeatureBatch, labels: Int[Tensor, "B"], budget: Budget
) -> SparseBall:
    """The perturbations of a batch that a budget allows."""
    noise = UtteranceNoise(torch.zeros(len(batch), dtype=torch.long), batch.lengths)
    box = joint_range(None, victim.box, victim.scale)
    none = batch.x.new_zeros(len(batch), 2)
    ball = SparseBall(Problem(victim, batch, labels, None, budget, None, noise, none, box))
    ball.restrict(torch.arange(len(batch), device=batch.device))
    return ball


def straight_through(ball: SparseBall, score: Float[Tensor, "A T D"]) -> Float[Tensor, "A T D"]:
    """The mask of the `k` units of the largest scores, with the gradient of the scores."""
    mask = ball.support(score.detach()).to(score.dtype)
    return mask + (score - score.detach()) * ball.allowed


def _rows(size: int, batch_size: int, step: int, seed: int) -> Int[Tensor, "R"]:
    """The utterances of a step: a new random order in each pass over all of them.

    It depends on the number of the step only, so that a training can be continued.
    """
    first = step * batch_size
    return torch.cat(list(_orders(size, first, first + batch_size, seed)))


def _orders(size: int, first: int, last: int, seed: int) -> Iterator[Int[Tensor, "_"]]:
    for epoch in range(first // size, (last - 1) // size + 1):
        rng = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        start = epoch * size
        yield torch.randperm(size, generator=rng)[max(0, first - start) : last - start]


def _recipe(
    victim: Victim, waves: FeatureBatch, labels: Int[Tensor, "B"], budget: Budget
) -> dict[str, Any]:
    """What determines the weights, beside the settings; as plain data."""
    return {
        "victim": content_key(checksums(weights_of(victim))),
        "data": content_key([*checksums([waves.x]), waves.lengths.tolist(), labels.tolist()]),
        "budget": content_key(
            [
                value.tolist() if isinstance(value, Tensor) else value
                for value in dataclasses.astuple(budget)
            ]
        ),
    }


@dataclass(frozen=True)
class _State:
    """The weights and the moments of Adam, as one file that is whole or not there."""

    generator: Generator
    adam: torch.optim.Adam
    recipe: dict[str, Any]

    def _tensors(self) -> dict[str, Tensor]:
        """By name; the moments are made on the first call."""
        named = dict(self.generator.named_parameters())
        for parameter in named.values():
            moments = self.adam.state[parameter]
            if not moments:
                moments["step"] = torch.zeros((), dtype=torch.float32)
                moments["exp_avg"] = torch.zeros_like(parameter)
                moments["exp_avg_sq"] = torch.zeros_like(parameter)
        return {name: one.detach() for name, one in named.items()} | {
            f"{moment}:{name}": value
            for name, one in named.items()
            for moment, value in self.adam.state[one].items()
        }

    def save(self, path: Path, steps: int) -> None:
        """Write the state after a number of steps."""
        tensors = {name: one.contiguous() for name, one in self._tensors().items()}
        write_tensors(path, tensors, {"steps": str(steps), "recipe": json.dumps(self.recipe)})

    def load(self, path: Path) -> int:
        """Continue from a file; returns the number of steps that are done, 0 without a file."""
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            return 0
        try:
            with safe_open(path, "pt") as file:
                written = file.metadata()
                if json.loads(written["recipe"]) != self.recipe:
                    raise AttackError(
                        f"{path.parent} holds the training of a generator with another victim, "
                        "data, budget or settings; choose another folder, or delete this one"
                    )
                for name, tensor in self._tensors().items():
                    tensor.copy_(file.get_tensor(name))
                return int(written["steps"])
        except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as fault:
            raise AttackError(
                f"{path} cannot be read ({fault}); delete it, and train again"
            ) from fault
