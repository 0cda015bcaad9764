"""The visitor of one of the proxy's own routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from oda_proxy.access.ownership import NO_DESCRIPTIONS, Ownership
from oda_proxy.access.roles import Action, Role, is_allowed

if TYPE_CHECKING:
    from oda_proxy.store.base import Entry


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sent a request, as far as it shows.

    `audience` names the users whose private recordings the visitor may see, as `query.audience` does; None for nobody.
    """

    address: str = ""
    roles: frozenset[Role] = frozenset()
    audience: str | None = field(default=None, repr=False)
    ownership: Ownership = field(default=NO_DESCRIPTIONS, repr=False, compare=False)
    has_credentials: bool = False
    """Whether a valid token or session was sent."""
    has_session: bool = False
    """Whether that is a session, in a cookie, which a browser sends with each request."""

    def may(self, action: Action) -> bool:
        """Return whether the visitor may do an action."""
        return is_allowed(self.roles, action)

    def may_see(self, entry: Entry) -> bool:
        """Return whether the visitor may learn of a recording at all.

        Private recordings are for their own audience and for the administrator; to all others they do not exist. May
        take a millisecond for a private one: call it in a thread for more than a few.
        """
        if not entry.private:
            return self.may(Action.READ_RECORDINGS)
        if Role.ADMIN in self.roles:
            return True
        return self.audience is not None and self.ownership.belongs_to(entry, self.audience)
