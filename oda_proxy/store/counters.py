"""The counters in the index: references to heads, recordings, bytes.

They are changed in the transactions that change rows, so that nothing has to be counted at the start.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from oda_proxy.query.cache_key import Key
from oda_proxy.store import rows
from oda_proxy.store.base import Usage
from oda_proxy.store.index_keys import (
    HEAD_PREFIX,
    USAGE,
    key_of_version,
    other_rows,
    recording_key,
    references_key,
    version_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oda_proxy.store.index import Index
    from oda_proxy.store.read_only_index import ReadOnlyIndex
    from oda_proxy.store.rows import HeadFile, Row

DAMAGE = (ValueError, KeyError, TypeError, FileNotFoundError)
"""Exceptions of reading a damaged recording."""

_NUMBERS = re.compile(r"(\d{1,18}) (\d{1,18})")


def usage(index: Index | ReadOnlyIndex) -> Usage:
    """Return the number of recordings and the bytes of their heads."""
    match = _NUMBERS.fullmatch(text(index, USAGE) or "")
    return Usage(int(match[1]), int(match[2])) if match else Usage(0, 0)


def delete_row(index: Index, row_key: str) -> str | None:
    """Delete a row, within a transaction; return the name of its head if no other row refers to it."""
    if row_key not in index:
        return None
    found = row(index, row_key)
    index.delete(row_key)
    if found is None:  # its head is unknown: the next recount finds it
        before = usage(index)
        _set_usage(index, before.recordings - 1, before.occupied)
        return None
    return None if count_references(index, found.head, -1) else found.head.name


def count_references(index: Index, head: HeadFile, change: int) -> int:
    """Change the number of references to a head, within a transaction, and return it."""
    before = int(text(index, references_key(head.name)) or "0")
    after = max(before + change, 0)
    if after:
        index.set(references_key(head.name), str(after))
    else:
        index.delete(references_key(head.name))
    total = usage(index)
    change_in_heads = bool(after) - bool(before)
    _set_usage(index, total.recordings + change, total.occupied + change_in_heads * head.stored_size)
    return after


def restore(index: Index) -> None:
    """Correct all counters, and remove metadata of no recording, within a transaction."""
    expected, counted = _counters(index)
    for key in counted.keys() - expected.keys():
        index.delete(key)
    for key, number in expected.items():
        if counted.get(key) != number:
            index.set(key, number)
    for key in _stray_metadata(index):
        index.delete(key)


def differences(index: Index | ReadOnlyIndex) -> list[tuple[str, str]]:
    """Return the keys of wrong counters and of metadata without a recording, each with what is wrong."""
    expected, counted = _counters(index)
    if not expected.keys() - {USAGE} and counted.keys() <= {USAGE}:
        counted.setdefault(USAGE, "0 0")  # nothing was ever stored
    wrong = [("index", "its counters do not agree with its rows")] if expected != counted else []
    return [*wrong, *((key, "it belongs to no recording") for key in _stray_metadata(index))]


def _counters(index: Index | ReadOnlyIndex) -> tuple[dict[str, str], dict[str, str | None]]:
    """Return the counters as the rows require them, and as they are.

    Rows of other releases are counted with the rest. Where one does not show what its head is, no counter is reduced.
    """
    keys = [key for key in index if key]
    found = [one.head for key in keys if recording_key(key) and (one := row(index, key))]
    others = [other.head for _, other in chain(other_rows(index), _versions(index))]
    heads = [*((head.name, head.stored_size) for head in found), *filter(None, others)]
    references = Counter(name for name, _ in heads)
    expected = {references_key(name): str(number) for name, number in references.items()}
    expected[USAGE] = f"{len(found) + len(others)} {sum(dict(heads).values())}"
    counted = {key: text(index, key) for key in keys if key == USAGE or key.startswith(HEAD_PREFIX)}
    if None in others:
        expected = {key: _larger(number, counted.get(key)) for key, number in expected.items()}
        expected |= {key: number for key, number in counted.items() if key not in expected and number}
    return expected, counted


def _versions(index: Index | ReadOnlyIndex) -> Iterator[tuple[str, rows.OtherRow]]:
    """Iterate over the keys and rows of earlier versions, in the form of those of other releases."""
    for row_key, _, value in version_rows(index):
        if (row := rows.loads_other(value)) is not None:
            yield row_key, row


def _stray_metadata(index: Index | ReadOnlyIndex) -> list[str]:
    """Return the keys of times of use and of pins that belong to no recording."""
    present = {key for row_key in index if (key := recording_key(row_key)) and row(index, row_key)}
    present |= {Key(row_key.rpartition(":")[2]) for row_key, _ in other_rows(index)}
    return [key for key in index if key.startswith(("used:", "pin:")) and key.partition(":")[2] not in present]


def row(index: Index | ReadOnlyIndex, row_key: str) -> Row | None:
    """Return the row of a recording or an earlier version; None where it is damaged, or there is none."""
    key, version_of = recording_key(row_key), key_of_version(row_key)
    try:
        if version_of:
            return rows.loads_version(version_of, index.get(row_key) or "")
        return rows.loads(key, index.get(row_key) or "") if key else None
    except DAMAGE:
        return None


def text(index: Index | ReadOnlyIndex, key: str) -> str | None:
    """Return a text, or None where there is none, or it is pickled."""
    try:
        value = index.get(key)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _larger(number: str, counted: str | None) -> str:
    """Return the larger of two counters; both are one or two decimal numbers."""
    if counted is None or not all(word.isdecimal() for word in counted.split()):
        return number
    pairs = zip(number.split(), counted.split(), strict=False)
    return " ".join(str(max(int(one), int(other))) for one, other in pairs)


def _set_usage(index: Index, recordings: int, occupied: int) -> None:
    index.set(USAGE, f"{max(recordings, 0)} {max(occupied, 0)}")
