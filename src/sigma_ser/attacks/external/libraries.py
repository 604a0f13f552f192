"""The supported libraries, and their attacks by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from sigma_ser.core.errors import UnknownNameError

from .adapter import ExternalAttack
from .from_adv_lib import AdvLibPeer
from .from_art import ArtPeer
from .from_foolbox import FoolboxPeer
from .from_torchattacks import TorchattacksPeer
from .peer import Peer

LIBRARIES: dict[str, type[Peer]] = {
    peer.library: peer for peer in (AdvLibPeer, ArtPeer, FoolboxPeer, TorchattacksPeer)
}


def external_attack(name: str, **settings: Any) -> ExternalAttack:
    """Create an attack of another library.

    Args:
        name: `library:attack`, such as `foolbox:L0FMNAttack`; the library is one of `LIBRARIES`.
        settings: fields of `ExternalAttack`, and parameters of the attack itself.

    Raises:
        UnknownNameError: if the library or the attack is unknown.
        AttackError: if the library is not installed, or a setting is unknown.
    """
    library, _, attack = name.partition(":")
    if library not in LIBRARIES:
        raise UnknownNameError(f"unknown attack library {library!r}; known: {', '.join(LIBRARIES)}")
    own = {field.name for field in dataclasses.fields(ExternalAttack)} - {"peer"}
    theirs = {key: value for key, value in settings.items() if key not in own}
    ours = {key: value for key, value in settings.items() if key in own}
    return ExternalAttack(peer=LIBRARIES[library](attack, theirs), **ours)
