"""Recordings as a visitor sees them: those that one may not see do not exist."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from oda_proxy.access.roles import Action
from oda_proxy.errors import OdaProxyError
from oda_proxy.query.cache_key import Key
from oda_proxy.store.search import MAX_PRIVATE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.access.visitor import Visitor
    from oda_proxy.store.base import Entry, Store
    from oda_proxy.store.selection import Filters

KEY_PATTERN: Final = "{key:[0-9a-f]{1,64}}"
"""A key, or its beginning, in the path of a route."""
KEY_LENGTH: Final = 64

_PAUSE_EVERY, _PAUSE = 10, 5e-5
"""Recordings after which a search pauses, and for how many s, so that hits do not wait for it."""


class RecordingNotFoundError(OdaProxyError):
    """There is no recording with a key, or several keys begin with a text, as far as the visitor may see them."""

    http_status = 404
    detail = "no-recording"

    def __init__(self, beginning: str, found: int) -> None:
        if len(beginning) == KEY_LENGTH:
            text = f"no recording has the key {beginning}: it may have been removed, or evicted to make room"
        elif found:
            text = f"{found} keys begin with {beginning!r}"
        else:
            text = f"no recording has a key that begins with {beginning!r}"
        super().__init__(f"{text}; /-/api/recordings lists them")


def visible_entry(store: Store, visitor: Visitor, beginning: str) -> Entry:
    """Return the metadata of the recording whose key begins with a text.

    Blocks. Raises RecordingNotFoundError, in the same words whether there is no such recording or a private one of
    somebody else.
    """
    keys = [Key(beginning)] if len(beginning) == KEY_LENGTH else store.keys_beginning(beginning)
    found = [entry for key in keys if (entry := store.entry(key)) and visitor.may_see(entry)]
    if len(found) != 1:
        raise RecordingNotFoundError(beginning, len(found))
    return found[0]


def visible_versions(store: Store, visitor: Visitor, beginning: str) -> list[Entry]:
    """Return the metadata of the versions of the recording whose key begins with a text, in order of time.

    The recording itself may have been removed. Blocks. Raises RecordingNotFoundError, as `visible_entry`.
    """
    keys = {Key(beginning)}
    if len(beginning) != KEY_LENGTH:
        keys = {*store.keys_beginning(beginning), *store.version_keys_beginning(beginning)}
    found = [[one for one in store.versions(key) if visitor.may_see(one)] for key in sorted(keys)]
    found = [versions for versions in found if versions]
    if len(found) != 1:
        raise RecordingNotFoundError(beginning, len(found))
    return found[0]


def visible_entries(store: Store, visitor: Visitor, filters: Filters) -> Iterator[Entry]:
    """Iterate over the recordings that filters select, the one used last first; blocks, with pauses for hits.

    For a person, `MAX_PRIVATE` private ones are examined: those that were used last.
    """
    examined = 0
    for number, entry in enumerate(store.entries_by_use(filters)):
        if number % _PAUSE_EVERY == 0:
            time.sleep(_PAUSE)
        if entry.private and not visitor.may(Action.CHANGE):
            examined += 1
            if examined > MAX_PRIVATE:
                continue
        if visitor.may_see(entry):
            yield entry
