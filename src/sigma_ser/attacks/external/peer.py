"""The interface to an attack of another (peer) library."""

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

# The image box is [0, 1] and the clean input lies at its centre.
HALF = 0.5


@dataclass(frozen=True)
class Peer(ABC):
    """An attack of another library, with the name and the settings of that library.

    Args:
        name: name of the attack in the library.
        settings: parameters of the attack.

    Raises:
        AttackError: if the library is not installed, or the attack has no such parameter.
        UnknownNameError: if the library has no attack of this name.
    """

    library: ClassVar[str]
    packages: ClassVar[str]  # arguments of `pip install --no-deps`
    # Parameters that the adapter fills in (model, inputs), which are not settings.
    ours: ClassVar[frozenset[str]] = frozenset()

    name: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        known = list(self.known())
        unknown = [setting for setting in self.settings if setting not in known]
        if unknown:
            raise AttackError(
                f"{self.library}:{self.name} has no setting {unknown[0]!r}; "
                f"it has {', '.join(known)}"
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
        """Run the attack.

        Args:
            model: maps images `(R, 1, T, D)` in [0, 1] to logits `(R, C)`.
            z: the initial images.
            labels: true class indices `(R,)`.
            target: target class indices `(R,)`; `None`: untargeted.
            elements: `k`, which determines the radius of an L1 or L2 ball.

        Returns:
            The adversarial images `(R, 1, T, D)`.
        """

    def member(self) -> Callable[..., Any]:
        """The class or function of the attack."""
        members = self.members()
        if self.name not in members:
            near = difflib.get_close_matches(self.name, members, n=3, cutoff=0.5)
            near += [name for name in members if self.name.lower() in name.lower()][:3]
            hint = f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else (
                f"known: {', '.join(sorted(members))}"
            )  # fmt: skip
            raise UnknownNameError(f"{self.library} has no attack {self.name!r}; {hint}")
        return members[self.name]

    def parameters(self) -> dict[str, inspect.Parameter]:
        """All parameters of the attack, including the model and the inputs."""
        parameters = dict(inspect.signature(self.member()).parameters)
        parameters.pop("self", None)
        return parameters

    def known(self) -> list[str]:
        """Names of the settings that a user may pass."""
        return [name for name in self.parameters() if name not in self.ours]

    def imported(self, module: str) -> Any:
        """A module of the library.

        Raises:
            AttackError: if it is not installed; the message names the command to install it.
        """
        try:
            # Some dependencies emit deprecation warnings on import.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module(module)
        except ModuleNotFoundError as fault:
            raise AttackError(
                f"{self.library}:{self.name} needs {fault.name}, which is not installed; install "
                f"it with: pip install --no-deps {self.packages}"
            ) from fault

    def radius(self, norm: float, elements: int) -> float:
        """Radius of the smallest `norm` ball that contains the `k`-sparse vertices of the box."""
        return HALF * (1.0 if norm == float("inf") else float(elements) ** (1.0 / norm))

    def scaled(
        self, radius: float, given: Mapping[str, Any], size: str, step: str
    ) -> dict[str, Any]:
        """`given` with the radius `size`, and the default `step` scaled in proportion."""
        parameters, filled = self.parameters(), dict(given)
        if size not in parameters or size in filled:
            return filled
        filled[size] = radius
        default = parameters[size].default
        if step in parameters and step not in filled and isinstance(default, float):
            filled[step] = parameters[step].default * radius / default
        return filled

    def refuse_target(self, target: Tensor | None) -> None:
        """Raise `AttackError` if a target is given, for attacks without a targeted form."""
        if target is not None:
            raise AttackError(
                f"{self.library}:{self.name} takes no target; call it without target="
            )

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"{self.library}:{self.name}({settings})"


def runner_up(logits: Float[Tensor, "R C"], labels: Int[Tensor, "R"]) -> Int[Tensor, "R"]:
    """The class with the largest other logit: the target of attacks without an untargeted form."""
    return logits.scatter(1, labels[:, None], -torch.inf).argmax(1)


def classes_of(module: Any, base: type) -> dict[str, Callable[..., Any]]:
    """The attacks of a module of another library: its concrete subclasses of `base`."""
    return {
        name: member
        for name, member in vars(module).items()
        if inspect.isclass(member) and issubclass(member, base) and not inspect.isabstract(member)
    }
