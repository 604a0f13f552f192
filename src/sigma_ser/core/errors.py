"""Every error raised on purpose: one sentence that says what is wrong and what to do."""

from __future__ import annotations


class SigmaError(Exception):
    """Base of all errors raised on purpose; its text is one sentence fit for a user."""


class UnknownNameError(SigmaError):
    """A name that no registry knows; the text lists near matches."""


class RegistryError(SigmaError):
    """A member that cannot be registered, or that an installed package offers and cannot import."""


class BudgetError(SigmaError, ValueError):
    """A budget that cannot be met, or an attack that would need more than it."""


class AuditError(SigmaError):
    """A perturbation that breaks its budget: never a row in a table."""


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
    """A feature store that is missing, damaged or asked for something it does not hold."""


class VictimError(SigmaError):
    """A victim that cannot be trained, loaded or called."""


class ExplainerError(SigmaError):
    """An explainer that is wrong for this victim, or gave no usable map."""


class AttackError(SigmaError):
    """An attack that cannot run as asked."""


class ConfigError(SigmaError):
    """A study file or an option that is wrong; the text names the key."""


class RunError(SigmaError):
    """A run folder that cannot be written, is in use, or is damaged."""
