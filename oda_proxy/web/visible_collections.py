"""Collections as a visitor sees them: those of others do not exist, except for the administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.access.roles import Role
from oda_proxy.errors import BadQueryError
from oda_proxy.store.collections import NoCollectionError, owner_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oda_proxy.access.visitor import Visitor
    from oda_proxy.query.cache_key import Key
    from oda_proxy.store.collections import Collection, Collections


def visible_collections(index: Collections, visitor: Visitor) -> Sequence[Collection]:
    """Return the collections that a visitor may see, by name. Blocks."""
    found, owners = index.list(), {"", owner_of(visitor.audience)}
    return found if Role.ADMIN in visitor.roles else [one for one in found if one.owner in owners]


def visible_collection(index: Collections, visitor: Visitor, name: str, beginning: str = "") -> Collection:
    """Return the collection of a name: the visitor's own, or else one without an owner. Blocks.

    An administrator names the owner, or its `beginning`, where there are several. Raises NoCollectionError, and
    BadQueryError for several.
    """
    visible = visible_collections(index, visitor)
    found = [one for one in visible if one.name == name and one.owner.startswith(beginning)]
    own = owner_of(visitor.audience)
    chosen = [one for one in found if one.owner == own] or found
    if not chosen:
        raise NoCollectionError(f"there is no collection {name}; /-/api/collections lists them")
    if len(chosen) > 1:
        owners = ", ".join(one.owner[:12] or "nobody" for one in chosen)
        raise BadQueryError(f"several owners have a collection {name}: name one with ?owner= ({owners})")
    return chosen[0]


def visible_names(index: Collections, visitor: Visitor, key: Key) -> Sequence[str]:
    """Return the names of the collections with a recording that a visitor may see. Blocks."""
    names = set(index.names_with([key]))
    visible = [one for one in visible_collections(index, visitor) if one.name in names] if names else ()
    return sorted({one.name for one in visible if any(member.key == key for member in index.members(one))})
