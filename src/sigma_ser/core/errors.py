"""Typed errors; each message is one sentence that says what is wrong and what to do."""

from __future__ import annotations

from pathlib import Path


class SigmaError(Exception):
    """Base of all errors of this package; the message is one sentence for the user."""


class UnknownNameError(SigmaError):
    """A name that is not registered; the message lists near matches."""


class RegistryError(SigmaError):
    """A member that cannot be registered, or that an installed package offers and cannot import."""


class BudgetError(SigmaError, ValueError):
    """A budget that cannot be met, or an attack that would need more than it."""


class AuditError(SigmaError):
    """A perturbation that exceeds its budget; it never becomes a row of results."""


class ShapeError(SigmaError, ValueError):
    """Tensors whose shapes, lengths or types do not fit together."""


class AudioError(SigmaError):
    """An audio file that cannot be used; `reason` is a short code for the quarantine table."""

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class CorpusError(SigmaError):
    """A corpus folder, manifest or split protocol that cannot be used."""


class EncoderError(SigmaError):
    """An encoder that cannot be loaded or applied."""


class StoreError(SigmaError):
    """A feature store that is missing or damaged, or does not hold what was requested."""


class VictimError(SigmaError):
    """A victim that cannot be trained, loaded or called."""


class GradientError(VictimError):
    """A victim through which no gradient reaches the features."""


class ExplainerError(SigmaError):
    """An explainer that does not fit the victim, or returned no usable map."""


class AttackError(SigmaError):
    """An attack that cannot run with these arguments."""


class CertificateError(SigmaError):
    """A certificate that cannot be computed for this victim or with these arguments."""


class ConfigError(SigmaError):
    """A study file or an option that is wrong; the message names the key."""


class RunError(SigmaError):
    """A run folder that cannot be written, is in use, or is damaged."""


class BusyError(RunError):
    """A run folder in which another process is at work."""


class DamagedError(SigmaError):
    """A file that cannot be read, or has changed since it was written; `path` is the file."""

    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message, path)
        self.path = path

    def __str__(self) -> str:
        return str(self.args[0])


class DamagedStoreError(DamagedError, StoreError):
    """A damaged file of a feature store or a mask bank."""


class DamagedRunError(DamagedError, RunError):
    """A damaged file of a run folder."""
