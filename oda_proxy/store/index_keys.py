"""The keys of the index, and the rows of other releases among them.

    <key>               the row of a recording
    format-<n>:<key>    a row of format <n>, where <key> has a row of another format
    format-history-<n>:<key>:<time>    an earlier version of a recording, which was the answer since that time
    used:<key>          when it was last used, in s since 1970 (UTC)
    pin:<key>           whether it is exempt from eviction
    head:<name>         the number of rows that refer to a head
    filling             the number of recordings, and the bytes of their heads

A row of another format belongs to another release, which may run on the same folder or again tomorrow. It is never
read, replaced or removed here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from oda_proxy.query.cache_key import Key
from oda_proxy.recordings.recording import FORMAT
from oda_proxy.store import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.store.index import Index
    from oda_proxy.store.read_only_index import ReadOnlyIndex

USAGE = "filling"
HEAD_PREFIX = "head:"

TIME = re.compile(r"\d{1,18}(\.\d{1,18})?")
"""A time of use, in s since 1970 (UTC)."""

_KEY = re.compile("[0-9a-f]{64}")
_ASIDE_PREFIX = f"format-{FORMAT}:"
VERSION_PREFIX = f"format-{rows.VERSION_FORMAT}:"
"""How the key of an earlier version begins."""
_VERSION_KEY = re.compile(rf"{VERSION_PREFIX}([0-9a-f]{{64}}):(\d{{11}}\.\d{{6}})")

_OTHERS = "SELECT key, value FROM Cache WHERE raw = 1 AND typeof(value) = 'text' AND ({} OR {})"
_OTHER_ROWS = _OTHERS.format(
    f"length(key) = 64 AND substr(value, 1, {len(rows.OWN_PREFIX)}) <> ?",
    f"key LIKE 'format-%' AND key NOT LIKE ? AND key NOT LIKE '{VERSION_PREFIX}%'",
)

_BETWEEN = "SELECT key FROM Cache WHERE raw = 1 AND typeof(key) = 'text' AND key >= ? AND key < ?"
_VERSIONS_BETWEEN = (
    "SELECT key, value FROM Cache WHERE raw = 1 AND typeof(key) = 'text' AND typeof(value) = 'text' "
    "AND key >= ? AND key < ? ORDER BY key"
)
_KEYS_WITH_VERSIONS = (
    "SELECT substr(key, ?, 64) AS own, count(*) FROM Cache WHERE raw = 1 AND key >= ? AND key < ? GROUP BY own "
    "HAVING count(*) > ?"
)
_LAST = "\U0010ffff"
"""A character that sorts after those of keys."""


def used_key(key: Key) -> str:
    """Return the key of the time of use of a recording."""
    return f"used:{key}"


def pin_key(key: Key) -> str:
    """Return the key of the pin of a recording."""
    return f"pin:{key}"


def references_key(head_name: str) -> str:
    """Return the key of the number of references to a head."""
    return f"{HEAD_PREFIX}{head_name}"


def recording_key(row_key: str) -> Key | None:
    """Return the key of the recording whose row has this key; None for other keys, and rows of other formats."""
    key = row_key.removeprefix(_ASIDE_PREFIX)
    return Key(key) if _KEY.fullmatch(key) else None


def version_key(key: Key, valid_from: float) -> str:
    """Return the key of an earlier version, which was the answer since a time in s since 1970 (UTC)."""
    return f"{VERSION_PREFIX}{key}:{valid_from:018.6f}"


def key_of_version(row_key: str) -> Key | None:
    """Return the key of the recording of which a row is an earlier version; None for other rows."""
    found = _VERSION_KEY.fullmatch(row_key)
    return Key(found[1]) if found else None


def version_rows(index: Index | ReadOnlyIndex, text: str = "") -> Iterator[tuple[str, Key, str]]:
    """Iterate over the keys of earlier versions, those of their recordings, which begin with a text, and the rows.

    They are in order of their keys, and of time. Those that are no text are left out.
    """
    prefix = f"{VERSION_PREFIX}{text}"
    for row_key, value in index.select(_VERSIONS_BETWEEN, prefix, f"{prefix}{_LAST}"):
        if (key := key_of_version(row_key)) is not None:
            yield row_key, key, value


def keys_with_versions(index: Index | ReadOnlyIndex, *, more_than: int) -> list[Key]:
    """Return the keys of recordings that have more earlier versions than a number."""
    begin, end = VERSION_PREFIX, f"{VERSION_PREFIX}{_LAST}"
    found = index.select(_KEYS_WITH_VERSIONS, len(VERSION_PREFIX) + 1, begin, end, more_than)
    return [Key(own) for own, _ in found if isinstance(own, str) and _KEY.fullmatch(own)]


def count_versions(index: Index | ReadOnlyIndex) -> int:
    """Return the number of earlier versions, whatever release has written to the index."""
    query = "SELECT count(*) FROM Cache WHERE raw = 1 AND key >= ? AND key < ?"
    ((number,),) = index.select(query, VERSION_PREFIX, f"{VERSION_PREFIX}{_LAST}")
    return int(number)


def aside_prefix() -> str:
    """Return how the key of a row of this format begins where the key of the recording has one of another format."""
    return _ASIDE_PREFIX


def find_row(index: Index | ReadOnlyIndex, key: Key) -> tuple[str, str | None]:
    """Return the key that the row of a recording has or is to have, and its text, or None where there is none.

    Raises ValueError where the row is pickled.
    """
    text = index.get(key)
    if isinstance(text, str) and rows.loads_other(text) is None:
        return key, text
    aside = f"{_ASIDE_PREFIX}{key}"
    other = index.get(aside)
    return (key, None) if text is None and other is None else (aside, other)


def find_row_unchecked(index: Index | ReadOnlyIndex, key: Key) -> tuple[str, str | None]:
    """Return the key of a row, and its text, or an empty one where it is pickled, or None where there is none."""
    try:
        return find_row(index, key)
    except ValueError:
        return key, ""


def recording_keys(index: Index | ReadOnlyIndex) -> Iterator[Key]:
    """Iterate over the keys of recordings, those of other releases included; each is returned once."""
    for row_key in index:
        if (key := recording_key(row_key)) is not None and (row_key == key or key not in index):
            yield key


def keys_beginning(index: Index | ReadOnlyIndex, text: str) -> list[Key]:
    """Return the keys of recordings that begin with a text, those of other releases included, in order."""
    found: set[Key] = set()
    for prefix in (text, f"{_ASIDE_PREFIX}{text}"):
        rows_found = index.select(_BETWEEN, prefix, f"{prefix}{_LAST}")
        found.update(key for (row_key,) in rows_found if (key := recording_key(row_key)) is not None)
    return sorted(key for key in found if key.startswith(text))


def other_rows(index: Index | ReadOnlyIndex) -> Iterator[tuple[str, rows.OtherRow]]:
    """Iterate over the keys and rows of other formats."""
    for row_key, text in index.select(_OTHER_ROWS, rows.OWN_PREFIX, f"{_ASIDE_PREFIX}%"):
        if (row := rows.loads_other(text)) is not None:
            yield row_key, row
