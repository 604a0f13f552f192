"""What an attack of another library looks like from here."""

from __future__ import annotations

import difflib
import importlib
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sigma_ser.core.errors import AttackError, UnknownNameError

# The image box is [0, 1] and the clean input lies in its middle.
HALF = 0.5


@dataclass(frozen=True)
class Peer(ABC):
    """An attack of another library, by its own name and with its own settings.

    Calling it attacks `model`, images `(R, 1, T, D)` in [0, 1] to logits `(R, C)`, from `z`.

    Raises:
        AttackError: if the library is not installed, or the attack has no such setting.
        UnknownNameError: if the library has no such attack.
    """

    library: ClassVar[str]
    packages: ClassVar[str]  # what `pip install --no-deps` needs
    # Parameters that carry the question itself, not a setting of the attack.
    ours: ClassVar[frozenset[str]] = frozenset()

    name: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        known = list(self.known())
        unknown = [setting for setting in self.settings if setting not in known]
        if unknown:
            raise AttackError(
                f"{self.library}:{self.name} has no setting {unknown[0]!r}; "
                f"it knows {', '.join(known)}"
            )

    @abstractmethod
    def members(self) -> dict[str, Callable[..., Any]]:
        """All attacks of the library."""

    @abstractmethod
    def __call__(
        self,
        model: nn.Module,
        z: Float[Tensor, "R 1 T D"],
        labels: Int[Tensor, "R"],
        target: Int[Tensor, "R"] | None,
        elements: int,
    ) -> Float[Tensor, "R 1 T D"]:
        """Images after the attack.

        Args:
            model: logits of images.
            z: where it starts.
            labels: the true classes.
            target: the classes to reach; `None`: any other.
            elements: `k`, from which attacks in an L1 or L2 ball take its radius.
        """

    def member(self) -> Callable[..., Any]:
        """The attack itself."""
        members = self.members()
        if self.name not in members:
            near = difflib.get_close_matches(self.name, members, n=3, cutoff=0.5)
            near += [name for name in members if self.name.lower() in name.lower()][:3]
            told = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else (
                f"known: {', '.join(sorted(members))}"
            )  # fmt: skip
            raise UnknownNameError(f"{self.library} has no attack {self.name!r}; {told}")
        return members[self.name]

    def parameters(self) -> dict[str, inspect.Parameter]:
        """What the attack can be given, the model and the inputs among it."""
        told = dict(inspect.signature(self.member()).parameters)
        told.pop("self", None)
        return told

    def known(self) -> list[str]:
        """Settings that a user may give."""
        return [name for name in self.parameters() if name not in self.ours]

    def imported(self, module: str) -> Any:
        """A module of the library.

        Raises:
            AttackError: says how to install it.
        """
        try:
            # What they import warns of its own age.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module(module)
        except ModuleNotFoundError as fault:
            raise AttackError(
                f"{self.library}:{self.name} needs {fault.name}, which is not installed; install "
                f"it with: pip install --no-deps {self.packages}"
            ) from fault

    def radius(self, norm: float, elements: int) -> float:
        """Radius of the ball of an attack: that of the `k`-sparse corners of the box."""
        return HALF * (1.0 if norm == float("inf") else float(elements) ** (1.0 / norm))

    def scaled(
        self, radius: float, given: Mapping[str, Any], size: str, step: str
    ) -> dict[str, Any]:
        """`given` with the radius `size`, and a `step` that keeps its proportion to it."""
        parameters, filled = self.parameters(), dict(given)
        if size not in parameters or size in filled:
            return filled
        filled[size] = radius
        theirs = parameters[size].default
        if step in parameters and step not in filled and isinstance(theirs, float):
            filled[step] = parameters[step].default * radius / theirs
        return filled

    def refuse_target(self, target: Tensor | None) -> None:
        """Raise :class:`AttackError` where a target is given to an attack that takes none."""
        if target is not None:
            raise AttackError(f"{self.library}:{self.name} takes no target; leave target= out")

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{self.library}:{self.name}({told})"


def runner_up(logits: Float[Tensor, "R C"], labels: Int[Tensor, "R"]) -> Int[Tensor, "R"]:
    """The likeliest class but the true one: what an attack without an untargeted form is given."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def classes_of(module: Any, base: type) -> dict[str, Callable[..., Any]]:
    """The attacks that a module of another library offers: its concrete classes under `base`."""
    return {
        name: member
        for name, member in vars(module).items()
        if inspect.isclass(member) and issubclass(member, base) and not inspect.isabstract(member)
    }
