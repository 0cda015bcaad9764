"""The roles of visitors, and the actions that each role may do."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet


class Role(StrEnum):
    """What a visitor has shown to be."""

    ADMIN = "administrator"
    READER = "reader"
    METRICS = "metrics"
    """A program that collects figures."""
    PERSON = "person"
    """A person whose token the dispatcher accepts: sees the private recordings of the token's audience."""


class Action(StrEnum):
    """What a visitor wants to do at one of the proxy's own routes."""

    ALIVE = "check whether the server works"
    SIGN_IN = "sign in or out"
    READ_STATUS = "read the status"
    READ_METRICS = "read the figures"
    READ_RECORDINGS = "read recordings"
    READ_JOBS = "list the running jobs"
    STOP_OWN_JOB = "stop a job of one's own session"
    STOP_JOB = "stop any job"
    CHANGE = "change what is stored"


ANYONE: Final = frozenset({Action.ALIVE, Action.SIGN_IN, Action.STOP_OWN_JOB})
"""Actions that need no role."""

_READ: Final = frozenset({Action.READ_STATUS, Action.READ_RECORDINGS, Action.READ_JOBS})
ALLOWED: Final[Mapping[Role, AbstractSet[Action]]] = {
    Role.ADMIN: frozenset(Action),
    Role.READER: ANYONE | _READ,
    Role.METRICS: ANYONE | {Action.READ_METRICS},
    Role.PERSON: ANYONE,
}
"""The actions of each role."""


def is_allowed(roles: AbstractSet[Role], action: Action) -> bool:
    """Return whether a visitor with these roles may do an action."""
    return action in ANYONE or any(action in ALLOWED[role] for role in roles)
