"""The fields of a recording in Redis: its row, a check of both its key and row, and what the index sorts it by."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from oda_proxy.query.cache_key import Key
from oda_proxy.query.subject import subject_of
from oda_proxy.store import eviction, rows
from oda_proxy.store.objects.bodies import is_name
from oda_proxy.store.search import searchable_text, unit_vector

if TYPE_CHECKING:
    from oda_proxy.recordings.recording import Recording
    from oda_proxy.store.base import Entry
    from oda_proxy.store.rows import HeadFile, Row

MAX_ROW: Final = 64 * 1024 * 1024
"""Bytes of a row above which it is damaged."""

_MAX_SIZE: Final = 2**53
_MICROSECONDS: Final = 1_000_000
_KEY: Final = re.compile(r"[0-9a-f]{64}")
_VERSION: Final = re.compile(r"([0-9a-f]{64}):(\d{11}\.\d{6})")
_MAX_TIME: Final = 1e11
"""Seconds since 1970 below which a time has a place in the order of versions."""
_TIME: Final = re.compile(r"\d{1,18}(\.\d{1,18})?")

DAMAGE: Final = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a damaged row raises."""

Fields = Mapping[str, str | bytes]

ProductId = tuple[str | None, str | None, bool]
"""Instrument, product, and whether its recordings are private."""


def fields(recording: Recording, head: HeadFile, first_stored_at: float | None = None) -> dict[str, str | bytes]:
    """Return the fields of a recording with this compressed head; `first_stored_at` is as in `Entry`."""
    row = rows.dumps(recording, head, first_stored_at).encode()
    query = recording.query
    subject, text = subject_of(query), searchable_text(query)
    x, y, z = ("", "", "") if subject.position is None else map(repr, unit_vector(*subject.position))
    cost = recording.cost if math.isfinite(recording.cost) else 0.0
    product = (query.instrument, query.product_type) if query else (None, None)
    return {
        "row": row,
        "check": check_of(recording.key, row),
        "head": head.name,
        "stored_size": str(head.stored_size),
        "size": str(head.size),
        "stored_at": repr(recording.stored_at if math.isfinite(recording.stored_at) else 0.0),
        "bonus": repr(eviction.cost_bonus(cost)),
        "microseconds": str(round(min(max(cost, 0.0), _MAX_SIZE / _MICROSECONDS) * _MICROSECONDS)),
        "private": str(int(recording.private)),
        "totals": product_id(*product, private=recording.private),
        "text": text,
        "text_id": hashlib.sha256(text.encode()).hexdigest()[:32],
        "x": x,
        "y": y,
        "z": z,
        "begin": "" if subject.begin is None else repr(subject.begin),
        "end": "" if subject.end is None else repr(subject.end),
    }


def check_of(key: Key, row: bytes) -> str:
    """Return what shows that a row is complete, and that of this key."""
    return hashlib.sha256(key.encode() + b"\n" + row).hexdigest()


def read_row(key: Key, row: bytes | None, check: bytes | None) -> Row:
    """Parse a row; raises one of DAMAGE where it is damaged, or that of another key."""
    return _checked(rows.loads(key, _read_text(key, row, check)))


def read_version_row(key: Key, time: str, row: bytes | None, check: bytes | None) -> Row:
    """Parse the row of the earlier version with the name `time`, as `read_row`."""
    found = _checked(rows.loads_version(key, _read_text(key, row, check)))
    if not (has_place(found.valid_from) and found.valid_until is not None and math.isfinite(found.valid_until)):
        raise ValueError("its times are no numbers")
    if version_time(found.valid_from) != time:
        raise ValueError("its row is that of another version")
    return found


def _read_text(key: Key, row: bytes | None, check: bytes | None) -> str:
    if not isinstance(row, bytes) or not isinstance(check, bytes) or len(row) > MAX_ROW:
        raise ValueError("its row is incomplete or too large")
    if check != check_of(key, row).encode():
        raise ValueError("its row was changed, or is that of another key")
    return row.decode("utf-8")


def _checked(found: Row) -> Row:
    """Return a row whose numbers are valid; raises ValueError for another one."""
    if not (0 <= found.head.size <= _MAX_SIZE and 0 <= found.head.stored_size <= _MAX_SIZE):
        raise ValueError("its head has no valid size")
    if not (math.isfinite(found.stored_at) and math.isfinite(found.cost)):
        raise ValueError("its times are no numbers")
    return found


def read_entry(key: Key, values: object, *, used_at: float) -> Entry | None:
    """Return the metadata in the fields `row`, `check`, `used_at` and `pinned`; None where they are damaged.

    `used_at` is a later time of use, in s since 1970 (UTC), that is not written yet; 0 for none.
    """
    if not isinstance(values, list):
        return None
    row, check, used, pinned = values
    try:
        found = read_row(key, row, check)
    except DAMAGE:
        return None
    match = _TIME.fullmatch(used.decode("utf-8", "replace")) if isinstance(used, bytes) else None
    return found.entry(used_at=max(found.stored_at, float(match[0]) if match else 0.0, used_at), pinned=pinned == b"1")


ENTRY_FIELDS: Final = ("row", "check", "used_at", "pinned")
"""The fields that `read_entry` reads."""


def version_fields(key: Key, row: str | bytes, *, valid_from: float, valid_until: float) -> dict[str, str | bytes]:
    """Return the fields of what the recording with a row becomes when it is replaced, which is not damaged."""
    text = row.decode() if isinstance(row, bytes) else row
    row = rows.dumps_version(text, valid_from=valid_from, valid_until=valid_until).encode()
    head = rows.loads_version(key, row.decode()).head
    return {
        "time": version_time(valid_from),
        "row": row,
        "check": check_of(key, row),
        "head": head.name,
        "stored_size": str(head.stored_size),
        "valid_until": repr(valid_until),
    }


def has_place(time: float) -> bool:
    """Return whether a time, in s since 1970 (UTC), has a place in the order of versions."""
    return 0 <= time < _MAX_TIME


def version_time(valid_from: float) -> str:
    """Return the name of the version of a recording that was the answer since a time."""
    return f"{valid_from:018.6f}"


def read_version_entry(key: Key, time: str, values: list[bytes | None] | None, *, pinned: bool) -> Entry | None:
    """Return the metadata in the fields `row` and `check` of an earlier version; None where they are damaged."""
    if values is None:
        return None
    try:
        row = read_version_row(key, time, *values)
    except DAMAGE:
        return None
    return row.entry(used_at=row.stored_at, pinned=pinned)


def read_version_place(member: object) -> tuple[Key, str] | None:
    """Return the key and the time in the name of a version, KEY:TIME; None for anything else."""
    text = member.decode("utf-8", "replace") if isinstance(member, bytes) else ""
    found = _VERSION.fullmatch(text)
    return (Key(found[1]), found[2]) if found else None


def product_id(instrument: str | None, product: str | None, *, private: bool) -> str:
    """Return the name of the totals of a product."""
    return json.dumps([instrument, product, int(private)], separators=(",", ":"))


def read_product_id(text: str) -> ProductId | None:
    """Return the product whose totals have a name; None where it is damaged."""
    try:
        instrument, product, private = json.loads(text)
    except DAMAGE:
        return None
    is_valid = all(one is None or isinstance(one, str) for one in (instrument, product)) and private in {0, 1}
    return (instrument, product, bool(private)) if is_valid else None


def read_key(member: object) -> Key | None:
    """Return the key of a recording; None for anything else."""
    text = member.decode("utf-8", "replace") if isinstance(member, bytes) else ""
    return Key(text) if _KEY.fullmatch(text) else None


def body_name(name: bytes | None, digest: str) -> str:
    """Return the name of a head with a digest; raises ValueError where it is that of another one, or none."""
    text = (name or b"").decode("utf-8", "replace")
    if not is_name(text) or not text.startswith(digest):
        raise ValueError("its head has no valid name")
    return text
